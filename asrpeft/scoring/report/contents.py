"""What a report shows: systems side by side, tests between them, breakdowns, mistakes. Values only, no layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asrpeft.errors import BadInput
from asrpeft.scoring.confidence import Calibration
from asrpeft.scoring.errors import Score
from asrpeft.scoring.groups import Breakdown
from asrpeft.scoring.mistakes import Confusions, Hallucination, NonSpeech, confusions, insertion_runs
from asrpeft.scoring.recall import Recall
from asrpeft.scoring.significance import Comparison, NonInferiority, compare_all
from asrpeft.scoring.speed import Speed


@dataclass(frozen=True)
class Condition:
    """The same test under one disturbance (noise, reverberation, telephone band, speed): one score per system."""

    name: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Amount:
    """A score after adapting on this much data, in the report's `amount_unit`."""

    amount: float
    score: Score


@dataclass(frozen=True)
class Report:
    """Everything that is shown. Dictionaries are by the system's name; what is empty is left out of every layout."""

    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    confusions: Mapping[str, Confusions]
    hallucinations: Mapping[str, Hallucination]
    title: str = "Scores"
    breakdowns: tuple[Breakdown, ...] = ()
    rare_words: Mapping[str, Sequence[Recall]] = field(default_factory=dict)
    hot_words: Mapping[str, Sequence[Recall]] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    nonspeech: Mapping[str, NonSpeech] = field(default_factory=dict)
    guards: Mapping[str, NonInferiority] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    curve: tuple[Amount, ...] = ()
    amount_unit: str = "hours"
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: tuple[Any, ...] = ()
    made_by: Mapping[str, Any] = field(default_factory=dict)  # how it came about: what was run, on which base, when

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """`{"systems": […], "tests": […], "skipped": […]}` and, where there are any, the other parts under their names.

        One system's own parts (confusions, breakdowns, …) lie inside that system. README.md of `scoring` lists them.
        """
        systems = []
        for score in self.scores:
            name = score.name
            parts: dict[str, Any] = {
                "confusions": self.confusions[name].to_json(),
                "hallucination": self.hallucinations[name].to_json(),
            }
            if own := [one.to_json() for one in self.breakdowns if one.system == name]:
                parts["breakdowns"] = own
            for key, table in (("rare_words", self.rare_words), ("hot_words", self.hot_words)):
                if name in table:
                    parts[key] = [one.to_json() for one in table[name]]
            for key, table in (
                ("calibration", self.calibrations),
                ("nonspeech", self.nonspeech),
                ("guard", self.guards),
                ("speed", self.speeds),
            ):
                if name in table:
                    parts[key] = table[name].to_json()
            systems.append(score.to_json(rows=rows, **parts, **self.extra.get(name, {})))
        made: dict[str, Any] = {"systems": systems, "tests": [one.to_json() for one in self.comparisons]}
        if self.conditions:
            made["conditions"] = [{"name": one.name, "systems": [score.to_json() for score in one.scores]} for one in self.conditions]
        if self.curve:
            made["curve"] = [{self.amount_unit: one.amount, **one.score.to_json()} for one in self.curve]
        if self.made_by:
            made["run"] = dict(self.made_by)
        made["skipped"] = [vars(one) if hasattr(one, "__dict__") else one for one in self.skipped]
        return made


def make(
    scores: Iterable[Score],
    *,
    comparisons: Iterable[Comparison] | None = None,
    top: int = 15,
    run: int = 5,
    **parts: Any,
) -> Report:
    """A report of these systems, the first of them the base of comparison.

    Args:
        comparisons: by default every system against every earlier one.
        top: how many confusions; run: inserted words in a row that count as invention.
        parts: further fields of `Report` (title, breakdowns, rare_words, conditions, …).
    Raises:  BadInput without a score, or when two systems share a name.
    """
    scores = tuple(scores)
    names = [score.name for score in scores]
    if not scores:
        raise BadInput("a report needs at least one score.")
    if len(set(names)) != len(names):
        raise BadInput(f"two systems are called {next(n for n in names if names.count(n) > 1)!r}: give each its own name.")
    made = tuple(compare_all(scores)) if comparisons is None else tuple(comparisons)
    return Report(
        scores,
        made,
        {score.name: confusions(score, top=top) for score in scores},
        {score.name: insertion_runs(score, at_least=run) for score in scores},
        **parts,
    )
