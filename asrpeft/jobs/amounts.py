"""WER against the amount of adaptation data: one method, growing parts of one corpus, all else equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.corpus import Corpus
from asrpeft.decoding import Options
from asrpeft.errors import BadInput
from asrpeft.jobs.evaluate import OPTIONS
from asrpeft.jobs.leakage import How
from asrpeft.jobs.ledger import keep
from asrpeft.jobs.pace import Pace
from asrpeft.jobs.provenance import run_of
from asrpeft.jobs.results.curve import Curve, Point
from asrpeft.jobs.results.evaluation import System
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.jobs.trials import Run, Trials
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import compare_all
from asrpeft.training import Message, Progress, TrainingOptions
from asrpeft.training.events import ignore

FILES = ("curve.csv", "curve.json", "curve.html", "curve.svg")


@destination.holds
def amounts(
    recognizer: Recognizer,
    data: Corpus,
    eval_data: Corpus,
    *,
    fractions: Sequence[float],
    method: str = "lora",
    options: TrainingOptions | None = None,
    where: str | None = None,
    settings: Mapping[str, Any] | None = None,
    lang: str | None = None,
    dev: Corpus | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    decoding: Options = OPTIONS,
    overlap: How = "warn",
    progress: Progress = ignore,
    done: Callable[[Curve], None] | None = None,
) -> Curve:
    """Train one adapter for each fraction of `data`, and score each on `eval_data`.

    A smaller part lies within every larger one (a seeded order decides), and the same development data, set aside from the
    whole, choose for all. Epochs make short runs of small parts; `steps` makes all runs as long.

    Args:    fractions: over 0 and at most 1.   out: a folder for the adapters, one below it a fraction.
             resume, overwrite: as `asrpeft.jobs.compare.compare`.   decoding: how `eval_data` are decoded.
             overlap: as in `finetune`.   done: told of the curve so far, after every amount.
    Raises:  BadInput for fractions that are none; as `finetune`.
    """
    wanted = sorted(set(fractions))
    if not wanted or not all(0 < fraction <= 1 for fraction in wanted):
        raise BadInput(f"--amounts takes fractions of the training data, over 0 and at most 1, such as 0.1,0.5,1; got {list(fractions)}.")
    options = options or TrainingOptions()
    names = {fraction: f"{method}-{fraction:g}" for fraction in wanted}
    own = {"method": method, "settings": asdict(configure(method_named(method), settings or {}))}
    trials = Trials.open(recognizer, data, eval_data, names=names.values(), options=options, dev=dev, out=out, resume=resume, overwrite=overwrite,
                         overlap=overlap, progress=progress, where=where, lang=lang, decoding=decoding)  # fmt: skip
    trials = replace(trials, data=trials.data.shuffle(options.seed))
    parts = {fraction: trials.data[: max(1, round(fraction * len(trials.data)))] for fraction in wanted}
    runs = {fraction: Run(names[fraction], method, options.seed, settings or {}, own, parts[fraction]) for fraction in wanted}
    trials.recalled([run for run in runs.values() if trials.finished(run.name)])  # another comparison's are refused before anything is trained
    return _all_of(trials, runs, done)


def _all_of(trials: Trials, runs: Mapping[float, Run], done: Callable[[Curve], None] | None) -> Curve:
    """Every amount, the least first, as they come."""
    about = run_of(trials.recognizer)
    base, pace = trials.base, Pace(list(runs))
    measured: list[tuple[float, int, float, Finetuned, System]] = []
    for fraction, run in runs.items():
        part = trials.data if run.data is None else run.data
        minutes, finished = sum(u.duration for u in part) / 60, trials.finished(run.name)
        rest = pace.step(counts=not finished)
        trials.progress(Message(f"-- {fraction:.0%} of the training data: {len(part)} utterances, {minutes:.1f} minutes{rest} --"))
        try:
            trained = trials.train(run)
            system, _ = trials.heard(run.name, run.seed, run.own, use=finished, merged=False)
        except interruption.INTERRUPTIONS as error:
            if trials.out is not None:
                interruption.note(error, f"{len(measured)} of {len(runs)} amounts are done and in {str(trials.out)!r}.", resumes=True)
            raise
        finally:
            trials.forget(run.name)
        measured.append((fraction, len(part), minutes, trained, system))
        tests = compare_all([base.score, *(system.score for *_, system in measured)], to_first=True, seed=run.seed)
        points = tuple(Point(*point, test) for point, test in zip(measured, tests, strict=True))
        found = Curve(base, points, trials.shared, trials.notes, about)
        if trials.out is not None:
            keep(found, FILES, trials.out, trials.progress)
        if done is not None:
            done(found)
    return found
