"""Do confidences mean what they say: of the words given 0.8, are eight in ten right?

    ECE = Σ over bins of (n / N) · |accuracy − mean confidence|        MCE = the largest of those differences
    NCE = (H + Σ_right log₂ c + Σ_wrong log₂(1 − c)) / H              H = −N (r log₂ r + (1 − r) log₂(1 − r)),  r =
    share right

NCE is NIST's normalized cross entropy: 1 is perfect, 0 is no better than always saying r, negative is worse than that.

Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599 (ECE); NIST SCTK (NCE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrpeft.errors import BadInput
from asrpeft.scoring.errors import Score

_FLOOR = 1e-7  # log₂ of it is −23 bits: a word wrong at confidence 1 costs that much, not infinity


@dataclass(frozen=True)
class Bin:
    """Words whose confidence lies in [low, high); the last bin holds its upper end too."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """`bins` are those with any word, by rising confidence. `nce` is None where all words are right, or all wrong."""

    words: int
    accuracy: float
    confidence: float
    ece: float
    mce: float
    brier: float
    nce: float | None
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        names = ("words", "accuracy", "confidence", "ece", "mce", "brier", "nce")
        return {**{name: getattr(self, name) for name in names}, "bins": [vars(one) for one in self.bins]}


def calibration(confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 10, equal_mass: bool = False) -> Calibration:
    """Compare confidences with what turned out right.

    Args:
        confidences: (words,) between 0 and 1.   correct: (words,), for instance `word_correctness(score)` flattened.
        equal_mass: bins of as many words each, which resolves the crowd near 1; else bins of equal width.
    Raises:  BadInput for lists that are empty or of different lengths, or a confidence outside [0, 1].
    """
    c, r = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if c.shape != r.shape or c.ndim != 1 or not len(c):
        raise BadInput(f"there are {c.size} confidences and {r.size} words; give one for each, and at least one.")
    if not np.all((c >= 0) & (c <= 1)):
        raise BadInput("confidences must lie between 0 and 1; turn log-probabilities into probabilities first (exp).")
    if bins < 1:
        raise BadInput(f"{bins} bins were asked; give 1 or more.")
    edges = np.quantile(c, np.linspace(0, 1, bins + 1)) if equal_mass else np.linspace(0, 1, bins + 1)
    edges = np.unique(edges) if equal_mass else edges
    places = np.clip(np.searchsorted(edges, c, "right") - 1, 0, max(len(edges) - 2, 0))
    made = []
    for place in np.unique(places):
        here = places == place
        high = edges[min(place + 1, len(edges) - 1)]
        made.append(Bin(float(edges[place]), float(high), int(here.sum()), float(c[here].mean()), float(r[here].mean())))
    gaps = np.array([abs(one.accuracy - one.confidence) for one in made])
    share = r.mean()
    nce = None
    if 0 < share < 1:
        entropy = -len(r) * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
        bits = np.where(r > 0, np.log2(np.maximum(c, _FLOOR)), np.log2(np.maximum(1 - c, _FLOOR))).sum()
        nce = float((entropy + bits) / entropy)
    ece = float(sum(one.count * gap for one, gap in zip(made, gaps, strict=True)) / len(c))
    brier = float(((c - r) ** 2).mean())
    return Calibration(len(c), float(share), float(c.mean()), ece, float(gaps.max()), brier, nce, tuple(made))


def word_correctness(score: Score) -> list[list[bool]]:
    """For each row, whether each word of its (normalized) hypothesis is a hit; give confidences in the same order."""
    return [[kind == "hit" for kind, _, hypothesis in row.edits if hypothesis is not None] for row in score.rows]
