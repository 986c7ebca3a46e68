"""A recording that comes through a pipe: `asrpeft transcribe <(curl …)`, `sox … | asrpeft transcribe -`, a FIFO.

Containers are read back and forth, so what comes is first written to a temporary file. A pipe into which nobody writes is given
up: opening it the plain way would wait forever.
"""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrpeft.errors import BadAudio

PATIENCE_S = 60.0  # without a byte; a program at the other end may have to fetch something first
MOST_BYTES = 4 << 30  # six hours of CD quality
_BLOCK = 1 << 20


@contextmanager
def on_disk(source: str | Path, *, patience_s: float = PATIENCE_S, most_bytes: int = MOST_BYTES) -> Iterator[Path]:
    """The path itself, or where `source` is a pipe, that of a temporary file with all that came through it.

    Raises: BadAudio if nothing comes for `patience_s`, or more than `most_bytes`.
    """
    path = Path(source)
    try:
        piped = path.is_fifo()
    except (OSError, ValueError):  # an impossible name, which `decode` tells
        piped = False
    if not piped:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="asrpeft-") as kept:
        for data in _received(path, patience_s):
            kept.write(data)
            if kept.tell() > most_bytes:
                raise BadAudio(f"{source}: more than {most_bytes / 1e9:.1f} GB came through this pipe. Save it to a file and name that.")
        kept.flush()
        if not kept.tell():
            raise BadAudio(f"{source}: nothing came through this pipe before it was closed. Look at the program that writes into it.")
        try:
            yield Path(kept.name)
        except BadAudio as error:
            raise BadAudio(str(error).replace(kept.name, str(source))) from error


def _received(path: Path, patience_s: float) -> Iterator[bytes]:
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without the flag, opening waits for a writer
    try:
        while True:
            if not select.select([pipe], [], [], patience_s)[0]:
                raise BadAudio(f"{path}: nothing came through this pipe for {patience_s:g} s. Start the program that writes into it first.")
            data = os.read(pipe, _BLOCK)
            if not data:
                return
            yield data
    finally:
        os.close(pipe)
