"""A run's state in one file, so that a run killed at any moment goes on to the weights it would have reached.

One safetensors file whose header holds the counts as JSON; it is written beside and renamed, so it is either the old one or
the new one. No pickle. There is no random state in it: chance is keyed by seed, utterance, epoch and step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from asrpeft.adapters import Adapter
from asrpeft.corpus import Corpus
from asrpeft.errors import BadInput
from asrpeft.files import replace_file

FORMAT = 1


@dataclass
class State:
    """How far a run is.

    Attributes:
        step: optimiser steps taken.
        epoch, position: the next step is number `position` of `epoch`.
        total: steps planned; None if time is planned.
        rows: utterances trained on so far, counting each time.
        seconds: time in the loop, without evaluation.
        best: score and step of the best look at the development data; rank: by which it was, see `asrpeft.training.choice`;
            chosen_by: that measure's name.
        looks: (step, score) of each look; measures: (step, WER, CER, loss or None).
        since_best: looks since then.
        due: the look at the development data that belongs after this step has not been taken yet.
        guard_looks: (step, loss) of each time the guard data were asked.
        dropped: rows without a target because it did not fit (CTC).
        skipped: id → reason of utterances that could not be read.
        finished: nothing is left to train.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    total: int | None = None
    rows: int = 0
    seconds: float = 0.0
    best: tuple[float, int] | None = None
    rank: tuple[int, float] | None = None
    chosen_by: str | None = None
    looks: list[tuple[int, float]] = field(default_factory=list)
    measures: list[tuple[int, float, float, float | None]] = field(default_factory=list)
    since_best: int = 0
    due: bool = False
    guard_looks: list[tuple[int, float]] = field(default_factory=list)
    dropped: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    finished: bool = False


def corpus_key(corpus: Corpus | None) -> str | None:
    """A fingerprint of what would be trained on: ids, texts and lengths, in order, and weights other than 1."""
    if corpus is None:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for u in corpus:
        weight = "" if u.weight == 1 else f"\x1f{u.weight!r}"
        digest.update(f"{u.id}\x1f{u.text}\x1f{u.duration:.3f}{weight}\x1e".encode())
    return digest.hexdigest()


def identity(adapter: Adapter, data: Corpus, dev: Corpus | None) -> dict[str, Any]:
    """What must be the same for a run to be the one that was interrupted, beside its options."""
    manifest = adapter.manifest
    return {
        "method": manifest.method, "settings": asdict(adapter.config), "where": manifest.where, "sites": manifest.sites,
        "language": manifest.language, "task": manifest.task, "base": manifest.base_fingerprint,
        "data": corpus_key(data), "dev": corpus_key(dev),
    }  # fmt: skip


def write(path: Path, state: State, *, adapter: Adapter, optimizer: torch.optim.Optimizer, best: Mapping[str, Tensor] | None,
          last: Mapping[str, Tensor] | None = None, options: Mapping[str, Any], identity: Mapping[str, Any]) -> None:  # fmt: skip
    """Write the checkpoint. What was there stays until the new one is complete."""
    tensors = {f"adapter.{name}": tensor for name, tensor in adapter.state_dict().items()}
    tensors |= {f"{part}.{name}": tensor for part, held in (("best", best), ("last", last)) for name, tensor in (held or {}).items()}
    names = {parameter: name for name, parameter in adapter.named_parameters()}
    for parameter, moments in optimizer.state.items():
        tensors |= {f"optimizer.{names[parameter]}/{key}": value for key, value in moments.items()}
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    told = {"format": FORMAT, "state": asdict(state), "options": dict(options), "identity": dict(identity)}
    replace_file(path, save(tensors, metadata={"asrpeft": json.dumps(told)}))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read."""

    state: State
    options: dict[str, Any]
    identity: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)

    def part(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    def restore(self, adapter: Adapter, optimizer: torch.optim.Optimizer) -> dict[str, Tensor] | None:
        """Fill the adapter and the optimiser; returns the best weights so far, if there were any."""
        adapter.load_state_dict(self.part("adapter."))
        parameters = dict(adapter.named_parameters())
        for name, tensor in self.part("optimizer.").items():
            parameter, _, key = name.rpartition("/")
            owner = parameters[parameter]
            # AdamW keeps its step count on the CPU whatever the parameter's device is
            optimizer.state[owner][key] = tensor if key == "step" else tensor.to(owner.device)
        return self.part("best.") or None


def read(path: Path) -> Checkpoint:
    """Raises: BadInput if the file is no checkpoint, or one of another format."""
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {}).get("asrpeft", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(f"The checkpoint {str(path)!r} cannot be read: {error}. Remove it to start anew.") from None
    if told.get("format") != FORMAT:
        raise BadInput(
            f"{str(path)!r} is no checkpoint of this version (format {told.get('format')}, wanted {FORMAT}). Remove it to start anew."
        )
    state = State(**told["state"])
    state.best = None if state.best is None else tuple(state.best)
    state.looks = [tuple(look) for look in state.looks]
    state.guard_looks = [tuple(look) for look in state.guard_looks]
    return Checkpoint(state, told["options"], told["identity"], tensors)


def check(found: Checkpoint, path: Path, *, changed_options: list[str], identity: Mapping[str, Any]) -> None:
    """Raises: BadInput if the run that wrote the checkpoint was another one."""
    now = json.loads(json.dumps(dict(identity)))
    changed = [
        *changed_options,
        *(f"the {name} differ" for name in (now | found.identity) if found.identity.get(name) != now.get(name)),
    ]
    if changed:
        raise BadInput(f"{str(path)!r} was written by another run: {'; '.join(changed[:4])}. "
                       f"Resume with the command that was interrupted, or remove the file to start anew.")  # fmt: skip
