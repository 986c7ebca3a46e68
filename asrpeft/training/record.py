"""What a run did: the value that `train` gives, and what is noted on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from asrpeft.corpus import Skipped
from asrpeft.training.checkpoints import State
from asrpeft.training.events import Progress


@dataclass(frozen=True)
class Trained:
    """What a run did.

    Attributes:
        steps: optimizer steps taken; rows: utterances trained on, counting each time.
        seconds: time in the loop, with reading and augmenting audio, without start-up and evaluation.
        best: (score, step) of the evaluation on the development data whose weights were best; None without such data.
        chosen_by: the measure that found them so: `wer`, `cer` or `loss`. See `asrpeft.training.choice`.
        measures: (step, WER, CER, loss or None) of each evaluation, where rates were looked at.
        last: the weights after the last step, as a state dict, where those that were kept are others.
        variants: ways in which each utterance was heard, one epoch after another; 0: another way in every epoch.
        evaluations: (step, score) of each evaluation, `kind` is `wer` or `loss`.
        dropped: rows that had no target for a part of the loss because it did not fit (CTC).
        skipped: utterances left out, with reasons.
        guard_evaluations: (step, loss of WER against the base) of each time the guard data were asked.
        parameters: numbers that trained, without those of a CTC head; None in records of before 2026-11-22. A file holds fewer where ranks fell.
        lr: the peak learning rate, also where it was the method's own; None in records of before 2026-11-22.
    """

    steps: int
    rows: int
    seconds: float
    peak_memory_bytes: int
    best: tuple[float, int] | None
    evaluations: tuple[tuple[int, float], ...]
    kind: str
    dropped: int
    skipped: tuple[Skipped, ...]
    guard_evaluations: tuple[tuple[int, float], ...] = ()
    chosen_by: str | None = None
    measures: tuple[tuple[int, float, float, float | None], ...] = ()
    last: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    variants: int = 0
    lr: float | None = None
    parameters: int | None = None

    @property
    def utterances_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


def note_skipped(state: State, skipped: Sequence[Skipped], progress: Progress) -> None:
    """Tell of each utterance once that it cannot be used."""
    for item in skipped:
        if item.id not in state.skipped:
            state.skipped[item.id] = item.reason
            progress(item)


def skipped_so_far(state: State) -> tuple[Skipped, ...]:
    return tuple(Skipped(id_, reason) for id_, reason in state.skipped.items())


def result(state: State, *, kind: str, peak_memory_bytes: int, last: Mapping[str, Tensor] | None, variants: int, lr: float, parameters: int) -> Trained:
    """What the run has done.

    Args: kind: `wer` or `loss`. last: the weights after the last step, where those that were kept are others.
    """
    return Trained(
        steps=state.step,
        rows=state.rows,
        seconds=state.seconds,
        peak_memory_bytes=peak_memory_bytes,
        best=state.best,
        evaluations=tuple(state.evaluations),
        kind=kind,
        dropped=state.dropped,
        skipped=skipped_so_far(state),
        guard_evaluations=tuple(state.guard_evaluations),
        chosen_by=state.chosen_by,
        measures=tuple(state.measures),
        last=last,
        variants=variants,
        lr=lr,
        parameters=parameters,
    )
