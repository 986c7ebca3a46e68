"""What `finetune` returns: an adapter that was trained, and whether it helped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrpeft.corpus.traces import Overlap
from asrpeft.jobs.results.evaluation import IN_CONTEXT, Evaluation, System
from asrpeft.report import Document, Finding, Picture, Result, Table
from asrpeft.report.values import Row
from asrpeft.report.words import count, duration, per_cent, percent, points, size
from asrpeft.scoring.report.tables import rare_words
from asrpeft.scoring.report.values import of_score
from asrpeft.scoring.wording import sentence, span
from asrpeft.training import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from asrpeft.jobs.guard import GuardResult
    from asrpeft.jobs.nonspeech import Quiet


@dataclass(frozen=True)
class Finetuned(Result):
    """An adapter that was trained, and how.

    Attributes:
        name: of the adapter, which stays attached to the recognizer.
        folder: where it was saved, if it was.
        trained_parameters, head_parameters, total_parameters: numbers that train in the adapter (a CTC head apart), and the
            base's.
        training: what the loop did.
        evaluation: base and adapter on the evaluation data, if there were any.
        kept: base and adapter on what the base could already do, if there were guard data.
        unspoken: base and adapter where nobody speaks, if it was trained against writing there.
        shared: what training, development, evaluation and guard data have in common, where they have anything.
        last: the folder of the weights of the last step, where they were saved beside those that were chosen.
    """

    name: str
    folder: Path | None
    method: str
    trained_parameters: int
    head_parameters: int
    total_parameters: int
    training: Trained
    evaluation: Evaluation | None = field(repr=False, default=None)
    kept: GuardResult | None = field(repr=False, default=None)
    shared: tuple[Overlap, ...] = field(repr=False, default=())
    last: Path | None = None
    unspoken: Quiet | None = field(repr=False, default=None)

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft finetune --json` prints."""
        content = {
            "adapter": None if self.folder is None else str(self.folder),
            "method": self.method,
            "trained_parameters": self.trained_parameters,
            "head_parameters": self.head_parameters,
            "total_parameters": self.total_parameters,
            "utterances_per_second": self.training.utterances_per_second,
            "peak_memory_bytes": self.training.peak_memory_bytes,
            "seconds": self.training.seconds,
            "steps": self.training.steps,
            "lr": self.training.lr,
            "dev": dev_json(self.training),
            "skipped": [{"id": s.id, "reason": s.reason} for s in self.training.skipped],
        }
        content |= {} if self.last is None else {"last": str(self.last)}
        content |= {} if self.evaluation is None else {"eval": before_and_after(self.evaluation)}
        content |= {"overlap": [one.to_json() for one in self.shared]} if self.shared else {}
        content |= {} if self.unspoken is None else {"nonspeech": self.unspoken.to_json()}
        return content | ({} if self.kept is None else {"guard": self.kept.to_json()})

    def rows(self) -> list[Row]:
        """Base and adapter on the evaluation data; none where there were none."""
        return [] if self.evaluation is None else [{"system": name, **of_score(one.score)} for name, one in _named(self.evaluation)]

    # -- what is shown -----------------------------------------------------------------------------------------------
    def document(self) -> Document:
        found = self.evaluation
        tests = () if found is None else found.tested
        notes = () if found is None else (*(note for one in tests for note in one.notes), *found.report().remarks)
        guarded = self._guarded()
        return Document(
            f"{self.method} adapter {self.name!r}",
            () if found is None else (_before_and_after(found), *_by_corpus(found), *_rare_words(found)),
            (*(Finding(sentence(one), one.verdict) for one in tests), *([] if guarded is None else [guarded])),
            tuple(dict.fromkeys(notes)),
            (self._sizes(),),
            tuple(self._pictures()),
            made_by=None if found is None else found.run,
        )

    def _guarded(self) -> Finding | None:
        """Whether what was lost on the guard data stays within what may be."""
        if self.kept is None or self.kept.reported is None or self.kept.data is None:
            return None
        test = self.kept.reported.test
        return Finding(
            f"What the base could already do ({self.kept.data.name}): WER {per_cent(test.wer_before)} before, {per_cent(test.wer_after)} after: "
            f"{100 * test.loss:+.1f} points, of {100 * test.max_loss:g} that may be lost: {'kept' if test.passed else 'LOST'}.",
            "" if test.passed else "worse",
        )

    def _sizes(self) -> str:
        head = f" and {count(self.head_parameters)} of a CTC head" if self.head_parameters else ""
        disk = "" if self.folder is None else f", {size(sum(f.stat().st_size for f in self.folder.iterdir() if f.is_file()))} on disk"
        did = self.training
        at = "" if did.lr is None else f" at a rate of {did.lr:g}"
        return (
            f"{self.method}: {count(self.trained_parameters)} parameters{head} ({per_cent(self.trained_parameters / self.total_parameters, 2)} of the base)"
            f"{disk}; {did.steps} steps{at} in {duration(did.seconds)}, {did.utterances_per_second:.1f} utterances/s, "
            f"{size(did.peak_memory_bytes)} of memory at most."
        )

    def _pictures(self) -> list[Picture]:
        looks = self.training.evaluations
        found = [Picture("dev", "Development data while training", self._draw_dev)] if len(looks) > 1 else []
        return found + ([] if self.evaluation is None else list(self.evaluation.document().pictures))

    def _draw_dev(self) -> Figure:
        """The score of the development data over the steps; the weights that were kept are marked."""
        from asrpeft.report.figures import COLORS, canvas

        did = self.training
        rates = did.kind == "wer"
        figure, axes = canvas(height=3.2)
        steps, scores = zip(*did.evaluations, strict=True)
        axes.plot(steps, [100 * one for one in scores] if rates else scores, marker="o", color=COLORS[0])
        if did.best is not None:
            axes.axvline(did.best[1], color=COLORS[1], linestyle="--", linewidth=1, label=f"kept: step {did.best[1]:,}")
            axes.legend(frameon=False, fontsize=8)
        axes.set(xlabel="step", ylabel="WER, %" if rates else did.kind)
        return figure


