"""Which weights are kept: the best on the development data, by the first measure that says something about them.

    WER    below 90 %
    CER    where WER is not below 90 % and CER is: who gets hardly a word right may get half of the letters right, or a tenth
    loss   where neither is: per token, the right ones before it given, so that babbling and silence are no part of it

At a WER of 100 % and more, more errors may mean more words attempted, and fewer errors mean silence: an evaluation early in training
wins that has learned nothing but to stop. Weights that an earlier measure can judge are better than those it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asrpeft.corpus import Corpus
from asrpeft.errors import BadInput
from asrpeft.training.guard import Guard

SAYS_LITTLE = 0.9  # from this rate on, WER or CER chooses nothing
MEASURES = ("wer", "cer", "loss")


@dataclass(frozen=True)
class Rates:
    """What an adapter makes of the development data, as fractions."""

    wer: float
    cer: float


@dataclass(frozen=True)
class DevResult:
    """One evaluation. `by`: the measure that judges it, `value` by that measure, `loss` only where it was needed."""

    wer: float
    cer: float
    loss: float | None
    by: str
    value: float

    @property
    def rank(self) -> tuple[int, float]:
        """Lower is better."""
        return MEASURES.index(self.by), self.value


def judge(rates: Rates, loss: Callable[[], float]) -> DevResult:
    """An evaluation, judged by the first measure that says something; `loss` is asked only where neither rate does."""
    if rates.wer < SAYS_LITTLE:
        return DevResult(rates.wer, rates.cer, None, "wer", rates.wer)
    if rates.cer < SAYS_LITTLE:
        return DevResult(rates.wer, rates.cer, None, "cer", rates.cer)
    value = loss()
    return DevResult(rates.wer, rates.cer, value, "loss", value)


@dataclass(frozen=True)
class Choice:
    """What chooses among the weights of a run.

    Attributes:
        dev: the development data; without them the last weights are kept.
        score: what to choose by, called with the adapter in evaluation mode: its rates on `dev`, of which the first that says
            something chooses, else the loss; or any number (lower is better). Without it, the loss on `dev`.
        guard: among the evaluations on `dev`, only weights that lose at most this much on what the base could do are kept.
        keep: "last" leaves the weights of the last step in the adapter, whatever the development data say; "best" gives them
            in the result, if they are others.
    """

    dev: Corpus | None = None
    score: Callable[[], float | Rates] | None = None
    guard: Guard | None = None
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.guard is not None and self.dev is None:
            raise BadInput("Weights that forget too much are left out among evaluations on development data: give --dev-data.")
        if self.keep not in ("best", "last"):
            raise BadInput(f"There is no keep={self.keep!r}; choose 'best' or 'last'.")
        if self.guard is not None and self.keep == "last":
            raise BadInput("With --keep last nothing is chosen, so that --max-loss can refuse nothing. Keep one of the two.")

    @property
    def kind(self) -> str:
        return "wer" if self.score is not None else "loss"
