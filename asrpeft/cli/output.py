"""Printing: tables and sentences for people on standard output, one JSON object for programs, progress on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def console(*, error: bool = False) -> Console:
    """A console that, away from a terminal, writes plain lines of any length."""
    made = Console(stderr=error, highlight=False, soft_wrap=True)
    return made if made.is_terminal else Console(stderr=error, highlight=False, soft_wrap=True, width=160, color_system=None)


def teller(*, quiet: bool, as_json: bool) -> Callable[[str], None]:
    """A function that tells a person something; on standard error where standard output belongs to a JSON object."""
    if quiet:
        return lambda text: None
    stream = sys.stderr if as_json else sys.stdout
    return lambda text: print(text, file=stream, flush=True)


def first_process() -> bool:
    """Whether this process is the one that prints, where a launcher such as `torchrun` started several."""
    return os.environ.get("RANK", "0") == "0"


def reason(text: str) -> None:
    """Why a run that did its work ends with status 1: told on standard error, also with --quiet."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and whose others are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    return made


def per_cent(value: float | None, digits: int = 1) -> str:
    """0.253 → `25.3 %`."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def interval(bounds: Sequence[float | None] | None) -> str:
    """[0.21, 0.29] → `21.0–29.0`; a dash where it is not known, as of a single utterance."""
    return "–" if bounds is None or None in bounds or bounds[0] != bounds[0] else f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"


def count(n: int) -> str:
    """1234567 → `1,234,567`."""
    return f"{n:,}"


def size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} GB"


def duration(seconds: float | None) -> str:
    """97.3 → `1:37`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
