"""How fast: the real-time factor of a whole run, and the spread of delays in a stream. Times in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrpeft.errors import BadInput


@dataclass(frozen=True)
class Speed:
    """`real_time_factor` below 1 is faster than speech; `audio_seconds_per_second` is its inverse."""

    audio_seconds: float
    seconds: float

    def __post_init__(self) -> None:
        if not (self.audio_seconds > 0 and self.seconds > 0):
            raise BadInput(f"a speed needs positive durations; got {self.audio_seconds} s of audio in {self.seconds} s of work.")

    @property
    def real_time_factor(self) -> float:
        return self.seconds / self.audio_seconds

    @property
    def audio_seconds_per_second(self) -> float:
        return self.audio_seconds / self.seconds

    def to_json(self) -> dict[str, float]:
        return {
            "audio_seconds": self.audio_seconds,
            "seconds": self.seconds,
            "real_time_factor": self.real_time_factor,
            "audio_seconds_per_second": self.audio_seconds_per_second,
        }


@dataclass(frozen=True)
class Latency:
    """Delays in seconds, for instance from the end of a word to its commit."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    longest: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def latency(delays: Sequence[float]) -> Latency:
    """Mean and quantiles of delays in seconds. Raises BadInput when there is none, or one is not a number."""
    values = np.asarray(delays, dtype=np.float64)
    if not len(values) or not np.all(np.isfinite(values)):
        raise BadInput("latency needs at least one delay, and every one a finite number of seconds.")
    p50, p90, p95, p99 = (float(q) for q in np.quantile(values, [0.5, 0.9, 0.95, 0.99]))
    return Latency(len(values), float(values.mean()), p50, p90, p95, p99, float(values.max()))
