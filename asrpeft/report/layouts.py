"""A document on a terminal, as text, as Markdown. (`asrpeft.report.page` has the HTML.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asrpeft.report import table as tables
from asrpeft.report.document import Document
from asrpeft.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def render(document: Document) -> RenderableType:
    """For a terminal, through rich: all tables, then the findings in words, the lines and the notes."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for one in document.tables:
        parts += [tables.grid(one), *([Text(visible(one.below) + "\n", style="dim")] if one.below else [])]
    parts += [Text(visible(one.text), style=tables.STYLES.get(one.verdict, "")) for one in document.findings]
    parts += [Text(visible(line)) for line in document.lines]
    parts += [Text(visible(f"Note: {note}"), style="yellow") for note in document.notes]
    return Group(*parts)


def show(document: Document, console: Console | None = None) -> None:
    """Print it."""
    from rich.console import Console

    (console or Console()).print(render(document))


def text(document: Document, *, width: int | None = None) -> str:
    """As a terminal shows it, without colors, and without a newline at the end.

    Args:    width: columns. Default: 160 for tables, and sentences of any length.
    """
    return tables.text(render(document), width)


def markdown(document: Document) -> str:
    """Tables in GitHub's dialect, the findings in words after the first, the notes at the end."""
    first, *rest = document.tables or (None,)
    parts = [f"# {tables.plain(document.title)}", *([tables.markdown(first, titled=False)] if first is not None else [])]
    if document.findings:
        parts.append("\n".join(f"- {tables.plain(one.text)}" for one in document.findings))
    parts += [tables.plain(line) for line in document.lines]
    parts += [tables.markdown(one) for one in rest]
    if document.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {tables.plain(note)}" for note in document.notes))
    if (made := document.origin) is not None:
        parts.append(tables.markdown(made))
    return "\n\n".join(parts) + "\n"
