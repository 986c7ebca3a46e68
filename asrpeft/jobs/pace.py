"""How long a job of several runs still takes, at the pace of the runs that are done."""

from __future__ import annotations

import time
from collections.abc import Sequence


class Pace:
    """Runs one after another, each with an amount of work in whatever unit."""

    def __init__(self, work: Sequence[float]):
        self.work = list(work)
        self.place = 0
        self.spent = self.did = 0.0
        self._began: float | None = None

    def step(self, *, counts: bool = True) -> str:
        """The next run begins; `counts`: unless it was done before and takes no time.

        Returns: what the runs from this one on take, ", about 12 minutes to go"; "" where nobody can know yet.
        """
        now = time.monotonic()
        if self._began is not None:
            self.spent, self.did = self.spent + now - self._began, self.did + self.work[self.place - 1]
        rest = sum(self.work[self.place :])
        self.place, self._began = self.place + 1, now if counts else None
        return f", {about(self.spent * rest / self.did)} to go" if self.did > 0 else ""


def about(seconds: float) -> str:
    """95 → "about 2 minutes"; no finer than anybody can know."""
    unit, size = ("second", 1) if seconds < 90 else ("minute", 60) if seconds < 90 * 60 else ("hour", 3_600)
    n = max(1, round(seconds / size))
    return f"about {n} {unit}{'' if n == 1 else 's'}"
