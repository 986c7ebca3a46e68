"""Pictures of a report, each drawn from values, none from text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from asrpeft.report import Picture
from asrpeft.report.figures import COLORS, MARKERS, canvas, diagonal, name_rows
from asrpeft.scoring.confidence import Calibration
from asrpeft.scoring.errors import Score
from asrpeft.scoring.intervals import Interval
from asrpeft.scoring.report.values import speaker_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from asrpeft.scoring.report.contents import Amount, Condition, Report

_MOST_GROUPS = 30


def pictures(report: Report) -> Iterator[Picture]:
    """Everything in the report that can be drawn."""
    yield Picture("wer", "WER and its interval", lambda: rates(report.scores))
    pair = [score for score in report.scores if score.speakers]
    if len(pair) >= 2 and len(pair[0].speakers) > 1:
        yield Picture("speakers", f"Each speaker under {pair[0].name} and {pair[-1].name}", lambda: by_speaker(pair[0], pair[-1]))
    for column in dict.fromkeys(one.column for one in report.breakdowns):
        groups = [(one.system, one.groups[:_MOST_GROUPS]) for one in report.breakdowns if one.column == column]
        most = max(len(one.groups) for one in report.breakdowns if one.column == column)
        cut = f" (the {_MOST_GROUPS} worst of {most})" if most > _MOST_GROUPS else ""
        yield Picture(f"by-{column}", f"WER by {column}{cut}", partial(group_rates, groups))
    yield Picture("utterances", "Share of utterances with at most this WER", lambda: distribution(report.scores))
    if report.conditions:
        yield Picture("conditions", "WER under disturbance", lambda: disturbance(report.conditions))
    if report.curve:
        yield Picture("amounts", "WER by amount of adaptation data", lambda: learning_curve(report.curve, unit=report.amount_unit))
    if report.calibrations:
        yield Picture("confidence", "Confidence against how often words were right", lambda: reliability(report.calibrations.items()))


def rates(scores: Sequence[Score]) -> Figure:
    """Systems from top to bottom, WER as a dot with its interval."""
    figure, axes = canvas(height=0.6 + 0.45 * len(scores))
    for place, score in enumerate(scores):
        _dot(axes, place, score.wer, score.wer_interval, place)
        axes.annotate(f"{100 * score.wer:.1f}", (100 * score.wer, place), (0, 7), textcoords="offset points", ha="center", size=8)
    name_rows(axes, [score.name for score in scores])
    axes.set_ylim(len(scores) - 0.4, -0.75)
    _zero(axes)
    axes.set_xlabel("WER, %")
    return figure


def by_speaker(a: Score, b: Score) -> Figure:
    """One dot per speaker, WER under a across and under b upwards: below the diagonal b is better."""
    rates_of = [{speaker: 100 * counts.wer for speaker, counts in speaker_counts(score).items() if counts.words} for score in (a, b)]
    both = [speaker for speaker in rates_of[0] if speaker in rates_of[1]]
    across, up = ([rate[speaker] for speaker in both] for rate in rates_of)
    figure, axes = diagonal(across, up)
    axes.scatter(across, up, s=26, color=COLORS[0], alpha=0.75, edgecolor="white", linewidth=0.5)
    axes.set(xlabel=f"WER under {a.name}, %", ylabel=f"WER under {b.name}, %")
    axes.text(0.97, 0.04, f"{b.name} better", transform=axes.transAxes, ha="right", size=8, color="#555")
    axes.text(0.03, 0.95, f"{a.name} better", transform=axes.transAxes, ha="left", va="top", size=8, color="#555")
    return figure


def group_rates(groups: Sequence[tuple[str, Sequence[Any]]]) -> Figure:
    """Groups from top to bottom in the first system's order, one dot per system."""
    order = list(dict.fromkeys(group.value for _, found in groups for group in found))
    figure, axes = canvas(height=0.8 + (0.3 + 0.14 * (len(groups) - 1)) * len(order))
    for system, (name, found) in enumerate(groups):
        shift = 0.5 * ((system + 0.5) / len(groups) - 0.5)
        label: str | None = name
        for group in found:
            if group.counts.words:
                _dot(axes, order.index(group.value) + shift, group.counts.wer, group.wer_interval, system, label)
                label = None
    name_rows(axes, order)
    axes.set_ylim(len(order) - 0.4, -0.6)
    _zero(axes)
    axes.set_xlabel("WER, %")
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def distribution(scores: Sequence[Score]) -> Figure:
    """Cumulative share of utterances by their WER; beyond 150 % is drawn at 150."""
    figure, axes = canvas(height=3.0)
    for place, score in enumerate(scores):
        found = np.sort([min(100 * row.counts.wer, 150.0) for row in score.rows if row.counts.words])
        share = 100 * np.arange(1, len(found) + 1) / len(found)
        style = ("-", "--", "-.", ":")[place % 4]
        axes.step([0, *found], [0, *share], where="post", color=COLORS[place % 6], linestyle=style, label=score.name)
    axes.set(xlabel="WER of the utterance, %", ylabel="utterances, %", ylim=(0, 101), xlim=(0, None))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def disturbance(conditions: Sequence[Condition]) -> Figure:
    """Conditions from left to right, a line per system, intervals as bars."""
    figure, axes = canvas(height=3.2)
    names = [score.name for score in conditions[0].scores]
    for place, name in enumerate(names):
        found = [condition.scores[place] for condition in conditions]
        _line(axes, range(len(found)), found, place, name)
    axes.set_xticks(range(len(conditions)), [condition.name for condition in conditions], rotation=20, ha="right")
    axes.set_ylim(0, None)
    axes.set_ylabel("WER, %")
    axes.legend(frameon=False, fontsize=8)
    return figure


