"""The command line that is running, if one is, for reports to tell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_typed: ContextVar[tuple[str, ...] | None] = ContextVar("typed", default=None)  # what followed the command's name


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[None]:
    """Within the block this is the command that runs; `asrpeft.cli.main.run` says so."""
    before = _typed.set(tuple(arguments))
    try:
        yield
    finally:
        _typed.reset(before)


def line() -> str | None:
    """As it can be typed again; None where Python called and nobody typed."""
    typed = _typed.get()
    return None if typed is None else shlex.join(["asrpeft", *typed])
