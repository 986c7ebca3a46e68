"""A learning-rate range test: a short run whose rate rises from nothing to too much, and where the loss fell fastest.

    rate(p) = highest · (10⁻⁶)^(1 − p)      loss̄: an exponential mean of the steps' losses      suggested: where d loss̄ / d log rate is lowest

The rate that is suggested is one to begin with, not the best one; the best is often within a factor of three of it. The adapter is as it was
afterwards. Source: Smith, https://arxiv.org/abs/1506.01186, with the reading by steepest fall that fastai made common.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asrpeft.errors import Failure
from asrpeft.options import TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.training.events import Progress, Step, ignore
from asrpeft.training.examples import TrainingData
from asrpeft.training.loop import train
from asrpeft.training.selection import weights_of

SMOOTHING = 0.8  # of the losses: about five steps
DIVERGED = 4.0  # times the lowest loss: what comes after is not read


@dataclass(frozen=True)
class RateRange:
    """What a range test found.

    Attributes:
        rates, losses: of each step; smooth: the mean that was read, up to where the loss diverged.
        suggested: the rate at which the loss fell fastest; None where it never fell.
        highest: the rate after which the loss rose again: as much as a peak rate can be.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    suggested: float | None
    highest: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def find_rate(
    recognizer: Recognizer, name: str, data: TrainingData, *, options: TrainingOptions, steps: int = 100, highest: float = 1.0, progress: Progress = ignore
) -> RateRange:
    """Train the attached adapter `name` for `steps` steps with a rising rate, and put its weights back.

    Args:   options: as for `train`; their length, rate, schedule and clipping are the test's own.
            highest: the rate at the end.
    Raises: BadInput, BadCorpus as `train` does; Failure where not even the lowest rates give a loss that is a number.
    """
    adapter = recognizer.adapters[name]
    before = weights_of(adapter)
    seen: list[tuple[float, float]] = []

    def watch(event: Any) -> None:
        if isinstance(event, Step):
            seen.append((event.lr, event.loss))
        progress(event)

    changes: dict[str, Any] = {"epochs": None, "minutes": None, "steps": steps, "lr": highest, "schedule": "range", "clip": 0.0}
    try:
        train(recognizer, name, data, options=dataclasses.replace(options, **changes), progress=watch)
    except Failure:  # the loss is no longer a number: high enough
        if not any(math.isfinite(loss) for _, loss in seen):
            raise
    finally:
        adapter.load_state_dict(before)
    return judge([rate for rate, _ in seen], [loss for _, loss in seen])


def judge(rates: Sequence[float], losses: Sequence[float]) -> RateRange:
    """Read a range test: rates rise by equal factors."""
    smooth: list[float] = []
    mean = 0.0
    for i, loss in enumerate(losses):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        current = mean / (1 - SMOOTHING ** (i + 1))
        if not math.isfinite(current) or (smooth and current > DIVERGED * min(smooth)):
            break
        smooth.append(current)
    lowest = min(range(len(smooth)), key=smooth.__getitem__)
    falls = [(smooth[i + 1] - smooth[i - 1], i) for i in range(1, min(lowest + 1, len(smooth) - 1))]
    fastest = min(falls, default=(0.0, 0))
    suggested = rates[fastest[1]] if fastest[0] < 0 else None
    return RateRange(tuple(rates), tuple(losses), tuple(smooth), suggested, rates[lowest])
