"""One method trained several times, by other seeds: its rate, and its difference from another, over speakers and over seeds.

Speakers and seeds are both drawn from many, and each seed meets each speaker. The mean over seeds of the corpus difference varies
with both, and the variances add up:

    d = mean over seeds of dₛ        s² = s²(units) + s²(seeds) / S        t = d / s
    degrees of freedom = s⁴ / (s⁴(units) / (n − 1) + (s²(seeds) / S)² / (S − 1))

s(units) is the linearized standard error over the n units (speakers, or utterances where they are few) of their mean over seeds,
s(seeds) the standard deviation of dₛ. What one seed happens to do with one speaker counts in both: the cautious side. A test over
speakers alone would speak of these very seeds, of which the next training has none.

Source: Satterthwaite, 1946, An approximate distribution of estimates of variance components; Bouthillier et al., 2021, Accounting
for variance in machine learning benchmarks, https://arxiv.org/abs/2103.03098 (why seeds belong into it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy.special import stdtr, stdtrit

from asrpeft.errors import BadInput
from asrpeft.scoring.errors import MIN_SPEAKERS, Score, by_id
from asrpeft.scoring.intervals import Interval, rate_and_error, squares
from asrpeft.scoring.significance import Comparison, Test, verdict_of

METHOD = "t over {unit}s and seeds"


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with its standard error and degrees of freedom."""

    mean: float
    error: float
    freedom: float
    units: int
    unit: str

    def interval(self, level: float = 0.95, *, least: float = -np.inf) -> Interval:
        if not self.error > 0:
            known = self.error == 0
            return Interval(self.mean if known else nan, self.mean if known else nan, level, METHOD.format(unit=self.unit), self.units)
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return Interval(max(least, self.mean - half), self.mean + half, level, METHOD.format(unit=self.unit), self.units)

    @property
    def p(self) -> float:
        """Two-sided, of a mean that is 0."""
        if not self.error > 0:  # no unit and no seed differs from another: as sure as their number makes it
            return 1.0 if self.mean == 0 or self.error != 0 else min(1.0, 2.0 ** (1 - self.units))
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))


def rate_over_seeds(scores: Sequence[Score]) -> Spread:
    """WER as the mean over seeds, of one method's scores by several seeds on one corpus."""
    unit, errors, words = _by_unit(scores)
    return _spread(errors, words, unit)


def difference_over_seeds(a: Sequence[Score], b: Sequence[Score]) -> Spread:
    """b's WER minus a's, seed by seed in the order given; a system without seeds is given once.

    Raises: BadInput where both have several seeds, and not as many.
    """
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise BadInput(f"{len(a)} and {len(b)} seeds cannot be compared seed by seed.")
    unit, first, words = _by_unit(a)
    _, second, _ = _by_unit(b, like=a[0])
    return _spread(second - first, words, unit)  # (seeds, units), or one row for all seeds


def _by_unit(scores: Sequence[Score], like: Score | None = None) -> tuple[str, np.ndarray, np.ndarray]:
    """(the unit, errors (seeds, units), words (units,)), all in the order of the first score's rows, or of `like`'s."""
    first = like or scores[0]
    speakers = len(first.speakers) >= MIN_SPEAKERS
    places: dict[str, int] = {}
    index = np.array([places.setdefault(str(row.speaker if speakers else row.id), len(places)) for row in first.rows])
    found = np.zeros((len(scores), len(places)))
    words = np.bincount(index, weights=[row.counts.words for row in first.rows], minlength=len(places))
    for seed, score in enumerate(scores):
        rows = by_id(score)
        if rows.keys() != {row.id for row in first.rows}:
            raise BadInput(f"{first.name} and {score.name} were not scored on the same utterances.")
        np.add.at(found[seed], index, [rows[row.id].counts.errors for row in first.rows])
    return "speaker" if speakers else "utterance", found, words


def _spread(errors: np.ndarray, words: np.ndarray, unit: str) -> Spread:
    seeds, n = errors.shape
    (mean,), (error,) = rate_and_error(squares(errors.mean(axis=0), words).sum(axis=0)[None], n)
    of_units = float(error) ** 2 if n > 1 else nan
    of_seeds = float((errors.sum(axis=1) / words.sum()).var(ddof=1)) / seeds if seeds > 1 else 0.0
    total = of_units + of_seeds
    parts = (of_units**2 / (n - 1) if n > 1 else nan) + (of_seeds**2 / (seeds - 1) if seeds > 1 else 0.0)
    return Spread(float(mean), sqrt(total) if total == total else nan, total**2 / parts if parts > 0 else float(max(n - 1, 1)), n, unit)


def compare_seeds(a: Sequence[Score], b: Sequence[Score], *, level: float = 0.95) -> Comparison:
    """b against a, each by several seeds (a system without any is given once): the test is about the mean over seeds.

    Raises: BadInput as `difference_over_seeds`.
    """
    found = difference_over_seeds(a, b)
    t = found.mean / found.error if found.error > 0 else float(np.sign(found.mean))
    test = Test("seeds", found.p, t, found.units, found.unit)
    verdict = verdict_of(found.p, t, found.mean)
    return Comparison(a[0].name, b[0].name, found.mean, found.interval(level), found.unit, found.p, verdict, test.name, "wer", (test,))


def by_unit(a: Sequence[Score], b: Sequence[Score]) -> tuple[str, np.ndarray, np.ndarray]:
    """(the unit, b's errors minus a's (units,), words (units,)), as means over the seeds: what `asrpeft.scoring.power.needed` takes."""
    unit, first, words = _by_unit(a)
    return unit, (_by_unit(b, like=a[0])[1].mean(axis=0) - first.mean(axis=0)), words
