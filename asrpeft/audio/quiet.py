"""Standard error without what a library written in C says there.

libmpg123, through which libsndfile reads MP3, comments on damaged files straight to the file descriptor; nothing in libsndfile
turns that off. What happened is told by our own errors, once, with the file's name.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_CHATTER = re.compile(rb"\[[^\]]*libmpg123|Note: |Warning: |Error: |\s*$")  # how its lines begin; it writes empty ones too
_lock = threading.Lock()
_inside = 0  # threads that are in a block; the first in diverts, the last out restores
_kept: tuple[int, IO[bytes]] | None = None  # the real standard error, and the file that stands in for it


@contextmanager
def without_chatter() -> Iterator[None]:
    """What libmpg123 writes to standard error inside the block is dropped; what others write meanwhile is passed on after it."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _kept
    with _lock:
        _inside += 1
        if _inside > 1:
            return
        try:
            real = os.dup(2)
        except OSError:  # a daemon without standard error
            return
        try:
            stand_in = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_leave`
            os.dup2(stand_in.fileno(), 2)
        except OSError:  # no space for it: better chatter than no audio
            os.close(real)
            return
        _kept = real, stand_in


def _leave() -> None:
    global _inside, _kept
    with _lock:
        _inside -= 1
        if _inside or _kept is None:
            return
        (real, stand_in), _kept = _kept, None
        os.dup2(real, 2)
        os.close(real)
        with stand_in:
            stand_in.seek(0)
            others = b"".join(line for line in stand_in if not _CHATTER.match(line))
        if others:
            os.write(2, others)
