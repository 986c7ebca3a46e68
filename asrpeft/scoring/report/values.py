"""The numbers of every picture of a report as rows, for a spreadsheet or a program of one's own. Rates are fractions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from asrpeft.report.values import Row
from asrpeft.scoring.errors import Counts, Score
from asrpeft.scoring.intervals import Interval

if TYPE_CHECKING:
    from asrpeft.scoring.report.contents import Report


def of_score(score: Score) -> Row:
    """A score as the columns that tables and pictures share."""
    counts = score.counts
    return {
        "wer": score.wer,
        **bounds("wer", score.wer_interval),
        "cer": score.cer,
        **bounds("cer", score.cer_interval),
        "interval_unit": score.interval_unit,
        "words": counts.words,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
        "characters": score.characters,
        "utterances": score.utterances,
        "normalizer": score.normalizer,
    }


def bounds(name: str, interval: Interval) -> Row:
    return {f"{name}_low": interval.low if interval.known else None, f"{name}_high": interval.high if interval.known else None}


def tables(report: Report) -> Iterator[tuple[str, list[Row]]]:
    """(a name for the file, rows) of everything that `asrpeft.scoring.report.plots.pictures` draws, in its order."""
    yield "systems", [{"system": score.name, **of_score(score)} for score in report.scores]
    if any(score.speakers for score in report.scores):
        yield "speakers", [row for score in report.scores for row in _speakers(score)]
    for column, made in groupby(sorted(report.breakdowns, key=lambda one: one.column), key=lambda one: one.column):
        yield f"by-{column}", [row for one in made for row in _groups(column, one)]
    yield (
        "utterances",
        [
            {"system": score.name, "id": row.id, "speaker": row.speaker, "words": row.counts.words, "errors": row.counts.errors, "wer": _rate(row.counts)}
            for score in report.scores
            for row in score.rows
        ],
    )
    if report.conditions:
        yield "conditions", [{"condition": one.name, "system": score.name, **of_score(score)} for one in report.conditions for score in one.scores]
    if report.curve:
        yield "amounts", [{report.amount_unit: one.amount, "system": one.score.name, **of_score(one.score)} for one in report.curve]
    if report.calibrations:
        yield (
            "confidence",
            [
                {"system": name, "words": one.count, "confidence": one.confidence, "right": one.accuracy}
                for name, made in report.calibrations.items()
                for one in made.bins
            ],
        )


def speaker_counts(score: Score) -> dict[str | None, Counts]:
    """What each speaker's utterances add up to, in the order in which speakers come up."""
    sums: dict[str | None, Counts] = {}
    for row in score.rows:
        sums[row.speaker] = sums.get(row.speaker, Counts()) + row.counts
    return sums


def _speakers(score: Score) -> Iterator[Row]:
    for speaker, counts in speaker_counts(score).items():
        yield {"speaker": speaker, "system": score.name, "words": counts.words, "errors": counts.errors, "wer": _rate(counts)}


def _groups(column: str, made: Any) -> Iterator[Row]:
    for group in made.groups:
        rates = {"wer": _rate(group.counts), **bounds("wer", group.wer_interval), "cer": group.counts.cer}
        yield {column: group.value, "system": made.system, **rates, "words": group.counts.words, "utterances": group.utterances, "speakers": group.speakers}


def _rate(counts: Counts) -> float | None:
    return counts.wer if counts.words else None
