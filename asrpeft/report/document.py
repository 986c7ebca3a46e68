"""What a result shows: tables, findings in words, notes and pictures. Values only; `layouts` and `page` lay them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asrpeft.report.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Finding:
    """A sentence that says what came out. `verdict`: "better", "worse", or anything else for neither; it colors the sentence."""

    text: str
    verdict: str = ""


@dataclass(frozen=True)
class Picture:
    """Something to draw. `name` is what files and `Result.plot` call it; `draw` is called when it is wanted, and imports what draws."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Document:
    """Everything that is shown of a result, in the order in which it is: the head table, the findings, the notes, the pictures, the
    other tables, and how it was made. What is empty is left out of every layout.

    Attributes:
        tables: the first one is the head, under the document's title.
        lines: sentences that belong to the tables, said below them.
        listing: HTML with what a page alone has room for (every utterance with its alignment), made when it is wanted.
        style: CSS rules of what the listing holds.
        made_by: how it came about: what was run, on which base, when (see `asrpeft.jobs.provenance.run_of`).
    """

    title: str
    tables: tuple[Table, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    listing: Callable[[], str] | None = None
    style: str = ""
    made_by: Mapping[str, Any] | None = None

    @property
    def origin(self) -> Table | None:
        """How it was made, one line a fact, a list or a group of facts in one cell; None where nobody says."""
        known = {key: value for key, value in (self.made_by or {}).items() if value not in (None, [], (), {})}
        rows = tuple((key.replace("_", " "), _fact(value)) for key, value in known.items())
        return Table("How this was made", ("what", ""), rows, 2) if rows else None


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(part)}" for key, part in value.items() if part is not None)
    return "; ".join(map(_fact, value)) if isinstance(value, list | tuple) else str(value)
