"""Progress: a bar on a terminal, plain lines elsewhere, always on standard error so that results can be piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asrpeft.cli.output import console, duration

_LINE_EVERY_S = 10.0


@contextmanager
def bar(label: str, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A context that gives `advance(done, total, note="", remaining_s=None)`; the remaining time is estimated if not given.

    On a terminal it moves a bar; elsewhere it prints a line every ten seconds, so that a log stays readable.
    """
    if quiet:
        yield lambda done, total, note="", remaining_s=None: None
        return
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        with Progress(*columns, console=console(error=True), transient=True) as shown:
            task = shown.add_task(label, total=None, note="")
            yield lambda done, total, note="", remaining_s=None: shown.update(task, completed=done, total=total, note=note)
        return
    started, last = time.monotonic(), time.monotonic()

    def advance(done: float, total: float | None, note: str = "", remaining_s: float | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY_S:
            return
        last = now
        remaining = (now - started) * (total - done) / done if remaining_s is None and total and done else remaining_s
        of = f"/{total:,.0f}" if total else ""
        print(f"{label}: {done:,.0f}{of} {note} ({duration(remaining)} remaining)", file=sys.stderr, flush=True)

    yield advance
