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
