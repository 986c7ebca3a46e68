"""Learning-rate schedules: the share of the peak rate at a given share of the run.

    warm-up    p / w                    until p = w, then with q = (p − w) / (1 − w)
    linear     1 − q
    cosine     (1 + cos πq) / 2
    constant   1

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


def rate(schedule: str, progress: float, *, warmup: float) -> float:
    """The share of the peak rate at `progress` (0 … 1) of the run, of which the first `warmup` (0 … 1) is a linear rise."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    return SCHEDULES[schedule]((progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0)
