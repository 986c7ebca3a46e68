"""The report on a terminal, through rich."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from asrpeft.scoring.report.contents import Report
from asrpeft.scoring.report.tables import Table, notes, tables
from asrpeft.scoring.wording import sentence
from asrpeft.visible import visible

_STYLES = {"better": "green", "worse": "red"}


def render(report: Report) -> RenderableType:
    """All tables, then the findings in words and the notes."""
    parts: list[RenderableType] = []
    for table in tables(report):
        parts += [_grid(table), *([Text(visible(table.below) + "\n", style="dim")] if table.below else [])]
    parts += [Text(visible(sentence(one)), style=_STYLES.get(one.verdict, "")) for one in report.comparisons]
    parts += [Text(visible(f"Note: {note}"), style="yellow") for note in notes(report)]
    return Group(*parts)


def show(report: Report, console: Console | None = None) -> None:
    """Print the report."""
    (console or Console()).print(render(report))


def _grid(table: Table) -> Grid:
    # No vertical bars and little padding: a table of seven columns must fit 80 characters.
    grid = Grid(title=Text(visible(table.title, one_line=True), style="bold"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    # Text, not str: names of systems and words of a transcript must not be read as rich's [markup], nor by the terminal.
    for place, name in enumerate(table.head):
        grid.add_column(Text(visible(name, one_line=True)), justify="left" if place < table.left else "right", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(visible(cell, one_line=True), style=_STYLES.get(cell, "")) for cell in row))
    return grid
