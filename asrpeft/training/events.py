"""What a run tells while it works: small frozen values given to a callback. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asrpeft.corpus import Skipped


@dataclass(frozen=True)
class Step:
    """An optimizer step was taken.

    Attributes:
        step: steps taken so far, over all interruptions.
        total: steps planned; None where time is what is planned.
        loss: per token, of this step.
        lr: learning rate it was taken with.
        utterances_per_second: since the loop began, without evaluation.
        remaining_s: estimated seconds to the end.
    """

    step: int
    total: int | None
    loss: float
    lr: float
    utterances_per_second: float
    remaining_s: float


@dataclass(frozen=True)
class DevScore:
    """The development data were looked at. `kind` is `loss` or `wer` (a fraction); lower is better for both.

    Where rates were looked at, `by` is the measure that judges these weights (`wer`, `cer` or `loss`), see
    `asrpeft.training.choice`; `loss` is None where it was not needed.
    """

    step: int
    score: float
    kind: str
    best: bool
    cer: float | None = None
    loss: float | None = None
    by: str | None = None


@dataclass(frozen=True)
class GuardScore:
    """Weights that were the best so far were held against the guard data. `loss`, `max_loss`: fractions of WER."""

    step: int
    loss: float
    max_loss: float
    passed: bool


@dataclass(frozen=True)
class Scoring:
    """The evaluation data are being transcribed: `done` of `total` utterances, over all systems."""

    done: int
    total: int
    system: str


@dataclass(frozen=True)
class Message:
    """A sentence for a person."""

    text: str


@dataclass(frozen=True)
class Interim:
    """What a job of several runs has found so far: a comparison of methods, a curve over amounts, one more speaker."""

    found: Any


Event = Step | DevScore | GuardScore | Scoring | Skipped | Message | Interim
Progress = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A callback for those who do not want to know."""


__all__ = ["DevScore", "Event", "GuardScore", "Interim", "Message", "Progress", "Scoring", "Skipped", "Step", "ignore"]
