"""Forgetting, held in check while an adapter learns: weights that lose too much elsewhere are not kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """Asked at each evaluation on the development data whose weights would be kept.

    Attributes:
        loss: WER of the adapter as it is now minus the base's, on data of what the base could already do; a fraction.
        max_loss: what may be lost.
        key: a fingerprint of those data: a run is resumed with the same ones only.
    """

    loss: Callable[[], float]
    max_loss: float
    key: str | None = None