def learning_curve(curve: Sequence[Amount], *, unit: str = "hours") -> Figure:
    """WER over the amount of adaptation data (logarithmic where it spans more than tenfold), a line per system name."""
    figure, axes = canvas(height=3.2)
    names = dict.fromkeys(one.score.name for one in curve)
    for place, name in enumerate(names):
        own = sorted((one for one in curve if one.score.name == name), key=lambda one: one.amount)
        _line(axes, [one.amount for one in own], [one.score for one in own], place, name)
    amounts = [one.amount for one in curve]
    if min(amounts) > 0 and max(amounts) / min(amounts) > 10:
        axes.set_xscale("log")
    axes.set_ylim(0, None)
    axes.set(xlabel=f"adaptation data, {unit}", ylabel="WER, %")
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def reliability(calibrations: Iterable[tuple[str, Calibration]]) -> Figure:
    """Accuracy over confidence by bin; on the diagonal confidences mean what they say. Dots grow with their words."""
    figure, axes = canvas(width=4.6, height=4.2)
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, zorder=0)
    for place, (name, made) in enumerate(calibrations):
        sizes = [20 + 160 * one.count / made.words for one in made.bins]
        points = ([one.confidence for one in made.bins], [one.accuracy for one in made.bins])
        axes.plot(*points, color=COLORS[place % 6], linewidth=1)
        axes.scatter(*points, s=sizes, color=COLORS[place % 6], alpha=0.7, label=f"{name}, ECE {made.ece:.3f}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share of words right")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _dot(axes: Any, y: float, rate: float, interval: Interval, place: int, label: str | None = None) -> None:
    color = COLORS[place % 6]
    if interval.known:
        axes.plot([100 * interval.low, 100 * interval.high], [y, y], color=color, linewidth=2, alpha=0.6)
    axes.plot([100 * rate], [y], marker=MARKERS[place % 6], color=color, markersize=6, linestyle="none", label=label)


def _line(axes: Any, across: Iterable[float], scores: Sequence[Score], place: int, name: str) -> None:
    across, wer = list(across), np.array([100 * score.wer for score in scores])
    intervals = [(100 * one.wer_interval.low, 100 * one.wer_interval.high) for one in scores]
    low = [w - least if least == least else 0.0 for w, (least, _) in zip(wer, intervals, strict=True)]
    high = [most - w if most == most else 0.0 for w, (_, most) in zip(wer, intervals, strict=True)]
    bars = np.maximum([low, high], 0.0)
    axes.errorbar(across, wer, yerr=bars, marker=MARKERS[place % 6], color=COLORS[place % 6], capsize=3, label=name)


def _zero(axes: Any) -> None:
    axes.set_xlim(0, max(axes.get_xlim()[1], 1.0))
