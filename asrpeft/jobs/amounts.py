"""WER against the amount of adaptation data: one method, growing parts of one corpus, all else equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus import Corpus
from asrpeft.corpus.traces import Overlap
from asrpeft.decoding import Options
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput
from asrpeft.jobs.evaluate import BASE, OPTIONS, System, evaluate, heard_before
from asrpeft.jobs.finetune import DEV_SHARE, Finetuned, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.jobs.ledger import Ledger, refuse_taken
from asrpeft.jobs.pace import Pace
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import Comparison, compare_all
from asrpeft.scoring.report import Amount
from asrpeft.scoring.report.values import of_score
from asrpeft.training import Message, Progress, Scoring, TrainingOptions
from asrpeft.training.checkpoints import corpus_key
from asrpeft.training.events import ignore


@dataclass(frozen=True)
class Point:
    """An adapter trained on `fraction` of the data: so many utterances, so many minutes of speech; against the base."""

    fraction: float
    utterances: int
    minutes: float
    trained: Finetuned
    system: System
    test: Comparison

    def to_json(self) -> dict[str, Any]:
        content = self.trained.to_json()
        keys = ("adapter", "method", "trained_parameters", "steps", "seconds")
        return {"fraction": self.fraction, "utterances": self.utterances, "minutes": self.minutes} | {
            **{key: content[key] for key in keys}, "score": self.system.to_json(), "test": self.test.to_json(),
        }  # fmt: skip

    def row(self) -> dict[str, Any]:
        amount = {"method": self.trained.method, "fraction": self.fraction, "minutes": self.minutes, "utterances_trained_on": self.utterances}
        test = {"difference": self.test.difference, "p": self.test.p, "p_adjusted": self.test.p_adjusted, "verdict": self.test.verdict}
        return amount | of_score(self.system.score) | test | {"seconds": self.trained.training.seconds, "steps": self.trained.training.steps}


@dataclass(frozen=True)
class Curve:
    """The base, and one point an amount, the least first; `shared`, `notes`: what the parts of the data have in common, if anything."""

    base: System
    points: tuple[Point, ...]
    shared: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def amounts(self) -> tuple[Amount, ...]:
        """In minutes of speech, beginning with the base at none; all under the method's name, so that they are one line."""
        name = self.points[0].trained.method
        found = [(0.0, self.base.score), *((point.minutes, point.system.score) for point in self.points)]
        return tuple(Amount(minutes, replace(score, name=name)) for minutes, score in found)

    def rows(self) -> list[dict[str, Any]]:
        """The table, one row an amount, the base first."""
        base = {"method": BASE, "fraction": 0.0, "minutes": 0.0, "utterances_trained_on": 0, **of_score(self.base.score)}
        return [base, *(point.row() for point in self.points)]

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft compare --amounts --json` prints."""
        content = {"base": self.base.to_json(), "amounts": [point.to_json() for point in self.points]}
        return content | {"notes": list(self.notes), **({"overlap": [one.to_json() for one in self.shared]} if self.shared else {})}


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
    if out is not None:
        destination.check(out)
    wanted = sorted(set(fractions))
    if not wanted or not all(0 < fraction <= 1 for fraction in wanted):
        raise BadInput(f"--amounts takes fractions of the training data, over 0 and at most 1, such as 0.1,0.5,1; got {list(fractions)}.")
    own = {"method": method, "settings": asdict(configure(method_named(method), settings or {}))}
    if resume and out is None:
        raise BadInput("--resume goes on with a comparison in a folder: say which, with --out.")
    if out is not None:
        refuse_taken(out, [f"{method}-{fraction:g}" for fraction in wanted], resume=resume, overwrite=overwrite)
    options = options or TrainingOptions()
    dev_given = dev is not None
    if dev is None:
        data, dev = data.split_by_speaker(DEV_SHARE, options.seed)
    shared, said = parts_of_a_run(data=data, dev=dev, dev_given=dev_given, eval_data=eval_data, how=overlap)
    for sentence in said:
        progress(Message(sentence))
    data = data.shuffle(options.seed)

    asked = {"base": recognizer.adapters.fingerprint, "data": corpus_key(data), "dev": corpus_key(dev), "eval_data": corpus_key(eval_data),
             "where": where, "lang": lang, "decoding": asdict(decoding)}  # fmt: skip
    ledger = Ledger(out, asked, options=options, resume=resume)

    def scored(name: str | None) -> System:
        extra = {} if name is None else own
        kept = ledger.recall(name or BASE, eval_data, **extra) if name is None or name in finished else None
        if kept is not None:
            return heard_before(recognizer, name, kept[0], eval_data, seed=options.seed)
        found = evaluate(recognizer, eval_data, adapters=[] if name is None else [name], base=name is None, lang=lang,
                         options=decoding if name else for_base(recognizer, decoding), seed=options.seed, overlap="ignore",
                         progress=lambda done, total, what: progress(Scoring(done, total, what)))  # fmt: skip
        ledger.keep(name or BASE, found.systems[0].transcripts, extra)
        return found.systems[0]

    def curve() -> Curve:
        tests = compare_all([base.score, *(system.score for *_, system in measured)], to_first=True, seed=options.seed)
        found = Curve(base, tuple(Point(*point, test) for point, test in zip(measured, tests, strict=True)), tuple(one for one in shared if one), tuple(said))
        if done is not None:
            done(found)
        return found

    finished = {f"{method}-{fraction:g}" for fraction in wanted if out is not None and (Path(out) / f"{method}-{fraction:g}" / MANIFEST).is_file()}
    for name in (BASE, *sorted(finished)):  # another comparison's are refused before anything is trained
        ledger.recall(name, eval_data, **({} if name == BASE else own))
    base = scored(None)
    measured: list[tuple[float, int, float, Finetuned, System]] = []
    pace = Pace(wanted)
    for fraction in wanted:
        part = data[: max(1, round(fraction * len(data)))]
        minutes = sum(u.duration for u in part) / 60
        name = f"{method}-{fraction:g}"
        progress(Message(f"-- {fraction:.0%} of the training data: {len(part)} utterances, {minutes:.1f} minutes{pace.step(counts=name not in finished)} --"))
        try:
            trained = finetune(recognizer, part, method=method, where=where, settings=settings, options=options, lang=lang, dev=dev, name=name,
                               keep_weights="best", check_nonspeech=False, overlap="ignore", resume=resume, overwrite=overwrite,
                               out=None if out is None else Path(out) / name, progress=progress)  # fmt: skip
            system = scored(name)
        except interruption.INTERRUPTIONS as error:
            if out is not None:
                interruption.note(error, f"{len(measured)} of {len(wanted)} amounts are done and in {str(out)!r}.", resumes=True)
            raise
        finally:
            if name in recognizer.adapters:
                recognizer.adapters.detach(name)
        measured.append((fraction, len(part), minutes, trained, system))
        found = curve()
    return found
