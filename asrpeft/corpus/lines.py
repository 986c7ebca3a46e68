"""The lines of a text file, one at a time: memory does not grow with the file, and a bad line costs that line alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from asrpeft.errors import BadCorpus

LONGEST = 1 << 24  # characters of one line or JSON value: 16 million say that it is no row of a table
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used, and why."""

    id: str
    reason: str


def opened(path: Path, newline: str = "\n") -> TextIO:
    """A file as UTF-8, with or without a byte-order mark; bytes that are not become surrogates, which `not_text` finds.

    Raises: BadCorpus if it cannot be opened, or is UTF-16.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) in _UTF16:
                raise BadCorpus(f"{path}: it is UTF-16, as some spreadsheets save. Save it as UTF-8.")
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    except OSError as error:
        raise BadCorpus(f"{path}: it cannot be read ({error.strerror or error}).") from error


def lines(path: Path, *, newline: str = "\n") -> Iterator[tuple[int, str | Bad]]:
    """(number from 1, line) for every line; instead of one that is not UTF-8, or endless, what is wrong with it.

    Args: newline: "\\n": lines end there and come without it; "": they end at "\\n", "\\r" or both, and keep their ends.
    """
    with opened(path, newline) as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            if len(line) == LONGEST and line[-1] not in "\r\n":
                while (rest := file.readline(LONGEST)) and rest[-1] not in "\r\n":
                    pass
                yield number, Bad(f"{path.name}:{number}", f"a line of over {LONGEST:,} characters")
            elif wrong := not_text(line):
                yield number, Bad(f"{path.name}:{number}", wrong)
            else:
                yield number, line if newline == "" else line.removesuffix("\n")


def count(path: Path) -> int:
    """How many lines a file has, about; 0 where it cannot be read. For showing how far one is."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def not_text(text: str) -> str | None:
    """What is wrong with text that `opened` decoded; None if nothing is."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            text.encode(errors="surrogateescape").decode()
        except UnicodeDecodeError as error:
            return f"not UTF-8 (byte {error.start + 1:,} of the line). Save the file as UTF-8"
        except UnicodeEncodeError:
            pass
        return "half of a surrogate pair, which is no character"
    return None


def printable(text: str) -> str:
    """The same text with what is no character written out, so that any file takes it: `\\udcff`."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
