"""ΔW made once an optimizer step, however many passes the step has.

    L = ΔW without its graph        made by the first pass that asks; autograd adds up ∂loss/∂L over all passes
    ΔW.backward(∂loss/∂L)           once, after the last

A step of four batches makes ΔW once and goes back through it once instead of four times; so does one whose layers are computed again in
the backward pass (gradient checkpointing), or which uses a weight twice (a token table and its head). The price is that all ΔW of
the step are in memory at once, with their gradients, in float32: at most `limit` bytes of them are held, the rest is made by each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asrpeft.methods.change_cache import CHANGES, Change

if TYPE_CHECKING:
    from asrpeft.methods.base import LayerAdapter


class StepChanges:
    """The changes of one optimizer step, by piece."""

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self._made: dict[LayerAdapter, tuple[Change, Change] | None] = {}

    def get(self, piece: LayerAdapter, make: Callable[[], Change]) -> Change | None:
        """What stands for a piece's change in this step, or None where that is not to be held."""
        if piece not in self._made:
            # Also where a layer is to be computed again: its graph must not be thrown away and made anew with the layer's.
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(Tensor.detach, Tensor.detach):
                made = make()
            size = 2 * sum(t.nbytes for t in made if t is not None)
            held = self.bytes + size <= self.limit and any(t is not None and t.requires_grad and not t.is_leaf for t in made)
            self.bytes += size if held else 0
            self._made[piece] = (made, _leaves(made)) if held else None
        found = self._made[piece]
        return None if found is None else found[1]

    def push(self) -> None:
        """Go back from the changes to what they are made of, with the gradients of all passes."""
        roots: list[Tensor] = []
        gradients: list[Tensor] = []
        for made, leaves in filter(None, self._made.values()):
            for root, leaf in zip(made, leaves):
                if root is not None and leaf is not None and leaf.grad is not None:
                    roots.append(root)
                    gradients.append(leaf.grad)
        if roots:
            torch.autograd.backward(roots, gradients)
        self._made, self.bytes = {}, 0


def _leaves(made: Change) -> Change:
    dw, db = made
    return _leaf(dw), None if db is None else _leaf(db)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


@contextmanager
def made_once(pieces: Iterable[LayerAdapter], limit: int | None = None) -> Iterator[StepChanges]:
    """Within the block, passes of these pieces in training mode share their changes; call `push` after the last backward pass.

    Args:   limit: bytes of changes and gradients that are held; what is kept in evaluation, unless given.
    """
    changes, own = StepChanges(CHANGES.limit if limit is None else limit), list(pieces)
    try:
        for piece in own:
            piece.step_changes = changes
        yield changes
    finally:
        for piece in own:
            piece.step_changes = None
