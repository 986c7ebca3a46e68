"""What `check` and `stats` of `asrpeft.jobs.corpora` return: what a corpus holds, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from asrpeft.corpus.corpus import Skipped, Stats
from asrpeft.corpus.doubts import Doubt
from asrpeft.report import Document, Picture, Result, Table
from asrpeft.report.values import Row
from asrpeft.report.words import count, counted, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_GROUPS = 30  # that a picture has room for


@dataclass(frozen=True)
class CorpusStats(Result):
    """Counts of a corpus. `groups`: utterances by the values of the column `by`, the largest first, where that was asked for."""

    corpus: str
    stats: Stats
    by: str | None = None
    groups: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft data stats --json` prints."""
        return {"corpus": self.corpus, **asdict(self.stats), **({"by": {self.by: dict(self.groups)}} if self.by else {})}

    def rows(self) -> list[Row]:
        """One row with the counts; by a column, one row a value of it."""
        return [{self.by: value, "utterances": n} for value, n in self.groups.items()] if self.by else [{"corpus": self.corpus, **asdict(self.stats)}]

    def document(self) -> Document:
        rows = [(key.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else count(value)) for key, value in asdict(self.stats).items()]
        tables = [Table.of(f"{self.corpus}: {duration(self.stats.hours * 3600)}", ("what", "how much"), rows)]
        if self.groups:
            tables.append(Table.of(f"By {self.by}", (str(self.by), "utterances"), [(value, count(n)) for value, n in self.groups.items()]))
        pictures = (Picture("groups", f"Utterances by {self.by}", self._draw),) if self.groups else ()
        return Document(self.corpus, tuple(tables), pictures=pictures)

    def _draw(self) -> Figure:
        from asrpeft.report.figures import COLORS, canvas, name_rows

        largest = list(self.groups.items())[:MOST_GROUPS]
        figure, axes = canvas(height=0.8 + 0.25 * len(largest))
        axes.barh(range(len(largest)), [n for _, n in largest], color=COLORS[0])
        name_rows(axes, [value for value, _ in largest])
        axes.set_ylim(len(largest) - 0.4, -0.6)
        axes.set_xlabel("utterances")
        return figure


@dataclass(frozen=True)
class CorpusCheck(Result):
    """What cannot be used, with the reason, and what is doubtful in the rest. `listened`: recordings that a speech detector heard."""

    corpus: str
    stats: Stats
    skipped: tuple[Skipped, ...]
    doubts: tuple[Doubt, ...]
    listened: int

    @property
    def usable(self) -> bool:
        """Whether every row can be used; what is doubtful can."""
        return not self.skipped

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft data check --json` prints."""
        return {
            **asdict(self.stats),
            "corpus": self.corpus,
            "usable": self.stats.utterances,
            "skipped": [asdict(one) for one in self.skipped],
            "doubtful": [doubt.to_json() for doubt in self.doubts],
            "listened_to": self.listened,
        }

    def rows(self) -> list[Row]:
        """One row for everything that is wrong or doubtful, with an example of it."""
        wrong = [{"kind": "unusable", "id": one.id, "detail": one.reason} for one in self.skipped]
        return wrong + [{"kind": one.kind, "rows": one.rows, "id": id_, "detail": detail} for one in self.doubts for id_, detail in one.examples]

    def document(self) -> Document:
        kinds = f" {counted(len(self.doubts), 'kind')} of doubt." if self.doubts else ""
        tables = [Table.of("Cannot be used", ("id", "reason"), [(one.id, one.reason) for one in self.skipped], left=2)] if self.skipped else []
        tables += [self._doubt(one) for one in self.doubts]
        line = f"{count(self.stats.utterances)} utterances can be used, {count(len(self.skipped))} cannot.{kinds}"
        return Document(self.corpus, tuple(tables), lines=(line,))

    def _doubt(self, one: Doubt) -> Table:
        of = f" of {count(self.listened)}" if one.kind == "no speech heard" else ""
        more = f"and {count(one.rows - len(one.examples))} more" if one.rows > len(one.examples) else ""
        title = f"{count(one.rows)}{of} {'row' if one.rows == 1 and not of else 'rows'}: {one.message}"
        return Table.of(title, ("id", "detail"), one.examples, left=2, below=more).without_empty_columns()
