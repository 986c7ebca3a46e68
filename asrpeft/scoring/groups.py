"""One score, taken apart by any column of the corpus: speaker, age, gender, duration, noise, …

Each group has its own counts and interval. The gap is the worst group's WER minus the best's. As the two were picked
because they are extreme, some gap always shows: its p is that of a permutation test, the share of random regroupings of
the same units into groups of the same sizes whose gap is at least as wide. Whole speakers move between groups where
each speaker belongs to one group and there are ten or more, and two for each group (speakers one by one could only
change places); utterances otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, cast

import numpy as np

from asrpeft.errors import BadInput
from asrpeft.scoring.errors import MIN_SPEAKERS, Counts, Score, UtteranceScore, grouped_counts
from asrpeft.scoring.intervals import RESAMPLES, Interval, Method, ratio_interval, resample_sums

MISSING = "(not given)"
PERMUTATIONS = 2_000


@dataclass(frozen=True)
class Group:
    """The utterances that share one value of the column."""

    value: str
    counts: Counts
    wer_interval: Interval
    cer_interval: Interval
    interval_unit: str
    utterances: int
    speakers: int | None

    def to_json(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "value": self.value,
            "wer": _number(counts.wer),
            "cer": _number(counts.cer),
            "wer_interval": self.wer_interval.to_json(),
            "cer_interval": self.cer_interval.to_json(),
            "interval_unit": self.interval_unit,
            "words": counts.words,
            "characters": counts.characters,
            "substitutions": counts.substitutions,
            "insertions": counts.insertions,
            "deletions": counts.deletions,
            "utterances": self.utterances,
            "speakers": self.speakers,
        }


@dataclass(frozen=True)
class Gap:
    """Worst group's WER minus best group's; `p` is the chance of as wide a gap had the grouping no meaning."""

    best: str
    worst: str
    difference: float
    interval: Interval
    interval_unit: str
    p: float
    permuted_unit: str

    def to_json(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "worst": self.worst,
            "difference": self.difference,
            "interval": self.interval.to_json(),
            "interval_unit": self.interval_unit,
            "p": self.p,
            "permuted_unit": self.permuted_unit,
        }


@dataclass(frozen=True)
class Breakdown:
    """A system's groups by one column, worst first (ranges of numbers: in order), and the gap between worst and best.

    The gap is None with fewer than two groups.
    """

    system: str
    column: str
    groups: tuple[Group, ...]
    gap: Gap | None

    def to_json(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "column": self.column,
            "groups": [group.to_json() for group in self.groups],
            "gap": None if self.gap is None else self.gap.to_json(),
        }


def breakdown(
    score: Score,
    values: Sequence[Any] | Mapping[str, Any],
    *,
    column: str = "group",
    bins: int = 4,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Breakdown:
    """Group the utterances of a score by a value each.

    Args:
        values: one per row, or by utterance id. None, "" and nan are a group of their own. Numbers of more than `bins`
            different values are cut at their quantiles into `bins` ranges of about as many utterances, unless they
            are the names of the score's speakers.
    Raises:  BadInput when a row has no value at all, or the counts differ.
    """
    if isinstance(values, Mapping):
        if missing := [row.id for row in score.rows if row.id not in values]:
            raise BadInput(f"column {column!r} has no value for {len(missing)} utterances, e.g. {', '.join(missing[:3])}.")
        values = [values[row.id] for row in score.rows]
    if len(values) != len(score.rows):
        raise BadInput(f"column {column!r} has {len(values)} values for {len(score.rows)} utterances; give one for each.")
    names = all(_missing(value) or str(value) == row.speaker for value, row in zip(values, score.rows, strict=True))
    labels = _named(values) if names else binned(values, bins=bins)
    members: dict[str, list[UtteranceScore]] = {}
    for row, label in zip(score.rows, labels, strict=True):
        members.setdefault(label, []).append(row)
    level, method = score.wer_interval.level, cast(Method, score.wer_interval.method)
    groups = [_group(label, rows, level=level, method=method, seed=seed, resamples=resamples) for label, rows in members.items()]
    groups.sort(key=lambda group: (-group.counts.wer if group.counts.words else 1.0, group.value))
    compared = [group for group in groups if group.counts.words and group.value != MISSING]
    if set(labels) - {MISSING} != {str(value) for value in values if not _missing(value)}:
        groups.sort(key=lambda group: (group.value == MISSING, _as_number(group.value.split(" to ")[0]) or 0.0))
    gap = None
    if len(compared) >= 2:
        used = {group.value: members[group.value] for group in compared}
        gap = _gap(compared[0].value, compared[-1].value, used, level=level, seed=seed, resamples=resamples)
    return Breakdown(score.name, column, tuple(groups), gap)


def binned(values: Sequence[Any], *, bins: int = 4) -> list[str]:
    """Labels of groups: the values themselves, or ranges between quantiles where they are many numbers."""
    numbers = [_as_number(value) for value in values]
    given = [number for number, value in zip(numbers, values, strict=True) if not _missing(value)]
    if not given or None in given or len(set(given)) <= max(bins, 2):
        return _named(values)
    edges: np.ndarray = np.unique(np.quantile([one for one in given if one is not None], np.linspace(0, 1, bins + 1)))
    places = np.clip(np.searchsorted(edges, [nan if n is None else n for n in numbers], "right") - 1, 0, len(edges) - 2)
    return [MISSING if _missing(value) else f"{edges[place]:.4g} to {edges[place + 1]:.4g}" for value, place in zip(values, places, strict=True)]


def _named(values: Sequence[Any]) -> list[str]:
    return [MISSING if _missing(value) else str(value) for value in values]


def _missing(value: Any) -> bool:
    return value is None or value != value or isinstance(value, str) and value.strip().lower() in ("", "nan")


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def _number(value: float) -> float | None:
    return None if value != value else value


def _group(label: str, rows: list[UtteranceScore], *, level: float, method: Method, seed: int, resamples: int) -> Group:
    unit, units = grouped_counts(rows)
    wer, cer = (
        ratio_interval(*_arrays(units, *names), level=level, method=method, seed=seed, resamples=resamples)
        for names in (("errors", "words"), ("character_errors", "characters"))
    )
    speakers = {row.speaker for row in rows}
    total = sum((row.counts for row in rows), Counts())
    return Group(label, total, wer, cer, unit, len(rows), None if None in speakers else len(speakers))


def _arrays(units: Sequence[Counts], errors: str, totals: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array([getattr(u, errors) for u in units]), np.array([getattr(u, totals) for u in units])


def _gap(worst: str, best: str, members: Mapping[str, list[UtteranceScore]], *, level: float, seed: int, resamples: int) -> Gap:
    unit, pairs = "speaker", []
    for name in (worst, best):
        group_unit, units = grouped_counts(members[name])
        pairs.append(units)
        unit = group_unit if group_unit == "utterance" else unit
    if unit == "utterance":
        pairs = [[row.counts for row in members[name]] for name in (worst, best)]
    observed = [sum(units, Counts()).wer for units in pairs]
    interval = _difference_interval(pairs, level, seed, resamples)
    permuted, p = _permutation(members, observed[0] - observed[1], seed)
    return Gap(best, worst, observed[0] - observed[1], interval, unit, p, permuted)


def _difference_interval(pairs: Sequence[Sequence[Counts]], level: float, seed: int, resamples: int) -> Interval:
    """Percentile bootstrap of the difference of two independent rates, each group resampled by itself."""
    fewest = min(len(units) for units in pairs)
    if fewest < 2 or resamples < 1:
        return Interval(nan, nan, level, "percentile", fewest)
    rng = np.random.default_rng(seed)
    rates = []
    for units in pairs:
        sums = resample_sums(np.stack(_arrays(units, "errors", "words"), axis=1), resamples, rng)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], nan))
    difference = rates[0] - rates[1]
    if np.isnan(difference).all():
        return Interval(nan, nan, level, "percentile", fewest)
    low, high = np.nanquantile(difference, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, "percentile", sum(len(units) for units in pairs))


def _permutation(members: Mapping[str, list[UtteranceScore]], observed: float, seed: int) -> tuple[str, float]:
    """("speaker" or "utterance", share of regroupings whose widest gap is at least the observed one)."""
    groups_of: dict[str | None, set[str]] = {}
    for label, rows in members.items():
        for row in rows:
            groups_of.setdefault(row.speaker, set()).add(label)
    by_speaker = None not in groups_of and len(groups_of) >= max(MIN_SPEAKERS, 2 * len(members)) and all(len(labels) == 1 for labels in groups_of.values())
    table: list[tuple[int, int]] = []
    starts: list[int] = []
    for rows in members.values():
        starts.append(len(table))
        if by_speaker:
            sums: dict[str | None, Counts] = {}
            for row in rows:
                sums[row.speaker] = sums.get(row.speaker, Counts()) + row.counts
            table.extend((counts.errors, counts.words) for counts in sums.values())
        else:
            table.extend((row.counts.errors, row.counts.words) for row in rows)
    values = np.array(table, dtype=np.float64)
    rng, wider, tried = np.random.default_rng(seed), 0, 0
    step = max(1, 2_000_000 // len(values))
    while tried < PERMUTATIONS:
        count = min(step, PERMUTATIONS - tried)
        order = rng.permuted(np.tile(np.arange(len(values)), (count, 1)), axis=1)
        errors = np.add.reduceat(values[order, 0], starts, axis=1)
        words = np.add.reduceat(values[order, 1], starts, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.where(words > 0, errors / words, nan)
        wider += int((np.nanmax(rates, axis=1) - np.nanmin(rates, axis=1) >= observed - 1e-12).sum())
        tried += count
    return ("speaker" if by_speaker else "utterance"), (1 + wider) / (1 + tried)
