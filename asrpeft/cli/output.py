"""Printing: tables and sentences for people on standard output, one JSON object for programs, progress on standard error.

This is the one door: whatever is printed passes through here, where text from outside (ids, names of speakers, corpora and
adapters, reasons, transcripts) loses what rich would read as markup and a terminal as a command. Nothing else escapes anything.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asrpeft.visible import visible


def console(*, error: bool = False) -> Console:
    """A console that, away from a terminal, writes plain lines of any length."""
    plainly = {"stderr": error, "markup": False, "emoji": False, "highlight": False, "soft_wrap": True}
    made = _Door(**plainly)
    return made if made.is_terminal else _Door(**plainly, width=160, color_system=None)


class _Door(Console):
    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(visible(text), **how)


def teller(*, quiet: bool, as_json: bool) -> Callable[[str], None]:
    """A function that tells a person something; on standard error where standard output belongs to a JSON object."""
    if quiet:
        return lambda text: None
    return lambda text: tell(text, error=as_json)


def tell(text: str, *, error: bool = False) -> None:
    """A sentence (or some) for a person; `error`: on standard error."""
    print(visible(text), file=sys.stderr if error else sys.stdout, flush=True)


def write_text(text: str) -> None:
    """A result that is text, to standard output: as it is into a file or a pipe, and as any other sentence on a terminal."""
    print(visible(text) if sys.stdout.isatty() else text, end="", flush=True)


def write_line(text: str, *, open_: bool = False) -> None:
    """A line of standard output that, on a terminal, takes the place of one that was left `open_`."""
    here = sys.stdout.isatty()
    print(("\r\x1b[2K" if here else "") + visible(text, one_line=True), end="" if open_ else "\n", flush=True)


def first_process() -> bool:
    """Whether this process is the one that prints, where a launcher such as `torchrun` started several."""
    return os.environ.get("RANK", "0") == "0"


def reason(text: str) -> None:
    """Why a run that did its work ends with status 1: told on standard error, also with --quiet."""
    tell(text, error=True)


def print_json(value: Any) -> None:
    """One line. What a terminal would act on, or its encoding cannot write, is escaped as JSON has it: the value is the same."""
    made = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        plain = visible(made) == made and bool(made.encode(getattr(sys.stdout, "encoding", None) or "utf-8"))
    except UnicodeEncodeError:
        plain = False
    if not plain:
        made = json.dumps(value, allow_nan=False).replace("\x7f", "\\u007f")
    print(made, flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and whose others are numbers."""

    def shown(cell: Any) -> Text:
        return Text("" if cell is None else visible(str(cell), one_line=True))

    made = Table(title=shown(title), title_justify="left", title_style="bold", header_style="bold")
    for i, column in enumerate(columns):
        made.add_column(shown(column), justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(shown, row))
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


def counted(n: int, one: str, several: str | None = None) -> str:
    """(1, "system") → `1 system`, (2, "system") → `2 systems`."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


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
