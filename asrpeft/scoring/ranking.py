"""Several methods on one corpus: which is best, which cannot be told apart from it, and what it would take to tell them apart.

Two families of tests, each corrected for its number: every method against the base (m tests, by Holm's procedure), and every method
against every other (m · (m − 1) / 2 tests). The second is what a comparison with "the best" needs: the best is found on the same data,
and a test of it against one other is one of all pairs, whichever pair chance put forward. The interval of a difference to the best
is of that pair alone. Pairs are corrected by Westfall and Young's largest t over the speakers (`asrpeft.scoring.multiplicity`), which knows how alike
they are: Holm would ask of thousands of pairs for a p that no test of some ten speakers can give. Where speakers are few, and with several seeds,
whose tests are no tests of single speakers, it is Holm's procedure there too.

With several seeds a method's rate is the mean over them, and the tests are those of `asrpeft.scoring.seeds`; with one, those of
`asrpeft.scoring.significance`, which then speak of that seed.

Source: Holm, 1979, A simple sequentially rejective multiple test procedure; Westfall and Young, 1993; Hsu, 1996, Multiple Comparisons (on comparing with a best
that the data chose). `asrpeft.scoring.power` has the formula of how many speakers would be needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from asrpeft.report.words import counted, listed, percent, points
from asrpeft.scoring.errors import MIN_SPEAKERS, Score
from asrpeft.scoring.intervals import Interval
from asrpeft.scoring.multiplicity import max_t
from asrpeft.scoring.power import ALPHA, Needed, needed
from asrpeft.scoring.seeds import by_unit, compare_seeds, rate_over_seeds
from asrpeft.scoring.significance import Comparison, compare_one, holm, looked_at, noted, verdict_of

Scores = Sequence[Score]  # of one method, by seed
HOLM, MAX_T = "Holm", "the largest t"  # how pairs are corrected


@dataclass(frozen=True)
class ToBest:
    """A method against the one with the lowest WER.

    Attributes:
        test: of the method against the best; its `p_adjusted` is corrected for all pairs of methods.
        needed: how many speakers or utterances would tell the two apart; None where nothing can be said.
    """

    best: str
    test: Comparison
    needed: Needed | None

    @property
    def apart(self) -> bool:
        """Whether the two can be told apart."""
        return self.test.verdict != "not distinguishable"

    def to_json(self) -> dict[str, Any]:
        keys = ("difference", "interval", "interval_unit", "p", "p_adjusted", "verdict", "test")
        content = self.test.to_json()
        return {"best": self.best} | {key: content[key] for key in keys} | {"needed": None if self.needed is None else self.needed.to_json()}


@dataclass(frozen=True)
class Rate:
    """A method's WER, over its seeds where it has several; `low` and `high` are those of its seeds."""

    wer: float
    interval: Interval
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Ranking:
    """What the tests say. Dictionaries are by the method's name, in the order in which they were given."""

    rates: Mapping[str, Rate]
    against_base: Mapping[str, Comparison]
    best: str | None
    to_best: Mapping[str, ToBest]
    pairs: int
    correction: str = HOLM

    @property
    def tied(self) -> list[str]:
        """The methods that cannot be told apart from the best, the nearest first."""
        alike = [name for name, one in self.to_best.items() if not one.apart]
        return sorted(alike, key=lambda name: self.rates[name].wer)

    def sentences(self) -> list[str]:
        """Which is best, which cannot be told apart from it, and how many speakers would tell them."""
        if self.best is None or not self.to_best:
            return []
        lines = [f"{self.best} has the lowest WER, {percent(self.rates[self.best].wer)} %."]
        apart = f"p < {ALPHA:g} after {self.correction} over {counted(self.pairs, 'pair')}"
        if not self.tied:
            return [*lines, f"All others can be told apart from it ({apart})."]
        lines.append(f"It cannot be told apart from {listed(self.tied)} (not {apart}).")
        asked = [(name, one.needed) for name in self.tied if (one := self.to_best[name]).needed is not None]
        if asked:
            first = asked[0][1]
            assert first is not None
            amounts = [f"{name} {need.units:,} ({points(self.to_best[name].test.difference)} points)" for name, need in asked if need is not None]
            lines.append(
                f"To tell them with {first.power:.0%} power, if the differences are truly those that were seen, about so many {first.unit}s like the "
                f"{first.have:,} of this test would be needed: {', '.join(amounts)}."
            )
        else:
            lines.append("Nothing can be said of how many would tell them: they make the same errors.")
        return lines

    def to_json(self) -> dict[str, Any]:
        return {"best": self.best, "tied": self.tied, "pairs": self.pairs, "correction": self.correction, "sentences": self.sentences()}


