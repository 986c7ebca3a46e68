"""Learning-rate schedules: the share of the peak rate at a given share of the run.

    warm-up    p / w                    until p = w, then with q = (p − w) / (1 − w)
    linear     1 − q
    cosine     (1 + cos πq) / 2
    constant   1
    onecycle   up to 1 and down again to 0.1, each in 45 % of the run, then to 0; it has no other warm-up
    range      (10⁻⁶)^(1 − p): from a millionth of the peak up to it, to find out which rate to take (see `asrpeft.training.rate_range`)

Sources: one cycle, https://arxiv.org/abs/1803.09820; the range test, https://arxiv.org/abs/1506.01186.
They depend on nothing but progress, so that there is no state to save, and planning by time works as planning by steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from asrpeft.registry import Registry

Schedule = Callable[[float], float]  # the share of the peak rate at a share q of what comes after the warm-up
SCHEDULES: Registry[Schedule] = Registry("schedule", None)


@SCHEDULES.register("linear")
def linear(q: float) -> float:
    return 1.0 - q


@SCHEDULES.register("cosine")
def cosine(q: float) -> float:
    return (1.0 + math.cos(math.pi * q)) / 2.0


@SCHEDULES.register("constant")
def constant(q: float) -> float:
    return 1.0


@SCHEDULES.register("onecycle")
def onecycle(p: float) -> float:
    turn = 0.45
    if p < 2 * turn:
        return 1.0 - 0.9 * abs(p / turn - 1.0)
    return 0.1 * (1.0 - p) / (1.0 - 2 * turn)


@SCHEDULES.register("range")
def rising(p: float) -> float:
    return RANGE ** (1.0 - p)


RANGE = 1e-6  # the lowest share of the peak in `range`
WHOLE = ("onecycle", "range")  # they say how a run begins themselves


def rate(schedule: str, progress: float, *, warmup: float) -> float:
    """The share of the peak rate at `progress` (0 … 1) of the run, of which the first `warmup` (0 … 1) is a linear rise unless the
    schedule has a rise of its own."""
    progress = min(max(progress, 0.0), 1.0)
    warmup = 0.0 if schedule in WHOLE else warmup
    if progress < warmup:
        return progress / warmup
    return SCHEDULES[schedule]((progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0)


def momentum(schedule: str, progress: float) -> float | None:
    """What Adam's first beta is at `progress` of a run, where the schedule moves it against the rate: 0.95 where that is low, 0.85 at its
    peak. None where it stays."""
    return 0.95 - 0.1 * max(0.0, 1.0 - abs(min(max(progress, 0.0), 1.0) / 0.45 - 1.0)) if schedule == "onecycle" else None
