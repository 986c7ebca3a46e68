"""A fine-tuning that is interrupted from outside, on the command line's terms.

python -m tests.training.interrupted_run OUT THREADS
"""

import sys
import time
from pathlib import Path

import torch

from asrpeft.cli import main
from asrpeft.jobs.finetune import finetune
from asrpeft.options import Data, OutputOptions
from asrpeft.training import Step
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


def run(out: Path, *, pause_s: float = 0.0, workers: int = 0, resume: bool = False, progress=lambda event: None, **changes):
    """The run; returns the adapter's weights and what the job did. It is evaluated on development data every fifth step."""
    recognizer = tiny_recognizer()

    def watch(event):
        if isinstance(event, Step):
            print(f"step {event.step}", flush=True)
            time.sleep(pause_s)
        progress(event)

    settings = options(**(dict(steps=20, augment="standard", dev_every=5, lr=0.01, workers=workers) | changes))
    done = finetune(recognizer, Data(tones(), dev=tones(3)), lang="en", out=OutputOptions(out, resume=resume), training=settings, progress=watch)
    return {n: t.detach().clone() for n, t in recognizer.adapters[done.name].state_dict().items()}, done


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))  # sums in another order are other sums

    def app(**_):
        run(Path(sys.argv[1]), pause_s=0.1, workers=1)

    main.app = app
    main.run(["finetune"])
