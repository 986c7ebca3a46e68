"""The report as Markdown, for a model card, an issue or a notebook."""

from __future__ import annotations

import re

from asrpeft.scoring.report.contents import Report
from asrpeft.scoring.report.tables import Table, notes, origin, tables
from asrpeft.scoring.wording import sentence


def markdown(report: Report) -> str:
    """Tables in GitHub's dialect, the findings in words after the first, the notes at the end."""
    first, *rest = list(tables(report))
    parts = [f"# {_escape(report.title)}", _table(first, title=False)]
    if report.comparisons:
        parts.append("\n".join(f"- {_escape(sentence(one))}" for one in report.comparisons))
    parts += [_table(table) for table in rest]
    if remarks := notes(report):
        parts.append("## Notes\n\n" + "\n".join(f"- {_escape(note)}" for note in remarks))
    if (made := origin(report)) is not None:
        parts.append(_table(made))
    return "\n\n".join(parts) + "\n"


def _table(table: Table, *, title: bool = True) -> str:
    lines = [f"## {_escape(table.title)}", ""] if title else []
    lines.append(_row(table.head))
    lines.append("|" + "|".join(" :-- " if i < table.left else " --: " for i in range(len(table.head))) + "|")
    lines += [_row(row) for row in table.rows]
    return "\n".join([*lines, *(["", _escape(table.below)] if table.below else [])])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(text: str) -> str:
    """Signs that Markdown or HTML would act on; an underscore inside a word is safe and stays readable."""
    return " ".join(re.sub(r"[\\`*|<>]|\b_|_\b", r"\\\g<0>", text).split())
