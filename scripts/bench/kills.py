"""A run that is killed again and again, and arrives where one that was left alone arrives: kill -9, resume, bit for bit.

    python scripts/bench/kills.py [--kills 20] [--seed 0] [--model FOLDER] [--data D] [--steps 24] [--method lora] [--json]

Each attempt is a process of its own. It is killed after a seeded number of its steps and evaluations and a seeded fraction of a step's
time later: amid a step, an evaluation, the writing of a checkpoint, the saving of the adapter, or before the first step. Then the
checkpoint must be whole, the adapter's folder whole or absent, and the run goes on with `resume`. Where a run comes to its end before
its kill, the next one begins, until as many kills as were asked for are done. At the end every run's tensors are held against those
of the run that was left alone, byte by byte. Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from asrpeft.adapters.adapter import TENSORS, read  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from asrpeft.training import DevScore, Progress, Step, checkpoints  # noqa: E402

Run = Callable[[Path, bool, Progress], None]  # (the adapter's folder, whether to resume, whom to tell)


@dataclass
class Outcome:
    """What the kills did. `moments`: kills by what the killed run had told last; `wrong`: what should not be, in sentences."""

    kills: int = 0
    runs: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    steps_lost: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        lost = self.steps_lost or [0]
        return {
            "kills": self.kills,
            "runs": self.runs,
            "moments": dict(self.moments),
            "steps_lost_mean": sum(lost) / len(lost),
            "steps_lost_most": max(lost),
            "wrong": self.wrong,
            "seconds": round(self.seconds, 1),
        }


def attempt(run: Run, out: Path, *, resume: bool, kill: tuple[int, float] | None) -> tuple[bool, bytes]:
    """Run in a process of its own; (whether it was killed, what it told: a letter for each step and evaluation).

    Args: kill: after so many letters and so many seconds; None lets it come to its end.
    Raises: RuntimeError where it ends in another way than those two.
    """
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(heard)
            run(out, resume, lambda event: _tell(told, event))
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    letters = b""
    with os.fdopen(heard, "rb", buffering=0) as pipe:
        while kill is None or len(letters) < kill[0]:
            one = pipe.read(1)
            if not one:
                break
            letters += one
        if kill is not None and len(letters) >= kill[0]:
            time.sleep(kill[1])
            os.kill(child, signal.SIGKILL)
            letters += pipe.read(1 << 16) or b""
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run ended with status {status} after {letters.decode()!r}")
    return status != 0, letters


def _tell(pipe: int, event: object) -> None:
    if isinstance(event, Step | DevScore):
        os.write(pipe, b"s" if isinstance(event, Step) else b"e")


def kill_again_and_again(run: Run, folder: Path, *, kills: int, seed: int) -> Outcome:
    """Do what this file is for, in a folder of its own."""
    rng, outcome, began = random.Random(seed), Outcome(), time.monotonic()
    started = time.monotonic()
    _, whole = attempt(run, folder / "whole", resume=False, kill=None)
    seconds, expected = time.monotonic() - started, (folder / "whole" / TENSORS).read_bytes()
    at_a_time, each_s = max(1, round(2 * len(whole) / max(1, kills))), seconds / max(1, len(whole))
    while outcome.kills < kills:
        outcome.runs += 1
        out, killed = folder / f"run{outcome.runs}", True
        while killed and outcome.kills < kills:
            before = _steps(out, outcome)
            killed, letters = attempt(run, out, resume=True, kill=(rng.randint(0, at_a_time), rng.random() * 2 * each_s))
            if killed:
                outcome.kills += 1
                outcome.moments[{"": "before its first step", "s": "after a step", "e": "after an evaluation"}[letters[-1:].decode()]] += 1
                outcome.steps_lost.append(max(0, before + letters.count(b"s") - _steps(out, outcome)))
        if killed:
            attempt(run, out, resume=True, kill=None)
        if (out / TENSORS).read_bytes() != expected:
            outcome.wrong.append(f"{out.name}: other tensors than those of the run that was left alone")
        if left := sorted(path.name for path in folder.iterdir() if path.name.startswith(f"{out.name}.")):
            outcome.wrong.append(f"{out.name}: left behind {', '.join(left)}")
    outcome.seconds = time.monotonic() - began
    return outcome


def _steps(out: Path, outcome: Outcome) -> int:
    """The steps in the checkpoint that is there; notes what is half written."""
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    try:
        if out.exists():
            read(out)
        return checkpoints.read(checkpoint).state.step if checkpoint.exists() else 0
    except Exception as error:  # whatever it is, it is what should not be
        outcome.wrong.append(f"{out.name}: {error}")
        return 0


def command(asked: argparse.Namespace) -> Run:
    """A fine-tuning as the command line does it, with everything loaded in the process that runs it."""

    def run(out: Path, resume: bool, progress: Progress) -> None:
        from asrpeft import OutputOptions, TrainingOptions, load
        from asrpeft.corpus.read import read as read_corpus
        from asrpeft.jobs.finetune import finetune

        options = TrainingOptions(steps=asked.steps, dev_every=5, checkpoint_s=0.0, workers=0, average=asked.average, seed=asked.seed)
        finetune(load(asked.model), read_corpus(asked.data), method=asked.method, training=options, out=OutputOptions(out, resume=resume), progress=progress)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=None, help="a checkpoint; the embedded one if omitted")
    parser.add_argument("--data", default=str(ROOT / "data" / "demo" / "sw-train.parquet"))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--average", default="none", help="of the weights, as `asrpeft finetune --average` takes it")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # sums in another order are other sums; and a process that has threads cannot be forked safely
    with tempfile.TemporaryDirectory() as folder:
        found = kill_again_and_again(command(asked), Path(folder), kills=asked.kills, seed=asked.seed)
    told = found.to_json()
    if asked.json:
        print(json.dumps(told, indent=1))
    else:
        print(Table.of("", ("what", ""), list(told.items()), left=2))
    raise SystemExit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
