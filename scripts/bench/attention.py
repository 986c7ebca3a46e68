"""Which kernel computes attention's backward pass fastest on this processor, and what that would gain of a training step.

    python scripts/bench/attention.py [--shape mini|tiny|base] [--rows 12] [--frames 100,200,300] [--repeats 7] [--json]

    flash   what PyTorch takes by itself on a CPU: blocks, of which the backward pass computes the weights again
    math    PyTorch's other one: the weights as a matrix, kept for the backward pass
    blocked what this project trains with in bfloat16 where the processor multiplies it (`asrpeft.adapters.blocked_attention`)

First each kernel alone: forward and backward of one attention over (rows, heads, frames, 64), heads as --shape has them, in float32 and
bfloat16. Then a whole step of LoRA (rank 8 on the attention's projections) of rows of that length, with either kernel in turns. Times are
of the processor (one thread), so that other jobs on the machine change them little; medians. A gain is by how much a step with the blocked one
is shorter than one with flash.
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
from unittest import mock

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.adapters import attention  # noqa: E402
from asrpeft.adapters.blocked_attention import blocked_attention  # noqa: E402
from asrpeft.recognizer import load  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from scripts.bench.step import step_of  # noqa: E402
from scripts.bench.training import SHAPES, shaped  # noqa: E402

KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH, "blocked": SDPBackend.FLASH_ATTENTION}
HEADS = {"mini": 4} | {name: heads for name, (_, _, heads) in SHAPES.items()}
PRECISIONS = {"float32": "no", "bfloat16": "bf16"}


def in_turns(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Milliseconds of processor by kernel: medians, after one of each that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in KERNELS}
    for turn in range(repeats + 1):
        for name, kernel in KERNELS.items():
            with sdpa_kernel([kernel]), mock.patch.object(attention, "pays", lambda *_, name=name, **__: name == "blocked"):
                began = time.process_time()
                work()
                if turn:
                    taken[name].append(1e3 * (time.process_time() - began))
    return {name: statistics.median(some) for name, some in taken.items()}


def alone(heads: int, rows: int, frames: int, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    q, k, v = (torch.randn(rows, heads, frames, 64, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(rows, heads, frames, 64, dtype=dtype)

    def work() -> None:
        blocked = attention.pays(q, k, v, dropout=0.0)
        found = blocked_attention(q, k, v, None, scale=0.125) if blocked else F.scaled_dot_product_attention(q, k, v)
        found.backward(gradient)

    return in_turns(work, repeats)


def of_a_step(model: str, rows: int, frames: int, precision: str, repeats: int) -> dict[str, float]:
    recognizer = load(model, threads=1)
    torch.manual_seed(0)
    recognizer.adapt("lora", name="x", where="attention", lang="sw", rank=8)
    return in_turns(step_of(recognizer, "x", rows=rows, frames=frames, precision=precision), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(HEADS), default="mini")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--frames", default="100,200,300")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = str(shaped(asked.shape, Path(folder)))
        for frames in map(int, asked.frames.split(",")):
            for name, precision in PRECISIONS.items():
                kernel = alone(HEADS[asked.shape], asked.rows, frames, getattr(torch, name), asked.repeats)
                step = of_a_step(model, asked.rows, frames, precision, asked.repeats)
                found.append({"frames": frames, "precision": name, "attention_ms": kernel, "step_ms": step, "gain": 1 - step["blocked"] / step["flash"]})
    if asked.json:
        print(json.dumps({"found": found, **vars(asked)}))
        return
    columns = ("frames", "precision", *(f"{name}, ms" for name in KERNELS), *(f"step, {name}" for name in KERNELS), "gain")
    rows = [
        (one["frames"], one["precision"], *(f"{one[part][name]:.1f}" for part in ("attention_ms", "step_ms") for name in KERNELS), f"{100 * one['gain']:.1f} %")
        for one in found
    ]
    print(Table.of(f"{asked.shape}, {asked.rows} rows, milliseconds of one core", columns, rows))


if __name__ == "__main__":
    main()
