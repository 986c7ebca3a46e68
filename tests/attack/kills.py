"""Training runs killed at any moment: what was there before is whole, and the run goes on to the same weights."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from asrpeft.jobs.finetune import finetune
from asrpeft.options import Data, OutputOptions
from tests.attack.runner import Surface, Wrong
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones

METHODS = ("lora", "s2lora", "ia3")


def train(method: str, out: Path, *, resume: bool) -> None:
    """A run of a second: 6 steps, a checkpoint after each, looks at development data."""
    finetune(
        tiny_recognizer(),
        Data(tones(), dev=tones(3)),
        lang="en",
        method=method,
        out=OutputOptions(out, resume=resume),
        training=options(steps=6, dropout=0.1, augment="standard", dev_every=2, checkpoint_s=0.0, lr=0.01),
    )


def prepare(folder: Path):
    weights, seconds = {}, {}
    for method in METHODS:
        train(method, folder / f"warm-{method}", resume=False)
        began = time.monotonic()
        train(method, folder / method, resume=False)
        weights[method], seconds[method] = load_file(folder / method / "adapter.safetensors"), time.monotonic() - began
    return weights, seconds


def case(rng: random.Random, shared, own: Path) -> None:
    weights, seconds = shared
    method, out = rng.choice(METHODS), own / "out"
    for _ in range(rng.choice([1, 1, 2, 3])):
        child = os.fork()
        if child == 0:
            try:
                train(method, out, resume=True)
            finally:
                os._exit(0)
        time.sleep(rng.random() * 1.1 * seconds[method])
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if out.exists() and not ((out / "adapter.json").is_file() and load_file(out / "adapter.safetensors")):
            raise Wrong("half an adapter is there")
    train(method, out, resume=True)
    found = load_file(out / "adapter.safetensors")
    if found.keys() != weights[method].keys() or not all(torch.equal(found[n], t) for n, t in weights[method].items()):
        raise Wrong(f"{method}: other weights than those of the run that was not killed")
    left = sorted(p.name for p in own.iterdir())
    if left != ["out"]:
        raise Wrong(f"left behind: {', '.join(left)}")


SURFACE = Surface("kills", prepare, case, weight=0.03)
