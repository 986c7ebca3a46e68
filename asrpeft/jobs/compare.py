"""Several methods on one corpus: error rates against trained parameters, time and memory, every run with the same data and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.corpus import Corpus
from asrpeft.decoding import Options
from asrpeft.errors import BadInput, Failure
from asrpeft.jobs.evaluate import OPTIONS
from asrpeft.jobs.leakage import How
from asrpeft.jobs.ledger import keep
from asrpeft.jobs.pace import Pace
from asrpeft.jobs.provenance import run_of
from asrpeft.jobs.results.comparison import Entry, MethodComparison, Trial
from asrpeft.jobs.trials import Run, Trials
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring.ranking import Ranker
from asrpeft.training import Message, Progress, TrainingOptions
from asrpeft.training.events import ignore

FILES = ("compare.csv", "compare.json", "compare.html", "compare.svg")


@destination.holds
def compare(
    recognizer: Recognizer,
    data: Corpus,
    eval_data: Corpus,
    *,
    methods: Sequence[str],
    options: TrainingOptions | None = None,
    seeds: int = 1,
    where: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    lang: str | None = None,
    dev: Corpus | None = None,
    guard: Corpus | None = None,
    guard_lang: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    decoding: Options = OPTIONS,
    overlap: How = "warn",
    progress: Progress = ignore,
    done: Callable[[MethodComparison], None] | None = None,
) -> MethodComparison:
    """Train adapters of each method, one after another on the loaded base, and score each on `eval_data`.

    Args:
        options: for all of them; a learning rate that is not given is each method's own.
        seeds: by how many seeds each method is trained, from `options.seed` on; all have the same development data.
        where: layers for the methods that can act on them; a method that cannot uses its own.
        settings: of single methods, by name: {"lora": {"rank": 16}}.
        guard: what the base could already do, in its own language (`guard_lang` where it does not say): how much of it each
            method forgets.
        out: a folder for the adapters, one below it a method (and a further seed), for what each wrote (see `asrpeft.jobs.ledger`),
            and for compare.csv, compare.json, compare.html and compare.svg, written anew after the base and every method.
        resume: what is done there is neither trained nor decoded again, what was interrupted goes on.
        overwrite: train it again and replace what is there.
        decoding: how `eval_data` and `guard` are decoded.
        overlap: as in `finetune`.
        done: told of what was found so far, after the base and after every method.
    Raises: BadInput, before anything is trained, for an unknown method, settings it does not have, a folder that is
        taken, or one to resume that holds other runs. A method that does not fit the layers, or fails in any other way, is
        reported and costs the others nothing; Failure if all do.
    """
    methods = list(dict.fromkeys(methods))
    if not methods:
        raise BadInput("There is nothing to compare: name methods with --methods lora,ia3, or all.")
    if seeds < 1:
        raise BadInput(f"--seeds {seeds}: every method is trained by one seed or more.")
    options = options or TrainingOptions()
    runs = {name: [_run(name, dict((settings or {}).get(name, {})), options.seed, options.seed + number) for number in range(seeds)] for name in methods}
    trials = Trials.open(recognizer, data, eval_data, names=[run.name for own in runs.values() for run in own], options=options, dev=dev, out=out,
                         resume=resume, overwrite=overwrite, overlap=overlap, progress=progress, guard=guard, guard_lang=guard_lang, where=where,
                         lang=lang, decoding=decoding)  # fmt: skip
    kept = trials.recalled([run for own in runs.values() for run in own])  # before anything is trained: another comparison's are refused
    return _all_of(_Found(trials, Ranker(trials.base.score, options.seed), run_of(recognizer), done), runs, kept)


def _run(method: str, settings: Mapping[str, Any], first: int, seed: int) -> Run:
    return Run(called(method, seed, first), method, seed, settings, {"settings": asdict(configure(method_named(method), settings))})


def called(method: str, seed: int, first: int) -> str:
    """The adapter of a method by a seed, and its folder: `lora`, and `lora-seed1` of a further seed."""
    return method if seed == first else f"{method}-seed{seed}"


def _all_of(found: _Found, runs: Mapping[str, Sequence[Run]], kept: Mapping[str, bool]) -> MethodComparison:
    """Every method by every seed, as they come."""
    progress, out = found.trials.progress, found.trials.out
    pace = Pace([1.0] * sum(map(len, runs.values())))
    compared = found.so_far()
    try:
        for number, (method, own) in enumerate(runs.items(), 1):
            made: list[Trial] = []
            try:
                for run in own:
                    rest = pace.step(counts=not kept[run.name])
                    progress(Message(f"-- {method} ({number} of {len(runs)}{f', seed {run.seed}' if len(own) > 1 else ''}{rest}) --"))
                    made.append(found.trials.trial(run))
            except Exception as error:  # whatever it is: hours of the other methods are not lost for it
                found.failed[method] = str(error) or type(error).__name__
                progress(Message(f"{method} is left out: {found.failed[method]}"))
            else:
                found.add(made)
            compared = found.so_far()
    except interruption.INTERRUPTIONS as error:
        if out is not None:
            interruption.note(error, f"{len(found.made)} of {len(runs)} methods are done and in {str(out)!r}.", resumes=True)
        raise
    if not found.made:
        raise Failure(f"No method could be compared. {'; '.join(f'{name}: {reason}' for name, reason in found.failed.items())}")
    return compared


@dataclass
class _Found:
    """What was found so far, and where it is reported and written."""

    trials: Trials
    ranker: Ranker
    run: Mapping[str, Any]
    done: Callable[[MethodComparison], None] | None
    made: dict[str, tuple[Trial, ...]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, made: Sequence[Trial]) -> None:
        method = made[0].trained.method
        self.made[method] = tuple(made)
        self.ranker.add(method, [one.system.score for one in made])

    def so_far(self) -> MethodComparison:
        ranking, trials = self.ranker.ranking(), self.trials
        entries = tuple(Entry(made, ranking.rates[name], ranking.against_base[name], ranking.to_best.get(name)) for name, made in self.made.items())
        compared = MethodComparison(trials.base, entries, dict(self.failed), ranking, trials.shared, trials.notes, self.run)
        if trials.out is not None:
            keep(compared, FILES if entries else FILES[:-1], trials.out, trials.progress)
        if self.done is not None:
            self.done(compared)
        return compared
