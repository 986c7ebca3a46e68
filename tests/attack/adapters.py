"""Adapter folders and peft folders from strangers: read, inspected, attached, run and detached; the base stays as it was."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import torch

from asrpeft.adapters.adapter import MANIFEST
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.inspect import inspect
from asrpeft.adapters.peft_format import read_peft, write_peft
from tests.attack.runner import Surface, Wrong, hostile_json, spoil_bytes
from tests.bases import tiny_recognizer

METHODS = ("lora", "ia3", "s2lora", "loha", "prompt", "prefix", "bitfit", "full")


def prepare(folder: Path):
    recognizer, ours, theirs = tiny_recognizer(), [], []
    for name in METHODS:
        adapter = recognizer.adapt(name, name=name, lang="en")
        if name in ("lora", "full"):
            adapter.ctc = CTCHead.for_texts(recognizer.base.config.d_model, ["some letters"])
            recognizer.adapters.describe(name, ctc_vocabulary=adapter.ctc.vocabulary)
        recognizer.adapters.describe(name, training={"steps": 3, "skipped": [{"id": "a", "reason": "no audio"}]}, scores={"wer": 0.5})
        ours.append(adapter.save(folder / name))
        if name in ("lora", "loha", "ia3"):
            theirs.append(write_peft(adapter, folder / f"peft-{name}"))
        recognizer.adapters.detach(name)
    state = {n: t.clone() for n, t in recognizer.base.state_dict().items()}
    heard = (torch.randn(1, recognizer.n_mels, 200), torch.tensor([100]), torch.tensor([recognizer.prompt(lang="en")]))
    return recognizer, state, heard, ours, theirs


def spoil_folder(folder: Path, rng: random.Random) -> None:
    """One of its files spoilt, missing, or something else than a file."""
    path = rng.choice(sorted(folder.iterdir()))
    turn = rng.random()
    if turn < 0.05:
        path.unlink()
    elif turn < 0.08:
        path.unlink()
        path.mkdir()
    elif turn < 0.1:
        path.unlink()
        path.symlink_to(rng.choice(["/dev/zero", "/etc/passwd", "nowhere", path.name]))
    elif turn < 0.12:
        path.write_bytes(b"")
    elif path.suffix == ".json" and turn < 0.9:
        path.write_bytes(hostile_json(json.loads(path.read_text()), rng))
    else:
        path.write_bytes(spoil_bytes(path.read_bytes(), rng))


def case(rng: random.Random, shared, own: Path) -> None:
    recognizer, state, heard, ours, theirs = shared
    peft = rng.random() < 0.35
    folder = shutil.copytree(rng.choice(theirs if peft else ours), own / "given")
    body = (folder / "adapter.safetensors").read_bytes() if not peft else b""
    spoil_folder(folder, rng)
    try:
        if peft:
            read_peft(recognizer.adapters, folder, name="given")
        else:
            if rng.random() < 0.3:
                json.dumps(inspect(folder, adapters=recognizer.adapters).to_json())
            recognizer.adapters.load(folder, name="given", force=rng.random() < 0.5)
            if (folder / "adapter.safetensors").read_bytes() != body and json.loads((folder / MANIFEST).read_text()).get("digest"):
                raise Wrong("other tensors than those that were saved were loaded without a word")
        recognizer.base.eval()
        with torch.inference_mode():
            recognizer(*heard, route="given")
        recognizer.adapters["given"].save(own / "again")
    finally:
        if "given" in recognizer.adapters:
            recognizer.adapters.detach("given")
        if any(not torch.equal(t, state[n]) for n, t in recognizer.base.state_dict().items()):
            raise Wrong("the base is another one after the adapter is gone")


SURFACE = Surface("adapters", prepare, case, weight=3.0)
