"""Bootstrap intervals for a rate, errors over words, whose units (speakers or utterances) alone are independent.

    θ = Σ eᵤ / Σ wᵤ        resample the units u with replacement, B times; θ* are the rates of the resamples

`studentised` (the default) resamples t* = (θ* − θ) / s*, with s* the linearised standard error of each resample, and
takes [θ − s·t*(1 − α/2), θ − s·t*(α/2)]. `percentile` takes the α/2 and 1 − α/2 quantiles of θ* themselves; `bca` moves
those for the bias z₀ of the resamples and for the acceleration a, the skewness that the jackknife sees:

    s² = n / (n−1) · Σ (eᵤ − θ wᵤ)² / (Σ wᵤ)²        α₁ = Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z)))

All are too narrow for few units: n resampled units see a variance of (n − 1)/n of the true one, and normal quantiles
know no Student's t. So z is −√(n/(n−1)) · t(α/2, n−1) in place of the normal quantile, and α/2 is Φ(z).

How often 95 % intervals held the truth in 1,000 simulated corpora of texts (speakers differ, bad ones say more;
`scripts/bench/scoring_simulation.py coverage`):

                            studentised   bca      percentile
    30 speakers, WER 24 %       94.5      92.0        92.0
    30 speakers, WER  7 %       94.6      91.8
    30 speakers, WER 58 %       95.8
    60 speakers, WER 24 %       94.5      92.4

Source: Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapters 12 to 14; Hesterberg, 2015,
https://arxiv.org/abs/1411.5279 (the widening); Bisani and Ney, 2004, Bootstrap estimates for confidence intervals in
ASR performance evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # scipy.stats would take a second to import

from asrpeft.errors import BadInput

Method = Literal["studentised", "bca", "percentile"]
METHODS: tuple[Method, ...] = ("studentised", "bca", "percentile")
RESAMPLES = 10_000
_CELLS = 100_000  # draws held at a time: their counts, 0.8 MB, stay in the cache


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: `Bootstrap(level=0.9, method="bca")`.

    Attributes:
        seed: of the resamples; the same seed gives the same interval.
        resamples: how many; 0 leaves intervals unknown and saves their time.
        level: the share of intervals that hold the truth, between 0 and 1.
        method: "studentised", "bca" or "percentile".
    Raises: BadInput for a method that there is not, a level outside (0, 1), a negative seed or number of resamples.
    """

    seed: int = 0
    resamples: int = RESAMPLES
    level: float = 0.95
    method: Method = "studentised"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"no interval method is called {self.method!r}; there are {', '.join(METHODS)}.")
        if not 0 < self.level < 1:
            raise BadInput(f"an interval of level {self.level} was asked; give a level between 0 and 1, e.g. 0.95.")
        if self.resamples < 0:
            raise BadInput(f"{self.resamples} resamples were asked; give 0 for no intervals, or a positive number.")
        if self.seed < 0:
            raise BadInput(f"a bootstrap's seed is 0 or a positive number, not {self.seed}.")


BOOTSTRAP = Bootstrap()  # as intervals are made where nothing else is said


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
    """Column sums of `resamples` bootstrap samples of the rows: how often each row was drawn, times the rows.

    Args:    values: (units, k), any numbers.
    Returns: (resamples, k) float64. 10,000 resamples of 10,000 units take about a second.
    """
    n, values = len(values), np.asarray(values, dtype=np.float64)
    sums = np.empty((resamples, values.shape[1]))
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums[start : start + rows] = counts.astype(np.float64) @ values  # integers would not go through BLAS
    return sums


