"""Rates, differences and chances as text: one wording for every place that tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asrpeft.report.words import points
from asrpeft.scoring.intervals import Interval

if TYPE_CHECKING:
    from asrpeft.scoring.significance import Comparison

SMALLEST_P = 1e-4  # what is smaller is told as smaller: no test is sure of its further digits


def span(interval: Interval, *, signed: bool = False) -> str:
    """ "[10.1, 14.2]" in per cent, or points where `signed`; "n/a" where it is unknown."""
    if not interval.known:
        return "n/a"
    form = "+.1f" if signed else ".1f"
    return f"[{100 * interval.low:{form}}, {100 * interval.high:{form}}]"


def p_value(p: float) -> str:
    """0.0312 → "0.0312", 0.4 → "0.400", 1e-9 → "< 0.0001". Never "0", which no test can know."""
    if p < SMALLEST_P:
        return f"< {SMALLEST_P:.4f}"
    return f"{p:.4f}" if p < 0.1 else f"{p:.3f}"


def p_is(p: float) -> str:
    """ "p = 0.0312", "p < 0.0001"."""
    shown = p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def decisive_p(made: Comparison) -> str:
    """The p that the verdict follows: of several comparisons, after Holm."""
    return p_value(made.p if made.p_adjusted is None else made.p_adjusted)


def verdict(made: Comparison) -> str:
    """ "better than base", "not distinguishable from base"."""
    return f"{made.verdict} {'from' if made.verdict == 'not distinguishable' else 'than'} {made.a}"


def counted(cap: float | None) -> str:
    """What a test counts, where that is not every error."""
    return "" if cap is None else f"errors counted up to {100 * cap:.0f} % of an utterance"


def _rate(made: Comparison) -> str:
    return f"{made.metric.upper()}{'' if made.cap is None else ', capped,'} {points(made.difference)} points"


def _sure(made: Comparison) -> str:
    """The p that the verdict follows."""
    return p_is(made.p if made.p_adjusted is None else made.p_adjusted)


def sentence(made: Comparison) -> str:
    """The finding in words: who, by how much, how sure, by which test; and what the other rate says."""
    parts = [f"{_rate(made)}, interval {span(made.interval, signed=True)} over {made.interval_unit}s"]
    holm = "" if made.p_adjusted is None else f", {p_value(made.p_adjusted)} after Holm"
    parts.append(f"{p_is(made.p)}{holm} by {made.test}")
    if made.cap is not None:
        parts.append(counted(made.cap))
    parts += [f"{_rate(other)}: {other.verdict}, {_sure(other)}" for other in made.also if other.metric != made.metric]
    return f"{made.b} is {verdict(made)} ({'; '.join(parts)})."


def disagreements(made: Comparison) -> list[str]:
    """Whatever another view of the same two systems says otherwise, in whole sentences."""
    found = []
    for other in made.also:
        if other.metric != made.metric:
            signs = {points(one.difference)[0] for one in (made, other) if points(one.difference)[1:] != "0.00"}
            apart = len(signs) == 2 or {made.verdict, other.verdict} == {"better", "worse"}
            if apart or made.verdict != other.verdict:
                found.append(
                    f"{made.metric.upper()} and {other.metric.upper()} {'point different ways' if apart else 'do not agree'} for {made.b} "
                    f"against {made.a}: {_rate(made)} ({made.verdict}), {_rate(other)} ({other.verdict}, {_sure(other)})."
                )
        elif made.cap is not None:
            found.append(
                f"With every error counted, as in the rates, {made.b} is {verdict(other)} ({points(other.difference)} points, {_sure(other)}); "
                f"the verdict has {counted(made.cap)}."
            )
        elif made.verdict != other.verdict:
            found.append(
                f"With {counted(other.cap)}, so that a loop of invented words is one lost utterance and no more, {made.b} is "
                f"{verdict(other)} ({points(other.difference)} points, {_sure(other)}): invented words decide between the two."
            )
    return found
