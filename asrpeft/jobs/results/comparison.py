"""What `compare` found: error rates against what each method costs, and which differences are more than luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asrpeft.corpus.traces import Overlap
from asrpeft.jobs.checks import Guarded
from asrpeft.jobs.results.evaluation import BASE, InContext, System
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.report import Document, Finding, Picture, Result, Table
from asrpeft.report.values import Row
from asrpeft.report.words import UNKNOWN, count, duration, listed, percent, points, size
from asrpeft.scoring import Comparison
from asrpeft.scoring.ranking import Ranking, Rate, ToBest
from asrpeft.scoring.report.tables import rare_words
from asrpeft.scoring.report.values import bounds, of_score
from asrpeft.scoring.wording import decisive_p, sentence, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Trial:
    """One method trained by one seed.

    Attributes:
        system: its scores on the evaluation data.
        merged_equal: whether its merged transcripts are those of the routed adapter, letter for letter; None where it cannot merge.
        seconds: of training, over all interruptions.
        adapter_bytes: of the numbers in its file.
        guarded: base and adapter on what the base could already do, where there were guard data.
    """

    seed: int
    trained: Finetuned
    system: System
    merged_equal: bool | None
    seconds: float
    adapter_bytes: int
    guarded: Guarded | None = None

    @property
    def seconds_per_step(self) -> float:
        """Wall time of a training step, with reading and augmenting audio."""
        return self.trained.training.seconds / self.trained.training.steps if self.trained.training.steps else float("nan")

    def to_json(self) -> dict[str, Any]:
        content = self.trained.to_json()
        keys = ("adapter", "utterances_per_second", "peak_memory_bytes", "steps")
        return {"seed": self.seed, **{key: content[key] for key in keys}} | {
            "seconds": self.seconds,
            "seconds_per_step": self.seconds_per_step,
            "adapter_bytes": self.adapter_bytes,
            "score": self.system.to_json(),
            "merged_equal": self.merged_equal,
            **({} if self.guarded is None else {"guard": self.guarded.to_json()}),
        }


@dataclass(frozen=True)
class Entry:
    """One method: a trial by every seed, and what the tests say of it. `to_best` is None for the best itself."""

    trials: tuple[Trial, ...]
    rate: Rate
    test: Comparison
    to_best: ToBest | None = None

    @property
    def method(self) -> str:
        return self.trials[0].trained.method

    @property
    def trained(self) -> Finetuned:
        """The run of the first seed."""
        return self.trials[0].trained

    @property
    def system(self) -> System:
        """What the run of the first seed makes of the evaluation data."""
        return self.trials[0].system

    @property
    def merged_equal(self) -> bool | None:
        """Of all seeds."""
        return None if self.trials[0].merged_equal is None else all(one.merged_equal for one in self.trials)

    def mean(self, of: str) -> float:
        """Of an attribute of the trials, over seeds: `seconds`, `seconds_per_step`."""
        return sum(getattr(one, of) for one in self.trials) / len(self.trials)

    @property
    def peak_memory_bytes(self) -> int:
        return max(one.trained.training.peak_memory_bytes for one in self.trials)

    @property
    def forgotten(self) -> float | None:
        """Points of WER that were lost on the guard data, over seeds, as a fraction; None without such data."""
        losses = [one.guarded.test.loss for one in self.trials if one.guarded is not None]
        return sum(losses) / len(losses) if losses else None

    def to_json(self) -> dict[str, Any]:
        """The first seed's run under the keys that one run has; `seeds` lists all of them."""
        run = self.trained
        content = {
            "method": run.method,
            "trained_parameters": run.trained_parameters,
            "head_parameters": run.head_parameters,
            "total_parameters": run.total_parameters,
            **self.trials[0].to_json(),
            "wer": self.rate.wer,
            "wer_interval": self.rate.interval.to_json(),
            "test": self.test.to_json(),
            "merged_equal": self.merged_equal,
            "forgotten": self.forgotten,
            "to_best": None if self.to_best is None else self.to_best.to_json(),
        }
        return content | ({"seeds": [one.to_json() for one in self.trials]} if len(self.trials) > 1 else {})

    def row(self) -> Row:
        run, best = self.trained, self.to_best
        of = {
            "method": run.method,
            "trained_parameters": run.trained_parameters,
            "head_parameters": run.head_parameters,
            "total_parameters": run.total_parameters,
        }
        score = of_score(self.system.score) | {"wer": self.rate.wer, **bounds("wer", self.rate.interval)}
        test = {"difference": self.test.difference, "p": self.test.p, "p_adjusted": self.test.p_adjusted, "verdict": self.test.verdict}
        far = (
            {}
            if best is None
            else {
                "to_best": best.test.difference,
                **bounds("to_best", best.test.interval),
                "to_best_p_adjusted": best.test.p_adjusted,
                "units_needed": None if best.needed is None else best.needed.units,
            }
        )
        seeds = {"seeds": len(self.trials), "lowest_wer": min(self.rate.seeds), "highest_wer": max(self.rate.seeds)} if len(self.trials) > 1 else {}
        return (
            of
            | score
            | seeds
            | test
            | far
            | {
                "forgotten": self.forgotten,
                "seconds": self.mean("seconds"),
                "seconds_per_step": self.mean("seconds_per_step"),
                "steps": run.training.steps,
                "lr": run.training.lr,
                "utterances_per_second": run.training.utterances_per_second,
                "peak_memory_bytes": self.peak_memory_bytes,
                "adapter_bytes": self.trials[0].adapter_bytes,
                "merged_equal": self.merged_equal,
            }
        )


