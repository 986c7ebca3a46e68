"""Bootstrap intervals for a rate, errors over words, whose units (speakers or utterances) are the only independent thing.

    θ = Σ eᵤ / Σ wᵤ        resample the units u with replacement, B times; θ* are the rates of the resamples

`percentile` takes the α/2 and 1 − α/2 quantiles of θ*. `bca` moves them for the bias z₀ of the resamples and for the
acceleration a, the skewness that the jackknife sees:

    α₁ = Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z)))        z = the quantile of the asked level

Both are too narrow for few units, because resampling n units sees a variance (n − 1)/n of the true one and knows no
Student's t; so z is −√(n/(n−1)) · t(α/2, n−1) instead of the normal quantile. At 30 units this is 6 % wider, at 1,000 0.2 %.

Source: Efron, 1987, Better bootstrap confidence intervals; Hesterberg, 2015, https://arxiv.org/abs/1411.5279 (the widening);
Bisani and Ney, 2004, Bootstrap estimates for confidence intervals in ASR performance evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Literal

import numpy as np

from asrpeft.errors import BadInput

Method = Literal["bca", "percentile"]
METHODS: tuple[Method, ...] = ("bca", "percentile")
RESAMPLES = 10_000
_CELLS = 4_000_000  # numbers held at a time while resampling: 32 MB, small enough for the cache lines to be reused


@dataclass(frozen=True)
class Interval:
    """A confidence interval for a rate; `low` and `high` are NaN where fewer than two units leave it unknown."""

    low: float
    high: float
    level: float
    method: str
    units: int

    @property
    def known(self) -> bool:
        return not isnan(self.low)

    def to_json(self) -> list[float | None]:
        return [self.low, self.high] if self.known else [None, None]


def resample_sums(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Column sums of `resamples` bootstrap samples of the rows.

    Args:    values: (units, k), any numbers.
    Returns: (resamples, k) float64, drawn from the exact bootstrap distribution. Rows that are equal are drawn together
             by one multinomial, so that 10,000 utterances, which have a few hundred different (errors, words), take 0.2 s.
    """
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    n, distinct = len(values), distinct.astype(np.float64)
    sums = np.empty((resamples, values.shape[1]))
    grouped = len(distinct) <= max(64, n // 8)
    step = max(1, _CELLS // (len(distinct) if grouped else n))
    kept = None if grouped else np.ascontiguousarray(values, dtype=np.float64)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        if grouped:
            sums[start : start + rows] = rng.multinomial(n, counts / n, size=rows) @ distinct
        else:
            drawn = rng.integers(0, n, size=(rows, n), dtype=np.int32)
            for column in range(values.shape[1]):
                sums[start : start + rows, column] = kept[:, column][drawn].sum(axis=1)
    return sums


def ratio_interval(
    errors: np.ndarray,
    totals: np.ndarray,
    *,
    level: float = 0.95,
    method: Method = "bca",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Confidence interval of Σ errors / Σ totals by bootstrap over the units.

    Args:
        errors: (units,) errors of each unit; negative where they are differences between two systems.
        totals: (units,) words (or characters) of each unit, not negative.
        resamples: 0 gives an unknown interval at no cost.
    Raises:  BadInput for an unknown method, a level outside (0, 1), or arrays of different lengths.
    """
    if method not in METHODS:
        raise BadInput(f"no interval method is called {method!r}; there are {', '.join(METHODS)}.")
    if not 0 < level < 1:
        raise BadInput(f"an interval of level {level} was asked; give a level between 0 and 1, e.g. 0.95.")
    errors, totals = np.asarray(errors, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if errors.shape != totals.shape or errors.ndim != 1:
        raise BadInput(f"errors have shape {errors.shape} and totals {totals.shape}; both must be (units,).")
    n = len(errors)
    if n < 2 or resamples < 1 or totals.sum() <= 0:
        return Interval(nan, nan, level, method, n)
    sums = resample_sums(np.stack([errors, totals], axis=1), resamples, np.random.default_rng(seed))
    sums = sums[sums[:, 1] > 0]  # a resample of units without a single word has no rate
    rates = np.sort(sums[:, 0] / sums[:, 1])
    low, high = np.quantile(rates, _levels(rates, errors, totals, level, method))
    return Interval(float(low), float(high), level, method, n)


def _levels(rates: np.ndarray, errors: np.ndarray, totals: np.ndarray, level: float, method: Method) -> np.ndarray:
    """Which quantiles of the sorted resampled rates bound the interval."""
    from scipy.stats import norm, t  # scipy.stats takes a second to import: only who asks for an interval waits

    n = len(errors)
    z = sqrt(n / (n - 1)) * t.ppf((1 - level) / 2, n - 1) * np.array([1.0, -1.0])
    if method == "percentile":
        return norm.cdf(z)
    observed = errors.sum() / totals.sum()
    below = (np.searchsorted(rates, observed, "left") + np.searchsorted(rates, observed, "right")) / 2  # ties count half
    if not 0 < below < len(rates):
        return norm.cdf(z)  # a rate that no resample crosses (all units alike) has no bias to correct
    bias = norm.ppf(below / len(rates))
    jackknife = (errors.sum() - errors) / np.maximum(totals.sum() - totals, 1e-12)
    moved = jackknife.mean() - jackknife
    spread = (moved**2).sum() ** 1.5
    acceleration = (moved**3).sum() / (6 * spread) if spread > 0 else 0.0
    shifted = bias + z
    # Beyond this the map would turn over; it is met only where one unit holds almost all of the words.
    return norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 0.1))