@dataclass
class Ranker:
    """Methods as they come in. What two methods were found to differ by is kept: with each further one only its own pairs are new."""

    base: Score
    seed: int = 0
    _systems: dict[str, Scores] = field(default_factory=dict)
    _pairs: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    _whole: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    _of_base: dict[str, Comparison] = field(default_factory=dict)
    _rates: dict[str, Rate] = field(default_factory=dict)

    def add(self, name: str, scores: Scores) -> None:
        """A method's scores, by seed, under its name; given again they take the place of the old ones."""
        self._systems[name] = [_named(one, name) for one in scores]
        for known in (self._pairs, self._whole):
            for pair in [pair for pair in known if name in pair]:
                del known[pair]
        for own in (self._of_base, self._rates):
            own.pop(name, None)

    def ranking(self) -> Ranking:
        """What is known of the methods so far."""
        for name, scores in self._systems.items():
            self._rates.setdefault(name, _rate(scores))
            if name not in self._of_base:
                several = len(scores) > 1
                self._of_base[name] = compare_seeds([self.base], scores) if several else looked_at(self.base, scores[0], seed=self.seed)
        against_base = dict(zip(self._of_base, map(noted, holm(list(self._of_base.values()))), strict=True)) if self._of_base else {}
        names = list(self._systems)
        best = min(names, key=lambda name: self._rates[name].wer, default=None)
        pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
        correction, corrected = self._corrected(pairs)
        to_best = {name: self._to_best(best, name, corrected) for name in names if best is not None and name != best}
        return Ranking({name: self._rates[name] for name in names}, {name: against_base[name] for name in names}, best, to_best, len(pairs), correction)

    def _corrected(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, dict[tuple[str, str], tuple[float, float]]]:
        """(by which procedure, by pair the p corrected for all of them and the statistic, positive where the second makes more errors)."""
        if len(pairs) > 1 and all(len(one) == 1 and len(one[0].speakers) >= MIN_SPEAKERS for one in self._systems.values()):
            errors, words = self._by_speaker()
            t, p = max_t(np.stack([(errors[b] - errors[a]) / words for a, b in pairs], axis=1), seed=self.seed)
            return MAX_T, {pair: (float(own), float(statistic)) for pair, own, statistic in zip(pairs, p, t, strict=True)}
        for pair in pairs:
            if pair not in self._pairs:
                self._pairs[pair] = self._compared(*pair, whole=False)
        tests = holm([self._pairs[pair] for pair in pairs])
        return HOLM, {pair: (cast(float, one.p_adjusted), one.tests[0].statistic) for pair, one in zip(pairs, tests, strict=True)}

    def _by_speaker(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """(by name, errors more than the base's (speakers,); words (speakers,)): once a system, of which there are fewer than pairs."""
        found = {name: by_unit([self.base], scores)[1:] for name, scores in self._systems.items()}
        return {name: more for name, (more, _) in found.items()}, np.maximum(next(iter(found.values()))[1], 1)

    def _to_best(self, best: str, name: str, corrected: Mapping[tuple[str, str], tuple[float, float]]) -> ToBest:
        pair = (best, name)
        if pair not in self._whole:
            self._whole[pair] = self._compared(*pair, whole=True)
        test = self._whole[pair]
        p, statistic = corrected[pair] if pair in corrected else (corrected[name, best][0], -corrected[name, best][1])
        p = max(p, test.p)
        unit, delta, words = by_unit(self._systems[best], self._systems[name])
        test = replace(test, p_adjusted=p, verdict=verdict_of(p, statistic, test.difference))
        return ToBest(best, test, needed(delta, words, unit, comparisons=len(corrected)))

    def _compared(self, a: str, b: str, *, whole: bool) -> Comparison:
        """`whole`: with the interval, which takes the time."""
        first, second = self._systems[a], self._systems[b]
        if len(first) > 1 or len(second) > 1:
            return compare_seeds(first, second)
        return compare_one(first[0], second[0], seed=self.seed) if whole else compare_one(first[0], second[0], seed=self.seed, resamples=0)


def _rate(scores: Scores) -> Rate:
    wers = tuple(one.wer for one in scores)
    return Rate(wers[0], scores[0].wer_interval, wers) if len(scores) == 1 else Rate(sum(wers) / len(wers), rate_over_seeds(scores).interval(least=0.0), wers)


def _named(score: Score, name: str) -> Score:
    return replace(score, name=name)
