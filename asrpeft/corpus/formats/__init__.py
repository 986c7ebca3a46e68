"""Kinds of corpus, one file each. A new file here that calls `register` is a new kind; nothing else changes.

A format only says what its rows are; `asrpeft.corpus.read` guesses columns, checks rows and makes utterances of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asrpeft.corpus.lines import Bad
from asrpeft.errors import BadCorpus

__all__ = ["FORMATS", "Bad", "Format", "Row", "Table", "recognise", "register"]


@dataclass(frozen=True)
class Row:
    """A row as it stands in a table: its cells by column, and its place, such as `train.jsonl:17`."""

    place: str
    cells: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """Rows of a corpus before any checks.

    An audio cell is a path (str; relative to one of `roots`), a dict with `bytes` or `path` (the Hugging Face `Audio`
    layout), bytes, or an `AudioRef`. `rows` is read once, as it is wanted: a table of any size takes little memory.
    `size` is how many rows there are, about, where that is cheap to know.
    """

    columns: tuple[str, ...]
    rows: Iterable[Row | Bad]
    roots: tuple[Path, ...] = ()
    size: int | None = None


@dataclass(frozen=True)
class Format:
    name: str
    what: str  # for the help text
    claims: Callable[[str], bool]
    table: Callable[[str, int | None], Table]  # spec, and how many rows are wanted at most
    broad: bool = False  # claims much, so it is asked after the others


FORMATS: dict[str, Format] = {}


def register(name: str, what: str, *, claims: Callable[[str], bool], broad: bool = False) -> Callable[[Callable], Callable]:
    """Make the decorated `table(spec, limit)` the reader of every spec that `claims` says yes to."""

    def keep(table: Callable[[str, int | None], Table]) -> Callable[[str, int | None], Table]:
        FORMATS[name] = Format(name, what, claims, table, broad)
        return table

    return keep


def recognise(spec: str) -> Format:
    """The format of `spec`. Raises: BadCorpus with the kinds there are."""
    if not spec.startswith("hub:") and "*" not in spec and not Path(spec).exists():
        raise BadCorpus(f"{spec}: no such file or folder. Give a path, or hub:REPO[:CONFIG]:SPLIT for the Hugging Face hub.")
    for kind in sorted(FORMATS.values(), key=lambda kind: kind.broad):
        if kind.claims(spec):
            return kind
    kinds = "; ".join(f"{kind.name}: {kind.what}" for kind in sorted(FORMATS.values(), key=lambda kind: kind.name))
    raise BadCorpus(f"{spec}: not a kind of corpus that I know. The kinds are: {kinds}.")


for _module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
    importlib.import_module(f"{__name__}.{_module.name}")
