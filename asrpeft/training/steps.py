"""The steps of a run, in order: fixed by corpus and options, so that any of them can be found again."""

from __future__ import annotations

from collections.abc import Iterator

from asrpeft.errors import BadInput
from asrpeft.options import TrainingOptions
from asrpeft.recognizer.context import ENCODER_FRAMES_PER_SECOND
from asrpeft.training.batch import StepKey
from asrpeft.training.bucketing import length_batches, share
from asrpeft.training.examples import Examples


class Steps:
    """`total` optimizer steps; None where time ends the run."""

    def __init__(self, examples: Examples, options: TrainingOptions):
        self.examples, self.options = examples, options
        self.budget = round(options.batch_seconds * ENCODER_FRAMES_PER_SECOND)
        self.total = options.steps
        if options.epochs is not None:
            self.total = sum(len(self.epoch(n)) for n in range(options.epochs))
            if self.total == 0:
                raise BadInput(f"With these weights nothing is drawn in {options.epochs} epochs. Give the corpora larger ones, or more --epochs.")

    def epoch(self, n: int) -> list[StepKey]:
        """The steps of epoch `n`, with all rows of all processes."""
        rows = self.examples.drawn(n)
        chosen = length_batches(self.examples.frames(n, rows), budget=self.budget, key=f"{self.options.seed}-{n}")
        batches = [[rows[i] for i in batch] for batch in chosen]
        size = self.options.accumulate
        return [StepKey(n, i // size, tuple(map(tuple, batches[i : i + size]))) for i in range(0, len(batches), size)]

    def after(self, epoch: int, position: int, *, taken: int, rank: int = 0, of: int = 1) -> Iterator[StepKey]:
        """The steps from number `position` of `epoch` on, `taken` having been taken, with this process's share of the rows."""
        while self.total is None or taken < self.total:
            for key in self.epoch(epoch)[position:]:
                yield StepKey(key.epoch, key.position, tuple(tuple(share(rows, rank=rank, of=of)) for rows in key.batches))
                taken += 1
                if taken == self.total:
                    return
            epoch, position = epoch + 1, 0
