"""How far a run is: its share that is done, when it ends, when the development data are evaluated, how long it will take."""

from __future__ import annotations

import time

from asrpeft.options import TrainingOptions
from asrpeft.training.checkpoints import State
from asrpeft.training.processes import Processes

EVALUATIONS = 8  # on the development data, unless `dev_every` says how often


class Clock:
    """Counts what the options give the length by: steps (epochs are counted in steps), or minutes of the loop alone.

    Minutes are the mean over the processes, which must all stop at once: asking is then a word among them, so that each asks
    for the same things in the same order.
    """

    def __init__(self, state: State, options: TrainingOptions, processes: Processes):
        self.state, self.options, self.processes = state, options, processes
        self._since = time.monotonic()  # up to where `state.seconds` counts

    def start(self) -> None:
        """What follows counts."""
        self._since = time.monotonic()

    def stop(self) -> None:
        """What came since `start` is done, and what follows does not count until it is called again."""
        now = time.monotonic()
        self.state.seconds, self._since = self.state.seconds + now - self._since, now

    @property
    def planned_s(self) -> float:
        """Seconds that were planned, where time is what is planned."""
        return 60 * (self.options.minutes or 0.0)

    def _elapsed(self) -> float:
        return self.processes.mean(self.state.seconds)

    def progress(self) -> float:
        """The share of the run at the middle of the coming step."""
        return (self.state.step + 0.5) / self.state.total if self.state.total is not None else self._elapsed() / self.planned_s

    def done(self, steps: int) -> float:
        """The share of the run that is done after `steps` steps."""
        return min(1.0, steps / self.state.total if self.state.total is not None else self.progress())

    def ended(self) -> bool:
        return self.state.step >= self.state.total if self.state.total is not None else self._elapsed() >= self.planned_s

    def evaluates_now(self) -> bool:
        """Whether an evaluation belongs after the step that was just taken, be it the last or not."""
        if self.options.dev_every is not None:
            return self.state.step % self.options.dev_every == 0
        if self.state.total is not None:
            return self.state.step % max(1, -(-self.state.total // EVALUATIONS)) == 0
        return self._elapsed() * EVALUATIONS >= self.planned_s * (len(self.state.evaluations) + 1)

    def rates(self) -> tuple[float, float]:
        """(utterances a second so far, seconds that remain), while a step is under way."""
        spent = max(self.state.seconds + time.monotonic() - self._since, 1e-6)
        if self.state.total is not None:
            return self.state.rows / spent, spent / max(1, self.state.step) * (self.state.total - self.state.step)
        return self.state.rows / spent, max(0.0, self.planned_s - spent)
