"""How many speakers (or utterances) it would take to tell two systems apart.

    n = u · ((z(1 − α/2) + z(power)) · s / δ)²

`u` units were compared, and their corpus difference δ has the standard error s (linearized, as `intervals` has it): s · √u is the
standard deviation of one unit, and n units make the standard error so small that a true difference δ is found with the given
power by a two-sided test of level α. Of m comparisons, Holm's first step asks for α / m, which is what is taken here: the cautious
side. Where Wilcoxon's signed ranks decide, n is larger by π/3, what ranks cost where differences are normal.

δ is the difference that was seen, and not the true one: n says how far away an answer is, not where it lies. Where the truth is
half of what was seen, four times as many are needed.

Source: Lachin, 1981, Introduction to sample size determination and power analysis for clinical trials, Controlled Clinical Trials
2, 93–113 (the formula); Lehmann, 1975, Nonparametrics (π/3); Holm, 1979.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, pi
from typing import Any

import numpy as np
from scipy.special import ndtri

from asrpeft.errors import BadInput
from asrpeft.scoring.intervals import rate_and_error, squares

POWER = 0.8
ALPHA = 0.05
RANKS = pi / 3  # 1 / the asymptotic relative efficiency of signed ranks to the mean, of normal differences


@dataclass(frozen=True)
class Needed:
    """`units` of the kind `unit` ("speaker" or "utterance") that would tell two systems apart, of which `have` were compared."""

    units: int
    unit: str
    have: int
    power: float
    alpha: float

    def to_json(self) -> dict[str, Any]:
        return {"units": self.units, "unit": self.unit, "have": self.have, "power": self.power, "alpha": self.alpha}


def needed(delta: np.ndarray, totals: np.ndarray, unit: str, *, comparisons: int = 1, power: float = POWER, alpha: float = ALPHA) -> Needed | None:
    """How many units like these would show the difference that these have.

    Args:
        delta: (units,) errors of one system minus those of the other.   totals: (units,) words.
        unit: "speaker", whom signed ranks compare, or "utterance".
        comparisons: among which this one is.
    Returns: None where nothing can be said: fewer than two units, no difference, or one that is the same in all of them.
    Raises:  BadInput for a power or level that is no probability.
    """
    if not (0 < power < 1 and 0 < alpha < 1):
        raise BadInput(f"A test of level {alpha} with power {power}: both lie between 0 and 1, such as 0.05 and 0.8.")
    n = len(delta)
    if n < 2 or totals.sum() <= 0:
        return None
    (difference,), (error,) = rate_and_error(squares(delta, totals).sum(axis=0)[None], n)
    if difference == 0 or error == 0:
        return None
    z = ndtri(1 - alpha / max(1, comparisons) / 2) + ndtri(power)
    units = n * (z * error / difference) ** 2 * (RANKS if unit == "speaker" else 1.0)
    return Needed(max(2, ceil(units)), unit, n, power, alpha)
