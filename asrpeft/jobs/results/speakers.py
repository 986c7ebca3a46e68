"""What `speakers` returns: one adapter per speaker, and who gained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrpeft.files import replace_file
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.jobs.voices import REPORT
from asrpeft.report import Document, Picture, Result, Table
from asrpeft.report.values import Row, as_csv, as_json
from asrpeft.report.words import UNKNOWN, percent
from asrpeft.scoring.wording import p_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "speakers.csv"
NOTES = 5  # on single speakers' tests that are shown; the JSON holds all


@dataclass(frozen=True)
class SpeakerResult:
    """One speaker.

    Attributes:
        folder: of the speaker's adapter.
        enabled: on the development part, the adapter makes fewer errors than what one would use without it.
        base, pooled, own: scores on the test part, as `asrpeft evaluate --json` gives them; `pooled` None where there is none.
        test: own against base, on the test part.
        dev: WER on the development part, of each.
        utterances: how many each part has.
    """

    speaker: str
    folder: Path
    enabled: bool
    base: Mapping[str, Any] = field(repr=False)
    pooled: Mapping[str, Any] | None = field(repr=False)
    own: Mapping[str, Any] = field(repr=False)
    test: Mapping[str, Any] = field(repr=False)
    dev: Mapping[str, float]
    utterances: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "speaker": self.speaker,
            "adapter": str(self.folder),
            "enabled": self.enabled,
            "base": self.base,
            "pooled": self.pooled,
            "own": self.own,
            "test": self.test,
            "dev": self.dev,
            "utterances": self.utterances,
        }

    def row(self) -> Row:
        """Rates of every system on the speaker's test part."""
        scores = (("base", self.base), ("pooled", self.pooled), ("own", self.own))
        rates = {f"{name}_{key}": score[key] for name, score in scores if score for key in ("wer", "cer")}
        return {
            "speaker": self.speaker,
            "enabled": self.enabled,
            "adapter": self.folder.name,
            "trained_on": self.utterances["train"],
            **rates,
            "words": self.own["words"],
            "utterances": self.own["utterances"],
            "p": self.test["p"],
            "verdict": self.test["verdict"],
        }


@dataclass(frozen=True)
class Speakers(Result):
    """The report. `skipped`: speakers without an adapter, with the reason; `run`: how it came about."""

    speakers: tuple[SpeakerResult, ...]
    skipped: tuple[tuple[str, str], ...]
    pooled: Finetuned | None = None
    by: str = "speaker"
    run: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def overall(self) -> dict[str, float]:
        """WER over all speakers' test parts: of the base, of the pooled adapter, of each speaker's own, and with the own ones
        only where they are enabled (else pooled, else base)."""
        rows: dict[str, list[Mapping[str, Any]]] = {
            "base": [s.base for s in self.speakers],
            "own": [s.own for s in self.speakers],
        }
        if all(s.pooled is not None for s in self.speakers):
            rows["pooled"] = [s.pooled for s in self.speakers if s.pooled is not None]
        rows["enabled"] = [s.own if s.enabled else s.pooled or s.base for s in self.speakers]
        return {name: overall_wer(scores) for name, scores in rows.items()} if self.speakers else {}

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft speakers --json` prints."""
        return {
            "speakers": [s.to_json() for s in self.speakers],
            "overall": self.overall(),
            "pooled": None if self.pooled is None else self.pooled.to_json(),
            "skipped": [{"speaker": speaker, "reason": reason} for speaker, reason in self.skipped],
            "by": self.by,
            **({"run": dict(self.run)} if self.run else {}),
        }

    def rows(self) -> list[Row]:
        """The table, one row a speaker."""
        return [one.row() for one in self.speakers]

    def save_report(self, folder: Path) -> None:
        """`speakers.json`, its paths relative to itself: the folder may be moved; and its table, `speakers.csv`."""
        replace_file(folder / TABLE, as_csv(self.rows()))
        content = self.to_json()
        for one in (*content["speakers"], *([] if content["pooled"] is None else [content["pooled"]])):
            one["adapter"] = os.path.relpath(one["adapter"], folder)
        replace_file(folder / REPORT, as_json(content))

    # -- what is shown -----------------------------------------------------------------------------------------------
    def document(self) -> Document:
        # Where WER and CER disagree, or invented words decide. (That a test of one speaker speaks of one speaker is no news.)
        remarks = [f"{one.speaker}: {note}" for one in self.speakers for note in one.test["notes"] if not note.startswith("Decided")]
        more = [f"{len(remarks) - NOTES} more notes like these are in {REPORT}."] if len(remarks) > NOTES else []
        return Document(
            "One adapter per speaker",
            (self._table(), *([self._overall()] if len(self.speakers) > 1 else [])),
            notes=tuple(remarks[:NOTES] + more),
            lines=tuple(f"{speaker} was left out: {reason}" for speaker, reason in self.skipped),
            pictures=(Picture("speakers", "Each speaker with the own adapter and without any; filled where it is enabled", self._draw),)
            if self.speakers
            else (),
            made_by=self.run,
        )

    def _table(self) -> Table:
        rows: list[tuple[Any, ...]] = [
            (
                one.speaker,
                one.utterances["train"],
                one.utterances["test"],
                _percent(one.base),
                _percent(one.pooled),
                _percent(one.own),
                one.test["verdict"],
                p_value(one.test["p"]),
                "yes" if one.enabled else "no",
            )
            for one in self.speakers
        ]
        head: tuple[str, ...] = ("speaker", "trained on", "tested on", "base WER %", "pooled WER %", "own WER %", "own is", "p", "enabled")
        if all(one.pooled is None for one in self.speakers):
            head, rows = head[:4] + head[5:], [row[:4] + row[5:] for row in rows]
        below = "Tested on each speaker's own held-out sentences; enabled by their dev sentences."
        return Table.of(f"By {self.by}", head, rows, below=below)

    def _overall(self) -> Table:
        said = {"base": "the base", "pooled": "one adapter for all", "own": "each speaker's own", "enabled": "own where enabled"}
        rows = [(said[name], percent(wer)) for name, wer in self.overall().items()]
        return Table.of("Over all of them", ("with", "WER %"), rows)

    def _draw(self) -> Figure:
        """One dot per speaker, WER without an adapter across and with the own one upwards: below the diagonal it helps."""
        from asrpeft.report.figures import COLORS, diagonal

        figure, axes = diagonal([100 * one.base["wer"] for one in self.speakers], [100 * one.own["wer"] for one in self.speakers])
        for enabled in (True, False):
            there = [one for one in self.speakers if one.enabled == enabled]
            axes.scatter(
                [100 * one.base["wer"] for one in there],
                [100 * one.own["wer"] for one in there],
                s=26,
                edgecolor=COLORS[0],
                facecolor=COLORS[0] if enabled else "none",
                label="enabled" if enabled else "not enabled",
            )
        axes.set(xlabel="WER of the base, %", ylabel="WER with the own adapter, %")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        return figure


def _percent(score: Mapping[str, Any] | None) -> str:
    return UNKNOWN if score is None else percent(score["wer"])


def overall_wer(scores: Sequence[Mapping[str, Any]]) -> float:
    """Of several speakers' scores together."""
    errors = sum(s["substitutions"] + s["insertions"] + s["deletions"] for s in scores)
    return errors / sum(s["words"] for s in scores)
