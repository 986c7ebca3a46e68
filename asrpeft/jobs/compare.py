"""Several methods on one corpus: error rates against trained parameters, time and memory, every run with the same data and seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus import Corpus
from asrpeft.corpus.traces import Overlap
from asrpeft.decoding import Options, Transcripts
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput, CannotAttach, Failure
from asrpeft.jobs.evaluate import BASE, OPTIONS, Evaluation, System, evaluate, heard_before
from asrpeft.jobs.finetune import DEV_SHARE, Finetuned, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.jobs.ledger import Ledger, refuse_taken
from asrpeft.jobs.pace import Pace
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import Comparison, compare_all
from asrpeft.scoring.report.values import of_score
from asrpeft.training import Message, Progress, Scoring, TrainingOptions
from asrpeft.training.checkpoints import corpus_key
from asrpeft.training.events import ignore


@dataclass(frozen=True)
class Entry:
    """One method's run. `merged_equal` says whether its merged transcripts are those of the routed adapter, letter for
    letter; None where it cannot be merged."""

    trained: Finetuned
    system: System
    test: Comparison
    merged_equal: bool | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        content = self.trained.to_json()
        keys = ("method", "adapter", "trained_parameters", "head_parameters", "total_parameters", "utterances_per_second", "peak_memory_bytes", "steps")
        return {key: content[key] for key in keys} | {
            "seconds": self.seconds, "score": self.system.to_json(), "test": self.test.to_json(), "merged_equal": self.merged_equal,
        }  # fmt: skip

    def row(self) -> dict[str, Any]:
        content = self.to_json()
        keys = ("method", "trained_parameters", "head_parameters", "total_parameters")
        costs = ("seconds", "steps", "utterances_per_second", "peak_memory_bytes", "merged_equal")
        test = {"difference": self.test.difference, "p": self.test.p, "p_adjusted": self.test.p_adjusted, "verdict": self.test.verdict}
        return {key: content[key] for key in keys} | of_score(self.system.score) | test | {key: content[key] for key in costs}


@dataclass(frozen=True)
class MethodComparison:
    """The base's score, one entry a method in the order asked for, and the methods that could not run with the reason;
    `shared`, `notes`: what the parts of the data have in common, if anything."""

    base: System
    entries: tuple[Entry, ...]
    failed: Mapping[str, str]
    shared: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The table, one row a system, the base first; a method that failed has only its reason."""
        base = {"method": BASE, "trained_parameters": 0, **of_score(self.base.score)}
        return [base, *(entry.row() for entry in self.entries), *({"method": name, "failed": reason} for name, reason in self.failed.items())]

    def to_json(self) -> dict[str, Any]:
        content = {"base": self.base.to_json(), "methods": [entry.to_json() for entry in self.entries], "failed": dict(self.failed)}
        return content | {"notes": list(self.notes), **({"overlap": [one.to_json() for one in self.shared]} if self.shared else {})}


@destination.holds
def compare(
    recognizer: Recognizer,
    data: Corpus,
    eval_data: Corpus,
    *,
    methods: Sequence[str],
    options: TrainingOptions | None = None,
    where: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    lang: str | None = None,
    dev: Corpus | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    decoding: Options = OPTIONS,
    overlap: How = "warn",
    progress: Progress = ignore,
    done: Callable[[MethodComparison], None] | None = None,
) -> MethodComparison:
    """Train one adapter of each method, one after another on the loaded base, and score each on `eval_data`.

    Args:
        where: layers for the methods that can act on them; a method that cannot uses its own.
        settings: of single methods, by name: {"lora": {"rank": 16}}.
        options: for all of them; a learning rate that is not given is each method's own.
        out: a folder for the adapters, one below it a method, and for what each wrote (see `asrpeft.jobs.ledger`).
        resume: methods that are done there are neither trained nor decoded again, one that was interrupted goes on.
        overwrite: train them again and replace what is there.
        decoding: how `eval_data` are decoded.
        overlap: as in `finetune`.
        done: called with the comparison so far, after the base and after every method.
    Raises: BadInput, before anything is trained, for an unknown method, settings it does not have, a folder that is
        taken, or one to resume that holds other runs. A method that does not fit the layers, or fails in any other way, is
        reported and costs the others nothing; Failure if all do.
    """
    if out is not None:
        destination.check(out)
    methods = list(dict.fromkeys(methods))
    if not methods:
        raise BadInput("There is nothing to compare: name methods with --methods lora,ia3, or all.")
    if resume and out is None:
        raise BadInput("--resume goes on with a comparison in a folder: say which, with --out.")
    own = {name: {"settings": asdict(configure(method_named(name), dict((settings or {}).get(name, {}))))} for name in methods}
    if out is not None:
        refuse_taken(out, methods, resume=resume, overwrite=overwrite)
    options = options or TrainingOptions()
    dev_given = dev is not None
    if dev is None:
        data, dev = data.split_by_speaker(DEV_SHARE, options.seed)
    shared, said = parts_of_a_run(data=data, dev=dev, dev_given=dev_given, eval_data=eval_data, how=overlap)
    for sentence in said:
        progress(Message(sentence))
    asked = {"base": recognizer.adapters.fingerprint, "data": corpus_key(data), "dev": corpus_key(dev), "eval_data": corpus_key(eval_data),
             "where": where, "lang": lang, "decoding": asdict(decoding)}  # fmt: skip
    ledger = Ledger(out, asked, options=options, resume=resume)
    kept = {name: ledger.recall(name, eval_data, **extra) for name, extra in {BASE: {}, **own}.items()}  # before anything is trained
    if (scored_before := kept[BASE]) is None:
        base = _scored(recognizer, eval_data, None, lang, options, for_base(recognizer, decoding), progress).systems[0]
        ledger.keep(BASE, base.transcripts, {})
    else:
        base = heard_before(recognizer, None, scored_before[0], eval_data, seed=options.seed)
    measured: list[tuple[Finetuned, System, bool | None, float]] = []
    failed: dict[str, str] = {}
    pace = Pace([1.0] * len(methods))
    remarks = {"shared": tuple(one for one in shared if one), "notes": tuple(said)}
    found = _contest(base, measured, failed, options.seed, remarks, done)
    try:
        for name in methods:
            finished = out is not None and (Path(out) / name / MANIFEST).is_file()
            rest = pace.step(counts=kept[name] is None)
            progress(Message(f"-- {name} ({methods.index(name) + 1} of {len(methods)}{rest}) --"))
            try:
                measured.append(_measured(recognizer, data, dev, eval_data, name, where, dict((settings or {}).get(name, {})), own[name], lang, options, out,
                                          resume, overwrite, kept[name] if finished else None, ledger, decoding, progress))  # fmt: skip
            except Exception as error:  # whatever it is: hours of the other methods are not lost for it
                failed[name] = str(error) or type(error).__name__
                progress(Message(f"{name} is left out: {failed[name]}"))
            finally:
                if name in recognizer.adapters:
                    recognizer.adapters.detach(name)
            found = _contest(base, measured, failed, options.seed, remarks, done)
    except interruption.INTERRUPTIONS as error:
        if out is not None:
            interruption.note(error, f"{len(measured)} of {len(methods)} methods are done and in {str(out)!r}.", resumes=True)
        raise
    if not measured:
        raise Failure(f"No method could be compared. {'; '.join(f'{name}: {reason}' for name, reason in failed.items())}")
    return found