def _before_and_after(found: Evaluation) -> Table:
    rows = []
    for name, one in _named(found):
        score = one.score
        rows.append(
            (
                name,
                percent(score.wer),
                span(score.wer_interval),
                percent(score.cer),
                span(score.cer_interval),
                f"{score.substitutions}/{score.deletions}/{score.insertions}",
            )
        )
    after = found.systems[1].score
    below = f"{count(after.utterances)} utterances, {count(after.words)} words; intervals over {after.interval_unit}s; normalizer {after.normalizer}."
    return Table.of(f"On {found.corpus}", ("system", "WER %", "interval", "CER %", "interval", "sub/del/ins"), rows, below=below)


def _named(found: Evaluation) -> list[tuple[str, System]]:
    """The systems, by what they are here."""
    return list(zip(("base", "adapted", IN_CONTEXT), found.rated))


def _rare_words(found: Evaluation) -> list[Table]:
    bands = {name: one.findings.rare_words for name, one in _named(found) if one.findings is not None and one.findings.rare_words}
    return [rare_words(bands)] if bands else []


def _by_corpus(found: Evaluation) -> list[Table]:
    """Of several corpora that were evaluated together, each by itself."""
    columns = [{group.value: group for made in one.breakdowns if made.column == "corpus" for group in made.groups} for one in found.systems]
    if len(columns) < 2 or not columns[0]:
        return []
    before, after = columns[0], columns[-1]
    rows = [
        (name, percent(before[name].counts.wer), percent(one.counts.wer), points(one.counts.wer - before[name].counts.wer), count(one.utterances))
        for name, one in after.items()
    ]
    return [Table.of("By corpus", ("corpus", "base WER %", "adapted WER %", "points", "utterances"), rows)]


def dev_json(training: Trained) -> dict[str, Any] | None:
    """Which weights were kept, by what score of the development data."""
    if training.best is None:
        return None
    return {
        "kind": training.kind,
        "best": training.best[0],
        "step": training.best[1],
        "chosen_by": training.chosen_by,
        "evaluations": [list(one) for one in training.evaluations],
        "measures": [dict(zip(("step", "wer", "cer", "loss"), one)) for one in training.measures],
    }


def before_and_after(found: Evaluation) -> dict[str, Any]:
    """An evaluation of the base and one adapter, as `eval` of the JSON output."""
    return {
        "before": found.systems[0].to_json(),
        "after": found.systems[1].to_json(),
        "test": found.tests[0].to_json(),
        "notes": list(found.notes),
    } | ({} if found.in_context is None else {"in_context": found.in_context.to_json() | {"test": found.in_context.test.to_json()}})
