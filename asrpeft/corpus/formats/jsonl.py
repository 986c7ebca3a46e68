"""JSON lines, one object per utterance: {"audio": "clips/1.wav", "text": "…", "speaker": "…"}; also one JSON array (.json).

A file is read twice, row by row: once for the names of its columns, which any row may bring, and once for its rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from asrpeft.corpus.formats import Bad, Row, Table, register
from asrpeft.corpus.lines import LONGEST, lines, not_text, opened
from asrpeft.errors import BadCorpus

SUFFIXES = {".jsonl", ".ndjson", ".json"}
CHUNK = 1 << 16  # characters of an array that are looked at together
_OUTSIDE, _IN_STRING = re.compile(r'["\[\]{},]'), re.compile(r'["\\]')


@register("jsonl", "a .jsonl (or .json) manifest, one object per utterance", claims=lambda spec: Path(spec).suffix.lower() in SUFFIXES and Path(spec).is_file())
def table(spec: str, limit: int | None) -> Table:
    path = Path(spec)
    columns: dict[str, None] = {}
    size = 0
    for row in _rows(path):
        size += 1
        if isinstance(row, Row) and not columns.keys() >= row.cells.keys():
            columns |= dict.fromkeys(row.cells)
    return Table(tuple(columns), _rows(path), (path.parent,), size)


def _rows(path: Path) -> Iterator[Row | Bad]:
    if _is_array(path):
        for number, text in enumerate(_elements(path), 1):
            yield _row(f"{path.name}:{number}", text)
        return
    for number, line in lines(path):
        if isinstance(line, Bad):
            yield line
        elif line.strip():
            yield _row(f"{path.name}:{number}", line)


def _row(place: str, text: str) -> Row | Bad:
    """The row of one line.

    Raises nothing: whatever is wrong with one row is said of that row.
    """
    if wrong := not_text(text) if len(text) <= LONGEST else f"a value of over {LONGEST:,} characters":
        return Bad(place, wrong)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        return Bad(place, f"not JSON ({error.msg}, column {error.colno})")
    except ValueError:  # Python's own limit for turning digits into an integer
        return Bad(place, "a whole number of over 4,300 digits")
    except RecursionError:
        return Bad(place, "JSON nested too deeply to be read")
    return Row(place, found) if isinstance(found, dict) else Bad(place, "not a JSON object")


def _is_array(path: Path) -> bool:
    """Whether the whole file is one array; a first line that is a complete list among further lines is a bad row of JSON lines."""
    with opened(path) as file:
        head = ""
        while not head.strip() and (head := file.read(CHUNK)):
            pass
        head = head.lstrip()
        if not head.startswith("["):
            return False
        first, _, rest = head.partition("\n")
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            return True
        return not rest.strip()


def _elements(path: Path) -> Iterator[str]:
    """The text of each element of an array; found by brackets and quotation marks, so that a bad one costs no other.

    Raises: BadCorpus if the file ends within the array.
    """
    depth, quoted, skip = 0, False, False  # skip: the character after a backslash belongs to it
    parts: list[str] = []
    size = 0

    def keep(text: str) -> None:
        nonlocal size
        if size <= LONGEST:  # what is longer is not held, only known to be too long
            parts.append(text)
            size += len(text)

    def taken() -> str:
        nonlocal size
        text = "".join(parts)
        parts.clear()
        size = 0
        return text

    with opened(path) as file:
        while chunk := file.read(CHUNK):
            begin = at = 0
            if skip:
                at, skip = 1, False
            while found := (_IN_STRING if quoted else _OUTSIDE).search(chunk, at):
                mark, at = found[0], found.end()
                if mark == "\\":
                    skip = at == len(chunk)
                    at += 1
                elif mark == '"':
                    quoted = not quoted
                elif mark in "[{":
                    depth += 1
                    if depth == 1:
                        begin = at
                elif mark in "]}":
                    depth -= 1
                    if depth == 0:
                        keep(chunk[begin : found.start()])
                        if (last := taken()).strip():
                            yield last
                        return
                elif depth == 1:
                    keep(chunk[begin : found.start()])
                    yield taken()
                    begin = at
            keep(chunk[begin:])
    raise BadCorpus(f"{path}: it begins as a JSON array and ends within it: the file is not whole. Fetch it again.")