def ratio_interval(
    errors: np.ndarray,
    totals: np.ndarray,
    *,
    level: float = 0.95,
    method: Method = "studentised",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Confidence interval of Σ errors / Σ totals by bootstrap over the units.

    Args:
        errors: (units,) errors of each unit; negative where they are differences between two systems.
        totals: (units,) words (or characters) of each unit, not negative.
        resamples: 0 gives an unknown interval at no cost.
    Raises:  BadInput for what `Bootstrap` refuses, or arrays of different lengths.
    """
    Bootstrap(seed, resamples, level, method)
    errors, totals = np.asarray(errors, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if errors.shape != totals.shape or errors.ndim != 1:
        raise BadInput(f"errors have shape {errors.shape} and totals {totals.shape}; both must be (units,).")
    n = len(errors)
    if n < 2 or resamples < 1 or totals.sum() <= 0:
        return Interval(nan, nan, level, method, n)
    rng = np.random.default_rng(seed)
    if method == "studentised":
        low, high = _studentised(errors, totals, level, resamples, rng)
    else:
        sums = resample_sums(np.stack([errors, totals], axis=1), resamples, rng)
        sums = sums[sums[:, 1] > 0]  # a resample of units without a single word has no rate
        rates = np.sort(sums[:, 0] / sums[:, 1])
        low, high = np.quantile(rates, _quantiles(rates, errors, totals, level, method))
    return Interval(float(low), float(high), level, method, n)


def squares(errors: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Columns e, w, e², ew, w², whose sums `rate_and_error` needs. (units, 5)"""
    columns = (errors, totals, errors * errors, errors * totals, totals * totals)
    return np.stack(columns, axis=1).astype(np.float64)


def rate_and_error(sums: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """θ and its linearised standard error from sums of `squares`, (resamples, 5); the error is 0 where all units
    agree."""
    e, w, ee, ew, ww = sums.T
    rate = e / w
    residual = ee - 2 * rate * ew + rate * rate * ww  # Σ (e − θw)²
    residual[residual < 1e-9 * np.maximum(ee, 1.0)] = 0.0  # cancellation leaves 1e-12 of the terms
    return rate, np.sqrt(residual * units / max(units - 1, 1)) / w


def _widened(level: float, units: int) -> np.ndarray:
    """Lower and upper z for the level, at the width that so many units need."""
    return sqrt(units / (units - 1)) * stdtrit(units - 1, (1 - level) / 2) * np.array([1.0, -1.0])


def widened_p(p: float, units: int) -> float:
    """The two-sided p that belongs to a bootstrap's p once it is widened for so many units, as the intervals are."""
    return float(2 * stdtr(units - 1, ndtri(p / 2) / sqrt(units / (units - 1))))


def _studentised(errors: np.ndarray, totals: np.ndarray, level: float, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    n, table = len(errors), squares(errors, totals)
    (rate,), (error,) = rate_and_error(table.sum(axis=0)[None], n)
    if error == 0:  # all units have the same rate: no resample differs
        return rate, rate
    sums = resample_sums(table, resamples, rng)
    rates, spreads = rate_and_error(sums[sums[:, 1] > 0], n)
    # A resample whose units all agree has no error of its own. Where that is common (a handful of units, or errors in
    # only a few of them) t* means nothing, and the spread of the rates themselves is all there is.
    usable = spreads > 0
    if usable.mean() < 0.99:
        low, high = rate + _widened(level, n) * max(error, float(rates.std()))
    else:
        t_star = (rates[usable] - rate) / spreads[usable]
        high_t, low_t = np.quantile(t_star, ndtr(_widened(level, n)))[[0, 1]]
        low, high = rate - low_t * error, rate - high_t * error
    return (max(0.0, low) if errors.min() >= 0 else low), high


def _quantiles(rates: np.ndarray, errors: np.ndarray, totals: np.ndarray, level: float, method: Method) -> np.ndarray:
    """Which quantiles of the sorted resampled rates bound the interval."""
    z = _widened(level, len(errors))
    if method == "percentile":
        return ndtr(z)
    observed = errors.sum() / totals.sum()
    # Ties count half.
    below = (np.searchsorted(rates, observed, "left") + np.searchsorted(rates, observed, "right")) / 2
    if not 0 < below < len(rates):
        return ndtr(z)  # a rate that no resample crosses (all units alike) has no bias to correct
    bias = ndtri(below / len(rates))
    jackknife = (errors.sum() - errors) / np.maximum(totals.sum() - totals, 1e-12)
    moved = jackknife.mean() - jackknife
    spread = (moved**2).sum() ** 1.5
    acceleration = (moved**3).sum() / (6 * spread) if spread > 0 else 0.0
    shifted = bias + z
    # Beyond this the map would turn over; it is met only where one unit holds almost all of the words.
    return ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 0.1))


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's interval for a share of independent trials; it stays inside [0, 1] and is not empty at 0 of n.

    Source: Wilson, 1927, Probable inference, the law of succession, and statistical inference.
    """
    if trials == 0:
        return Interval(nan, nan, level, "wilson", 0)
    z = ndtri((1 + level) / 2)
    share, room = successes / trials, z * z / trials
    center = (share + room / 2) / (1 + room)
    half = z / (1 + room) * sqrt(share * (1 - share) / trials + room / (4 * trials))
    return Interval(max(0.0, float(center - half)), min(1.0, float(center + half)), level, "wilson", trials)
