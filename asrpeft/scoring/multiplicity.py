"""Many paired tests at once: p of each, corrected for all of them by resampling all of them together.

    t = mean of the units' differences / its standard error, for every comparison
    t* = the same after each unit's differences, those of all comparisons at once, have kept or changed their sign by chance
    p of the comparison with the k-th largest |t| = share of resamples in which the largest |t*| of that and all weaker ones reaches |t|

Under the hypothesis that no system differs from another, a unit's differences are as likely one way as the other, all at once. Comparisons of
one set of systems on the same speakers are much alike, which the maximum knows and Holm's sum does not: over the 4,656 pairs of 97
methods Holm asks of each test for a p of 0.00001, which 14 speakers cannot give whatever they say (1 in 8,192 is the least), while a difference that
stands far above all that chance makes of these same numbers can be told here. Probability of any false answer: at most the level, whichever
of the hypotheses are true, as far as the differences are symmetric.

Source: Westfall and Young, 1993, Resampling-Based Multiple Testing, algorithm 2.8 (step-down maxT), with sign changes in place of permutations, as
paired differences have them (Pesarin and Salmaso, 2010).
"""

from __future__ import annotations

import numpy as np

RESAMPLES = 10_000  # sign changes, the one that changes none among them; all there are where they are fewer
_ROWS = 250  # of them at a time


def max_t(differences: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(t, corrected p) of each comparison.

    Args:    differences: (units, comparisons), each unit's difference in each.
    Returns: t is infinite where all units differ alike, 0 where none does.
    """
    n, comparisons = differences.shape
    t = _t(np.ones((1, n)), differences)[0]
    order = np.argsort(-np.abs(t), kind="stable")
    reached = np.zeros(comparisons)
    sorted_, strength = differences[:, order], np.abs(t[order])
    signs = _signs(n, seed)
    for first in range(0, len(signs), _ROWS):
        drawn = np.abs(_t(signs[first : first + _ROWS], sorted_))
        largest = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]  # of each comparison and all weaker ones
        reached += (largest >= strength * (1 - 1e-12)).sum(axis=0)
    p = np.empty(comparisons)
    p[order] = np.maximum.accumulate(reached / len(signs))
    p[t == 0] = 1.0
    return t, p


def _signs(n: int, seed: int) -> np.ndarray:
    """(resamples, n) of −1 and 1; the first changes nothing. All of them where there are not too many: half of those, as the other half has the same |t|."""
    if 2 ** (n - 1) <= RESAMPLES:
        counts = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)[None]
        return 1.0 - 2.0 * (counts & 1)
    drawn = np.random.default_rng(seed).integers(0, 2, size=(RESAMPLES, n)) * 2.0 - 1.0
    drawn[0] = 1.0
    return drawn


def _t(signs: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """(resamples, comparisons) of t."""
    n = len(differences)
    mean = signs @ differences / n
    variance = np.maximum((differences**2).sum(axis=0) / n - mean**2, 0.0) / max(n - 1, 1)
    even = variance <= 1e-15 * mean**2  # all alike: nothing but rounding is left
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean == 0, 0.0, np.where(even, np.copysign(np.inf, mean), mean / np.sqrt(variance)))
