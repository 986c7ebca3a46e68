"""Whether `torch.compile` pays in training: a step of LoRA with the encoder's layers as they are, and compiled, in turns.

    python scripts/bench/compiled.py [--shape mini|tiny|base] [--device auto] [--frames 150,250,350] [--seconds 60] [--repeats 5] [--json]

Each layer of the encoder is compiled for shapes that change (`dynamic=True`), as batches of speech do; a step has so many rows of a length that
together they are --seconds of audio. Milliseconds of the processor on a CPU (one thread), of the clock elsewhere: medians, after a step of
each that does not count; compiling, which every process pays again where nothing is cached, is told beside. On a CPU it takes a C++ compiler.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.recognizer import Recognizer, load  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from scripts.bench.step import step_of  # noqa: E402
from scripts.bench.training import SHAPES, shaped  # noqa: E402


def taken(step: Callable[[], None], recognizer: Recognizer) -> float:
    """Milliseconds."""
    if recognizer.device.type == "cpu":
        began = time.thread_time()
        step()
        return 1e3 * (time.thread_time() - began)
    torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began)


def measured(model: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    sides = {name: load(model, device=asked.device, threads=1) for name in ("eager", "compiled")}
    for recognizer in sides.values():
        torch.manual_seed(0)
        recognizer.adapt("lora", name="x", where="q_proj,v_proj", lang="sw", rank=32)
    for layer in sides["compiled"].base.model.encoder.layers:
        layer.compile(dynamic=True)
    found = []
    for frames in map(int, asked.frames.split(",")):
        rows = max(1, round(50 * asked.seconds / frames))
        steps = {name: step_of(recognizer, "x", rows=rows, frames=frames) for name, recognizer in sides.items()}
        began = time.perf_counter()
        steps["compiled"]()
        first_s = time.perf_counter() - began
        steps["eager"]()
        turns = [{name: taken(step, sides[name]) for name, step in steps.items()} for _ in range(asked.repeats)]
        ms = {name: statistics.median(turn[name] for turn in turns) for name in sides}
        found.append({"frames": frames, "ms": ms, "first_s": first_s, "ratio": statistics.median(turn["eager"] / turn["compiled"] for turn in turns)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("mini", *SHAPES), default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", default="150,250,350")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(str(shaped(asked.shape, Path(folder))), asked)
    if asked.json:
        print(json.dumps({"found": found, **vars(asked)}))
        return
    columns = ("frames", "eager, ms", "compiled, ms", "eager : compiled", "first step, s")
    rows = [(one["frames"], f"{one['ms']['eager']:.0f}", f"{one['ms']['compiled']:.0f}", f"{one['ratio']:.2f}", f"{one['first_s']:.0f}") for one in found]
    print(Table.of(f"{asked.shape}, {asked.seconds:g} s of audio a step", columns, rows))


if __name__ == "__main__":
    main()
