"""Ctrl-C and requests to end (SIGTERM, a terminal that closes), met where they cost nothing that was computed.

    first    raised at once; within `deferred` when that block is done
    second   raised at once, wherever the program is
    third    ends the process as if nobody listened

What is raised carries as notes what was kept. A signal that comes twice within a second is one: a shell sends Ctrl-C to all
processes of a command, and a launcher passes it on to them again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SAME_S = 1.0


class Interrupted(BaseException):
    """The command was asked to end. (A KeyboardInterrupt would end in the command-line library, as "Aborted" with status 1.)

    Attributes:
        status: the exit status that says so: 128 + the signal's number, 130 for Ctrl-C and 143 for SIGTERM.
        resumes: whether something was kept that the same run can go on from; see `note`.
    """

    resumes = False

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


INTERRUPTIONS = (Interrupted, KeyboardInterrupt, SystemExit)


def note(error: Any, text: str, *, resumes: bool = False) -> None:
    """Let an interruption say what was kept; `resumes`: the same run can go on from it."""
    error.add_note(text)
    error.resumes = resumes or getattr(error, "resumes", False)


def plain(number: int) -> BaseException:
    """What a Python program expects of a signal: KeyboardInterrupt for Ctrl-C, else SystemExit."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


class _Listener:
    """The handler of a process: counts signals and knows whether now is the time to raise."""

    def __init__(self, raised: Callable[[int], BaseException]):
        self.raised, self.process = raised, os.getpid()
        self.depth, self.notice = 0, ""
        self.count, self.at = 0, 0.0
        self.pending: int | None = None

    def __call__(self, number: int, _frame: object = None) -> None:
        now = time.monotonic()
        if os.getpid() != self.process or (self.count and now - self.at < _SAME_S):
            return  # a process forked off leaves it to its parent
        self.count, self.at = self.count + 1, now
        if self.count > 2:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self.process, number)
        elif self.count == 1 and self.depth:
            self.pending = number
            os.write(2, f"\n{self.notice}\n".encode())  # print could be what was interrupted
        else:
            self.pending = None
            raise self.raised(number)


_listener: _Listener | None = None


@contextmanager
def listening(raised: Callable[[int], BaseException] = plain) -> Iterator[None]:
    """Within the block signals are met as above. Handlers that others have set, or that ignore a signal, stay; so does
    everything in a thread that is not the main one, and within another such block.

    Args:  raised: from a signal's number to what is raised.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    named = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in named}
    ours = [number for number in named if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    _listener = _Listener(raised)
    try:
        for number in ours:
            signal.signal(number, _listener)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _listener = None


@contextmanager
def deferred(notice: str) -> Iterator[None]:
    """Let the block end before a signal is raised.

    Args:  notice: what a person who waits is told meanwhile.
    """
    here = _listener
    if here is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    here.depth, here.notice = here.depth + 1, notice
    try:
        yield
    finally:
        here.depth -= 1
    if not here.depth and here.pending is not None:
        number, here.pending = here.pending, None
        raise here.raised(number)


def pending() -> bool:
    """Whether a signal waits for a `deferred` block to end."""
    return _listener is not None and _listener.pending is not None


def request() -> None:
    """Act as on SIGTERM when the `deferred` block ends: another process of the same run was asked to end."""
    if _listener is not None and _listener.pending is None:
        _listener.pending = signal.SIGTERM


def ignored(_number: int = 0) -> None:
    """For processes that only help: their parent is asked, not they. (They end when it does.)"""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
