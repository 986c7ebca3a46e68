"""Several methods on one corpus: error rates against trained parameters, time and memory, every run with the same data and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.errors import Failure
from asrpeft.jobs.evaluate import DECODING, check_guard
from asrpeft.jobs.ledger import keep, refuse_taken
from asrpeft.jobs.pace import Pace
from asrpeft.jobs.provenance import run_of
from asrpeft.jobs.results.comparison import Entry, MethodComparison, Trial
from asrpeft.jobs.results.evaluation import BASE, System
from asrpeft.jobs.start import informed
from asrpeft.jobs.trials import Runs, divided, trial_of
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.options import (
    AdapterOptions,
    Data,
    DecodingOptions,
    MethodsOptions,
    OutputOptions,
    SpeechOptions,
    TrainingOptions,
)
from asrpeft.recognizer import Recognizer
from asrpeft.scoring.ranking import Ranker
from asrpeft.training import Interim, Message, Progress
from asrpeft.training.events import ignore

FILES = ("compare.csv", "compare.json", "compare.html", "compare.svg")


@destination.holds
def compare(
    recognizer: Recognizer,
    data: Data,
    *,
    methods: Sequence[str | AdapterOptions] | MethodsOptions,
    lang: str | SpeechOptions | None = None,
    training: TrainingOptions | None = None,
    decoding: DecodingOptions = DECODING,
    out: str | Path | OutputOptions | None = None,
    progress: Progress = ignore,
) -> MethodComparison:
    """Train adapters of each method, one after another on the loaded base, and score each on the evaluation data.

    Args:
        data: with `eval`. Of a guard it is reported how much each method forgets; with a limit on what may be lost, it also chooses among the
            weights of each, and a method whose weights all lose more is left out.
        methods: names, or `AdapterOptions` with settings and layers (a method that cannot act on these uses its own); or `MethodsOptions`,
            which train each by several seeds, from that of `training` on: all have the same development data.
        lang: as `finetune`.
        training: for all of them; a learning rate that is not given is each method's own.
        decoding: how evaluation and guard data are decoded.
        out: a folder for the adapters, one below it a method (and a further seed), for what each wrote (see `asrpeft.jobs.ledger`), and for
            compare.csv, compare.json, compare.html and compare.svg, written anew after the base and every method; or `OutputOptions`: on
            resumption what is done there is neither trained nor decoded again, what was interrupted goes on.
        progress: also told `Interim(comparison)`, what was found so far, after the base and after every method.
    Raises: BadInput, before anything is trained, for an unknown method, settings it does not have, a folder that is
        taken, or one to resume that holds other runs. A method that does not fit the layers, or fails in any other way, is
        reported and costs the others nothing; Failure if all do.
    """
    place, training, asked = OutputOptions.of(out), training or TrainingOptions(), MethodsOptions.of(methods)
    if place.path is not None:
        destination.check(place.path)
    wanted = asked.by_name()
    for name, adapter in wanted.items():
        configure(method_named(name), adapter.settings)
    if data.guard.data is not None:
        check_guard(recognizer, data.guard.data, data.guard.lang)
    seeds = [training.seed + number for number in range(asked.seeds)]
    if place.path is not None:
        refuse_taken(place.path, [called(name, seed, training.seed) for name in wanted for seed in seeds], resume=place.resume, overwrite=place.overwrite)
    parts, known = divided(informed(data, decoding, training), place, training, progress)
    runs = Runs(recognizer, parts, SpeechOptions.of(lang), training, decoding, place, progress)
    asked_of = {called(name, seed, training.seed): (adapter, seed) for name, adapter in wanted.items() for seed in seeds}
    kept = {name: runs.recalled(name, *one) for name, one in asked_of.items()}
    runs.ledger(training.seed).recall(BASE, runs.tested)  # before anything is trained: another comparison's are refused
    base = runs.base()
    found = _Found(base, Ranker(base.score, training.seed), known | {"in_context": runs.in_context(), "run": run_of(recognizer, {})}, place.path, progress)
    return _all_of(found, runs, wanted, seeds, kept)


def called(method: str, seed: int, first: int) -> str:
    """The adapter of a method by a seed, and its folder: `lora`, and `lora-seed1` of a further seed."""
    return method if seed == first else f"{method}-seed{seed}"


def _all_of(found: _Found, runs: Runs, methods: Mapping[str, AdapterOptions], seeds: Sequence[int], kept: Mapping[str, bool]) -> MethodComparison:
    """Every method by every seed, as they come."""
    pace = Pace([1.0] * len(methods) * len(seeds))
    compared = found.so_far()
    try:
        for number, (method, adapter) in enumerate(methods.items(), 1):
            trials: list[Trial] = []
            try:
                for seed in seeds:
                    name = called(method, seed, runs.training.seed)
                    rest = pace.step(counts=not kept[name])
                    of_seed = f", seed {seed}" if len(seeds) > 1 else ""
                    runs.progress(Message(f"-- {method} ({number} of {len(methods)}{of_seed}{rest}) --"))
                    trials.append(trial_of(runs, name, adapter, seed))
            except Exception as error:  # whatever it is: hours of the other methods are not lost for it
                found.failed[method] = str(error) or type(error).__name__
                runs.progress(Message(f"{method} is left out: {found.failed[method]}"))
            else:
                found.add(trials)
            recalled = all(kept[called(method, seed, runs.training.seed)] for seed in seeds)
            if not recalled or number == len(methods):  # of what is only read again tables and tests are made once
                compared = found.so_far()
    except interruption.INTERRUPTIONS as error:
        if found.out is not None:
            interruption.note(error, f"{len(found.trials)} of {len(methods)} methods are done and in {str(found.out)!r}.", resumes=True)
        raise
    if not found.trials:
        raise Failure(f"No method could be compared. {'; '.join(f'{name}: {reason}' for name, reason in found.failed.items())}")
    return compared


@dataclass
class _Found:
    """What was found so far, and where it is reported and written."""

    base: System
    ranker: Ranker
    known: Mapping[str, Any]
    out: Path | None
    progress: Progress
    trials: dict[str, tuple[Trial, ...]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, runs: Sequence[Trial]) -> None:
        method = runs[0].trained.method
        self.trials[method] = tuple(runs)
        self.ranker.add(method, [one.system.score for one in runs])

    def so_far(self) -> MethodComparison:
        ranking = self.ranker.ranking()
        entries = tuple(Entry(runs, ranking.rates[name], ranking.against_base[name], ranking.to_best.get(name)) for name, runs in self.trials.items())
        compared = MethodComparison(self.base, entries, dict(self.failed), ranking, **self.known)
        if self.out is not None:
            keep(compared, FILES if compared.entries else FILES[:-1], self.out, self.progress)
        self.progress(Interim(compared))
        return compared
