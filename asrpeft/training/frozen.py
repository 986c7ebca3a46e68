"""Frozen means frozen: what may train is asserted before a run, not hoped for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from asrpeft.errors import UnexpectedTraining
from asrpeft.recognizer import Recognizer


def trained_parameters(recognizer: Recognizer, name: str) -> dict[str, nn.Parameter]:
    """The parameters of adapter `name` that train, by their names in it.

    Raises: UnexpectedTraining if anything outside the adapters would train too, or nothing would.
    """
    adapters = {id(p) for item in recognizer.adapters.names() for p in recognizer.adapters[item].parameters()}
    intruders = [n for n, p in recognizer.named_parameters() if p.requires_grad and id(p) not in adapters]
    if intruders:
        raise UnexpectedTraining(
            f"{len(intruders)} tensors of the base would train ({', '.join(intruders[:3])}). Freeze them with "
            f"requires_grad_(False); to train all weights use the method `full`."
        )
    found = {n: p for n, p in recognizer.adapters[name].named_parameters() if p.requires_grad}
    if not found:
        raise UnexpectedTraining(f"Nothing of the adapter {name!r} would train: all of its tensors are frozen.")
    return found


@contextmanager
def only(recognizer: Recognizer, *names: str) -> Iterator[None]:
    """Within the block, adapters other than `names` are frozen too."""
    others = [p for item in recognizer.adapters.names() if item not in names for p in recognizer.adapters[item].parameters() if p.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


@contextmanager
def training_mode(recognizer: Recognizer, name: str, *, dropout: float, checkpointing: bool) -> Iterator[None]:
    """Within the block the adapter and, where that changes anything, the base are in training mode, the base with the given dropout and nothing
    else random.

    The base's own training settings (attention dropout, layer drop) belong to its pre-training and stay out of it. Without dropout and
    checkpointing a base in evaluation mode computes the same, and is not gone through twice a step.
    """
    adapter = recognizer.adapters[name]
    whole = bool(dropout) or checkpointing or recognizer.base.training
    kept = _without_chance(recognizer.base, dropout) if whole else []
    if whole:
        recognizer.base.train()
    adapter.train()
    if checkpointing:
        recognizer.gradient_checkpointing(True)
    try:
        yield
    finally:
        if checkpointing:
            recognizer.gradient_checkpointing(False)
        for module, attribute, value in kept:
            setattr(module, attribute, value)
        recognizer.eval() if whole else adapter.eval()


def _without_chance(base: nn.Module, dropout: float) -> list[tuple[nn.Module, str, float]]:
    """Give the base this dropout and no other; returns what it had: (module, attribute, value)."""
    kept = []
    for module in base.modules():
        for attribute in ("dropout", "activation_dropout", "layerdrop"):
            value = getattr(module, attribute, None)
            if isinstance(value, int | float):
                kept.append((module, attribute, value))
                is_attention = hasattr(module, "q_proj")
                setattr(module, attribute, dropout if attribute == "dropout" and not is_attention else 0.0)
    return kept
