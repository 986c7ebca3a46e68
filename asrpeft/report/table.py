"""A table, and its three layouts from the same rows: for a terminal, as Markdown, as HTML."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from asrpeft.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid

STYLES = {"better": "green", "worse": "red"}  # of a cell that is a verdict, on a terminal


@dataclass(frozen=True)
class Table:
    """Cells are texts; the first `left` columns hold words, the others numbers. `below` is said under it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    below: str = ""

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.head)]:
            raise ValueError(f"The table {self.title!r} has {len(self.head)} columns and a row of {len(wrong[0])}: {wrong[0]}.")

    @classmethod
    def of(cls, title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1, below: str = "") -> Table:
        """A table of any values: None is an empty cell."""
        return cls(title, tuple(head), tuple(tuple("" if cell is None else str(cell) for cell in row) for row in rows), left, below)

    def __str__(self) -> str:
        return text(grid(self))

    def without_empty_columns(self) -> Table:
        """The same without columns in which no row has anything: what nobody asked for takes no room."""
        kept = [place for place in range(len(self.head)) if not self.rows or any(row[place] for row in self.rows)]
        left = sum(place < self.left for place in kept)
        rows = tuple(tuple(row[place] for place in kept) for row in self.rows)
        return Table(self.title, tuple(self.head[place] for place in kept), rows, left, self.below)


def grid(table: Table) -> Grid:
    """For a terminal, through rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid
    from rich.text import Text

    def shown(cell: str, style: str = "") -> Text:
        # Text, not str: a name of a system or a word of a transcript must not be read as rich's [markup], nor by the terminal.
        return Text(visible(cell, one_line=True), style=style)

    # No vertical bars and little padding: a table of seven columns must fit 80 characters.
    title = shown(table.title, "bold") if table.title else None
    made = Grid(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for place, name in enumerate(table.head):
        made.add_column(shown(name), justify="left" if place < table.left else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(shown(cell, STYLES.get(cell, "")) for cell in row))
    return made


WIDTH = 160  # of text that goes into no terminal


def text(shown: RenderableType, width: int | None = None) -> str:
    """What rich shows, as a terminal of `width` columns would have it (default: 160 for tables, sentences of any length), without
    colors, and without a newline at the end."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width or WIDTH, color_system=None, markup=False, emoji=False, highlight=False, soft_wrap=width is None).print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def markdown(table: Table, *, titled: bool = True) -> str:
    """In GitHub's dialect, without a newline at the end."""
    lines = [f"## {plain(table.title)}", ""] if titled and table.title else []
    lines.append(_line(table.head))
    lines.append("|" + "|".join(" :-- " if place < table.left else " --: " for place in range(len(table.head))) + "|")
    lines += [_line(row) for row in table.rows]
    return "\n".join([*lines, *(["", plain(table.below)] if table.below else [])])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"


def plain(text: str) -> str:
    """Text as Markdown shows it letter by letter: signs that Markdown or HTML would act on are escaped; an underscore inside a
    word is safe and stays readable."""
    return " ".join(re.sub(r"[\\`*|<>]|\b_|_\b", r"\\\g<0>", text).split())


def html(table: Table, *, titled: bool = True) -> str:
    """As elements of a page; every cell runs in its own direction."""

    def line(kind: str, row: Sequence[str]) -> str:
        css = [' class="l" dir="auto"' if place < table.left else ' dir="auto"' for place in range(len(row))]
        return "<tr>" + "".join(f"<{kind}{c}>{escape(cell)}</{kind}>" for c, cell in zip(css, row, strict=True)) + "</tr>"

    body = "".join(line("td", row) for row in table.rows)
    return (
        (f"<h2>{escape(table.title)}</h2>" if titled and table.title else "")
        + f'<div class="wide"><table><thead>{line("th", table.head)}</thead><tbody>{body}</tbody></table></div>'
        + (f'<p class="below">{escape(table.below)}</p>' if table.below else "")
    )
