"""Intruder dimensions: singular vectors of an adapted weight that are like none of the frozen one's.

    uⱼ of W + ΔW, j ≤ top, is an intruder where   maxᵢ |cos(uⱼ, uᵢ of W)| < below

Low-rank adapters bring them, full fine-tuning hardly does, and they go with forgetting; a high rank with the rank-stabilised scale
(`--set scale=rs`) has fewer. Source: LoRA vs Full Fine-tuning: An Illusion of Equivalence, https://arxiv.org/abs/2410.21228, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from asrpeft.adapters.adapter import Adapter
from asrpeft.errors import CannotMerge

TOP, BELOW = 10, 0.5


@dataclass(frozen=True)
class Intruders:
    """Of one layer: `count` of the `top` first singular vectors are intruders; `least` is the smallest of their likenesses, 0 to 1."""

    path: str
    count: int
    top: int
    least: float


@torch.no_grad()
def intruders(adapter: Adapter, *, top: int = TOP, below: float = BELOW) -> Iterator[Intruders]:
    """The intruder dimensions at each linear layer and convolution of an adapter, in the base's order.

    Raises: CannotMerge where the adapter changes no weights.
    """
    pieces = {path: piece for path, piece in adapter.by_path().items() if adapter.layers[path].kind in ("linear", "conv1d")}
    if not pieces or not all(piece.mergeable and piece.changes_weights() for piece in pieces.values()):
        raise CannotMerge(f"{adapter.name!r} ({adapter.method.name}) changes no linear layer's weight, so that it has no intruder dimensions.")
    for path, piece in pieces.items():
        w, b = adapter.layers[path].wide()
        yield Intruders(path, *of_weights(w, piece.merged(w, b)[0], top=top, below=below))


def of_weights(w: Tensor, adapted: Tensor, *, top: int = TOP, below: float = BELOW) -> tuple[int, int, float]:
    """(how many of the first `top` left singular vectors of `adapted` are intruders beside `w`, how many were looked at, the smallest likeness)."""
    before, after = (torch.linalg.svd(one.float(), full_matrices=False)[0] for one in (w, adapted))
    alike = (before.T @ after[:, :top]).abs().amax(dim=0)
    return int((alike < below).sum()), len(alike), float(alike.min())