@dataclass(frozen=True)
class MethodComparison(Result):
    """Methods against each other.

    Attributes:
        base: without any adapter.
        entries: one a method, in the order asked for.
        failed: the methods that could not run, with the reason.
        ranking: what the tests say of all of them.
        shared, notes: what the parts of the data have in common, if anything.
        run: how it came about.
        in_context: the base told text of the training data, which takes no training; None where there is no such row.
    """

    base: System
    entries: tuple[Entry, ...]
    failed: Mapping[str, str]
    ranking: Ranking
    shared: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_context: InContext | None = None

    def rows(self) -> list[Row]:
        """The table, one row a system, the base first; a method that failed has only its reason."""
        base = [{"method": one.score.name, "trained_parameters": 0, **of_score(one.score)} for one in self._untrained()]
        return [*base, *(entry.row() for entry in self.entries), *({"method": name, "failed": reason} for name, reason in self.failed.items())]

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft compare --json` prints."""
        content = {"base": self.base.to_json(), "methods": [entry.to_json() for entry in self.entries], "failed": dict(self.failed)}
        content |= {} if self.in_context is None else {"in_context": self.in_context.to_json() | {"test": self.in_context.test.to_json()}}
        content |= {"ranking": self.ranking.to_json(), "frontier": [entry.method for entry in self.frontier("parameters")], "notes": list(self.notes)}
        return content | ({"overlap": [one.to_json() for one in self.shared]} if self.shared else {}) | ({"run": dict(self.run)} if self.run else {})

    def _untrained(self) -> list[System]:
        """The base, and the base in context."""
        return [self.base, *([] if self.in_context is None else [self.in_context.system])]

    def frontier(self, cost: str) -> list[Entry]:
        """The methods that no other beats in both: fewer errors at no more "parameters" (or "seconds" of training)."""
        order = sorted(self.entries, key=lambda one: (_cost(one, cost), one.rate.wer))
        found: list[Entry] = []
        for one in order:
            if not found or one.rate.wer < found[-1].rate.wer:
                found.append(one)
        return found

    # -- what is shown -----------------------------------------------------------------------------------------------
    def document(self) -> Document:
        tests = [*([] if self.in_context is None else [self.in_context.test]), *(one.test for one in self.entries)]
        findings = [Finding(sentence(one), one.verdict) for one in tests]
        findings += [Finding(text) for text in self.ranking.sentences()]
        if cheap := [one.method for one in self.frontier("parameters")]:
            findings.append(Finding(f"For their trained parameters no other method does better than {listed(cheap)}."))
        notes = [
            *self.notes,
            *([] if self.in_context is None else [self.in_context.note()]),
            *self.base.score.notes,
            *(note for test in tests for note in test.notes),
            *self._remarks(),
        ]
        tables = [self._rates(), *([self._to_best()] if self.ranking.to_best else []), *([self._costs()] if self.entries else [])]
        guarded = [one for one in self.entries if one.forgotten is not None]
        return Document(
            "Methods compared",
            (*tables, *([self._forgotten(guarded)] if guarded else []), *self._rare_words()),
            tuple(findings),
            tuple(dict.fromkeys(notes)),
            tuple(f"{name} did not run: {reason}" for name, reason in self.failed.items()),
            tuple(self._pictures()),
            made_by=self.run,
        )

    def _remarks(self) -> list[str]:
        """What a reader of the tables has to know of their numbers."""
        if not self.entries:
            return []
        seeds = len(self.entries[0].trials)
        lines = ["The p are corrected: each is what it would be alone, made larger for the others beside it."] if len(self.entries) > 1 else []
        if seeds == 1:
            lines.append(
                "Every method was trained by one seed: how far it would come by another is not known, and the intervals know nothing of it. "
                "--seeds 3 trains each three times."
            )
        else:
            lines.append(f"Rates are means over {seeds} seeds; intervals and tests count speakers (or utterances) and seeds.")
        return lines

    def _rates(self) -> Table:
        base = self.base.score
        seeds = self.entries and len(self.entries[0].trials) > 1
        rows = [(BASE, "0", percent(base.wer), span(base.wer_interval), "", percent(base.cer), "", "")]
        if self.in_context is not None:
            told, test = self.in_context.system.score, self.in_context.test
            rows.append((told.name, "0", percent(told.wer), span(told.wer_interval), "", percent(told.cer), test.verdict, decisive_p(test)))
        for one in self.entries:
            score, rate = one.system.score, one.rate
            of_seeds = f"{percent(min(rate.seeds))}–{percent(max(rate.seeds))}" if seeds else ""
            rows.append(
                (
                    one.method,
                    count(one.trained.trained_parameters),
                    percent(rate.wer),
                    span(rate.interval),
                    of_seeds,
                    percent(score.cer),
                    one.test.verdict,
                    decisive_p(one.test),
                )
            )
        below = f"{count(base.utterances)} utterances, {count(base.counts.words)} words; intervals over {base.interval_unit}s; verdicts against the base."
        head = ("method", "trained", "WER %", "interval", "by seed", "CER %", "verdict", "p (Holm)")
        return Table.of("Error rates", head, rows, below=below).without_empty_columns()

    def _to_best(self) -> Table:
        rows = []
        for name, one in self.ranking.to_best.items():
            need = UNKNOWN if one.needed is None or one.apart else count(one.needed.units)
            rows.append((name, points(one.test.difference), span(one.test.interval, signed=True), decisive_p(one.test), "yes" if one.apart else "no", need))
        unit = next(iter(self.ranking.to_best.values())).test.interval_unit
        head = ("method", "points more", "interval", "p (corrected)", "told apart", f"{unit}s needed")
        below = (
            f"The interval is that of the pair alone; p is corrected for all {self.ranking.pairs} pairs by {self.ranking.correction}. "
            f"{unit.capitalize()}s needed: with 80 % power "
            "at that level, if the difference is truly what was seen (asrpeft/scoring/power.py has the formula)."
        )
        return Table.of(f"Against {self.ranking.best}, which has the lowest WER", head, rows, below=below)

    def _rare_words(self) -> list[Table]:
        """Words by how often the training data have them; of a method, as the run of its first seed wrote them."""
        systems = [(one.score.name, one) for one in self._untrained()] + [(one.method, one.system) for one in self.entries]
        bands = {name: one.findings.rare_words for name, one in systems if one.findings is not None and one.findings.rare_words}
        return [rare_words(bands)] if bands else []

    def _costs(self) -> Table:
        merged = {True: "equal", False: "differs", None: UNKNOWN}
        rows = [
            (
                one.method,
                count(one.trained.trained_parameters),
                percent(one.trained.trained_parameters / one.trained.total_parameters),
                size(one.trials[0].adapter_bytes),
                UNKNOWN if one.trained.training.lr is None else f"{one.trained.training.lr:g}",
                f"{one.mean('seconds_per_step'):.2f}",
                duration(one.mean("seconds")),
                size(one.peak_memory_bytes),
                merged[one.merged_equal],
            )
            for one in self.entries
        ]
        head = ("method", "trained", "% of the base", "adapter", "rate", "s a step", "training", "peak memory", "merged writes")
        below = "Peak memory is that of the whole process. Merged: whether the transcripts of the merged base are those of the adapter, letter for letter."
        return Table.of("What each costs", head, rows, below=below)

    def _forgotten(self, guarded: list[Entry]) -> Table:
        rows = []
        for one in guarded:
            kept = one.trials[0].guarded
            assert kept is not None
            rows.append(
                (
                    one.method,
                    percent(kept.test.wer_before),
                    percent(kept.test.wer_before + (one.forgotten or 0.0)),
                    points(one.forgotten or 0.0),
                    span(kept.test.comparison.interval, signed=True),
                    kept.test.comparison.verdict,
                )
            )
        below = "The interval is that of the first seed's adapter." if len(guarded[0].trials) > 1 else ""
        head = ("method", "base WER %", "WER %", "points lost", "interval", "than the base")
        return Table.of("Forgetting: what the base could already do", head, rows, below=below)

    # -- pictures ----------------------------------------------------------------------------------------------------
    def _pictures(self) -> list[Picture]:
        if not self.entries:
            return []
        found = [
            Picture("parameters", "WER against trained parameters, and the methods that none beats in both", lambda: self._draw("parameters")),
            Picture("time", "WER against time of training", lambda: self._draw("seconds")),
        ]
        if any(one.forgotten is not None for one in self.entries):
            found.append(Picture("forgetting", "WER on the evaluation data against points lost on the guard data", lambda: self._draw("forgotten")))
        return found

    def _draw(self, cost: str) -> Figure:
        """WER with its interval over a cost; the base as a line across, the frontier as a line through those that none beats in both."""
        from asrpeft.report.figures import COLORS, canvas, logarithmic

        figure, axes = canvas(width=7, height=4.4)
        axes.axhline(100 * self.base.score.wer, color="#888", linestyle="--", linewidth=1, label=BASE)
        there = [one for one in self.entries if _cost(one, cost) == _cost(one, cost)]
        if cost != "forgotten":
            front = self.frontier(cost)
            axes.plot([_cost(one, cost) for one in front], [100 * one.rate.wer for one in front], color=COLORS[1], linewidth=1, label="none better in both")
        for one in there:
            x, wer, known = _cost(one, cost), 100 * one.rate.wer, one.rate.interval
            low, high = (wer, wer) if not known.known else (100 * known.low, 100 * known.high)
            best = one.method == self.ranking.best
            axes.errorbar(x, wer, yerr=[[max(0.0, wer - low)], [max(0.0, high - wer)]], fmt="s" if best else "o", color=COLORS[0], capsize=3)
            axes.annotate(one.method, (x, wer), textcoords="offset points", xytext=(6, 5), size=8)
        if cost == "parameters":
            logarithmic(axes)
        axes.set_ylim(bottom=0)
        axes.set(xlabel=_COSTS[cost], ylabel="WER, % (95 % interval)")
        axes.legend(frameon=False, fontsize=8)
        return figure


_COSTS = {"parameters": "trained parameters", "seconds": "minutes of training", "forgotten": "points of WER lost on the guard data"}


def _cost(one: Entry, cost: str) -> float:
    if cost == "parameters":
        return max(1, one.trained.trained_parameters)
    if cost == "seconds":
        return one.mean("seconds") / 60
    return float("nan") if one.forgotten is None else 100 * one.forgotten
