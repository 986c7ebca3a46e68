"""A training run that kills itself, as a power cut would, right after step K.

python -m tests.training.killed_run CHECKPOINT K THREADS
"""

import os
import signal
import sys
from pathlib import Path

import torch

from asrpeft.training import Choice, Step, TrainingData, train
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


def run(checkpoint: Path, *, method: str = "lora", kill_after: int | None = None, resume: bool = False, data=None, nonspeech=None, **changes):
    """The run, whole or up to a step; returns the adapter's weights and what the loop did."""
    recognizer = tiny_recognizer()
    torch.manual_seed(3)
    adapter = recognizer.adapt(method, name="x", lang="en", **({"dropout": 0.2} if method == "lora" else {}))
    settings = options(**(dict(steps=9, dropout=0.1, augment="standard", dev_every=2, checkpoint_s=0.0, lr=0.01) | changes))

    def watch(event):
        if isinstance(event, Step) and event.step == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    done = train(
        recognizer,
        "x",
        TrainingData(tones() if data is None else data, recognizer.prompt(lang="en"), nonspeech),
        options=settings,
        choice=Choice(tones(3)),
        checkpoint=checkpoint,
        resume=resume,
        progress=watch,
    )
    return {n: t.detach().clone() for n, t in adapter.state_dict().items()}, done


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))  # sums in another order are other sums
    run(Path(sys.argv[1]), kill_after=int(sys.argv[2]))
