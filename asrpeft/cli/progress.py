"""Progress: a bar on a terminal, plain lines elsewhere, always on standard error so that results can be piped."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from asrpeft.cli.output import console, tell
from asrpeft.report.words import duration
from asrpeft.visible import visible

_LINE_EVERY_S, _SILENT_S, _LOOK_EVERY_S = 10.0, 60.0, 5.0


@contextmanager
def bar(label: str, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A context that gives `advance(done, total, note="", remaining_s=None)`; the remaining time is estimated if not given.

    On a terminal it moves a bar; elsewhere it prints a line every ten seconds, so that a log stays readable, and a sign of life
    where nothing was told for a minute.
    """
    if quiet:
        yield lambda done, total, note="", remaining_s=None: None
        return
    phase = _Phase()
    if sys.stderr.isatty():
        what, note, left = (TextColumn(part, markup=False) for part in ("{task.description}", "{task.fields[note]}", "{task.fields[left]}"))
        columns = (what, BarColumn(), MofNCompleteColumn(), note, TimeElapsedColumn(), left)
        with Progress(*columns, console=console(error=True), transient=True) as shown:
            task = shown.add_task(visible(label, one_line=True), total=None, note="", left="")

            def move(done: float, total: float | None, note: str = "", remaining_s: float | None = None) -> None:
                if phase.begins(done, total):
                    shown.reset(task)  # else it goes on with the pace of what came before
                remaining = phase.remaining_s if remaining_s is None else remaining_s
                left = "" if remaining is None else f"{duration(remaining)} remaining"
                shown.update(task, completed=done, total=total, note=visible(note, one_line=True), left=left)

            yield move
        return
    began = last = time.monotonic()
    at, over = "", threading.Event()

    def advance(done: float, total: float | None, note: str = "", remaining_s: float | None = None) -> None:
        nonlocal last, at
        phase.begins(done, total)
        at = f"{done:,.0f}{f'/{total:,.0f}' if total else ''} {note}"
        now = time.monotonic()
        if now - last < _LINE_EVERY_S:
            return
        last = now
        remaining = phase.remaining_s if remaining_s is None else remaining_s
        ending = "" if remaining is None else f" ({duration(remaining)} remaining)"
        tell(f"{label}: {at}{ending}", error=True)

    def live() -> None:
        nonlocal last
        while not over.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            if now - last >= _SILENT_S:
                last = now
                tell(f"{label}: still at work, {duration(now - began)} since it began{f'; {at}' if at else ''}", error=True)

    threading.Thread(target=live, daemon=True).start()
    try:
        yield advance
    finally:
        over.set()


class _Phase:
    """A part of the work that is counted from its beginning to its end: training, then scoring, then training again."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.first = self.done = 0.0
        self.started = time.monotonic()

    def begins(self, done: float, total: float | None) -> bool:
        """Take note of the count; whether this is another phase than before: it went back, or is of something else."""
        another = total != self.total or done < self.done
        if another:
            self.total, self.first, self.started = total, done, time.monotonic()
        self.done = done
        return another

    @property
    def remaining_s(self) -> float | None:
        """At the pace of this phase; None while that is not known."""
        if not self.total or self.done <= self.first:
            return None
        return (time.monotonic() - self.started) * (self.total - self.done) / (self.done - self.first)