def _contest(base: System, measured: Sequence[tuple[Finetuned, System, bool | None, float]], failed: Mapping[str, str], seed: int,
             remarks: Mapping[str, Any], done: Callable[[MethodComparison], None] | None) -> MethodComparison:  # fmt: skip
    """The comparison so far. All are tested together: of several comparisons with one base, a lucky one is likely."""
    scores = [replace(system.score, name=trained.method) for trained, system, *_ in measured]
    tests = compare_all([base.score, *scores], to_first=True, seed=seed)
    entries = [Entry(trained, system, test, equal, seconds) for (trained, system, equal, seconds), test in zip(measured, tests, strict=True)]
    found = MethodComparison(base, tuple(entries), dict(failed), **remarks)
    if done is not None:
        done(found)
    return found


def _measured(recognizer: Recognizer, data: Corpus, dev: Corpus, eval_data: Corpus, name: str, where: str | None, settings: Mapping[str, Any],
              own: Mapping[str, Any], lang: str | None, options: TrainingOptions, out: str | Path | None, resume: bool, overwrite: bool,
              kept: tuple[Transcripts, dict[str, Any]] | None, ledger: Ledger, decoding: Options,
              progress: Progress) -> tuple[Finetuned, System, bool | None, float]:  # fmt: skip
    """(the run, its scores, whether merged it writes the same, seconds of training) of one method; `kept` where it is done."""
    started = time.perf_counter()
    trained = _train(recognizer, data, dev, name, where, settings, lang, options, out, resume, overwrite, progress)
    seconds = time.perf_counter() - started
    if kept is not None:
        return trained, heard_before(recognizer, name, kept[0], eval_data, seed=options.seed), kept[1]["merged_equal"], kept[1]["seconds"]
    found = _scored(recognizer, eval_data, name, lang, options, decoding, progress).systems[0]
    equal = _merged_equal(recognizer, eval_data, name, found, lang, options, decoding, progress)
    ledger.keep(name, found.transcripts, own, merged_equal=equal, seconds=max(seconds, trained.training.seconds))
    return trained, found, equal, max(seconds, trained.training.seconds)  # the latter over all interruptions


def _train(recognizer: Recognizer, data: Corpus, dev: Corpus, name: str, where: str | None, settings: Mapping[str, Any], lang: str | None,
           options: TrainingOptions, out: str | Path | None, resume: bool, overwrite: bool, progress: Progress) -> Finetuned:  # fmt: skip
    run: dict[str, Any] = {"resume": resume, "overwrite": overwrite,
           "options": options, "method": name, "settings": settings, "lang": lang, "dev": dev, "name": name, "progress": progress,
           "keep_weights": "best", "check_nonspeech": False, "overlap": "ignore", "out": None if out is None else Path(out) / name}  # fmt: skip
    try:
        return finetune(recognizer, data, where=where, **run)
    except CannotAttach:
        if where is None:
            raise
        progress(Message(f"{name} cannot act on {where}; it acts on {method_named(name).where}."))
        return finetune(recognizer, data, where=None, **run)


def _scored(recognizer: Recognizer, corpus: Corpus, name: str | None, lang: str | None, options: TrainingOptions, decoding: Options,
            progress: Progress) -> Evaluation:  # fmt: skip
    return evaluate(recognizer, corpus, adapters=[] if name is None else [name], base=name is None, lang=lang, options=decoding,
                    seed=options.seed, overlap="ignore", progress=lambda done, total, what: progress(Scoring(done, total, what)))  # fmt: skip


def _merged_equal(recognizer: Recognizer, corpus: Corpus, name: str, routed: System, lang: str | None, options: TrainingOptions,
                  decoding: Options, progress: Progress) -> bool | None:  # fmt: skip
    if not recognizer.adapters[name].method.mergeable:
        return None
    recognizer.adapters.merge(name)
    try:
        merged = _scored(recognizer, corpus, name, lang, options, decoding, progress).systems[0]
    finally:
        recognizer.adapters.unmerge()
    return merged.transcripts.texts == routed.transcripts.texts
