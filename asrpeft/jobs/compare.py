"""Several methods on one corpus: error rates against trained parameters, time and memory, every run with the same data and seed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asrpeft import destination
from asrpeft.corpus import Corpus
from asrpeft.corpus.traces import Overlap
from asrpeft.decoding import Options
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput, CannotAttach, Failure
from asrpeft.jobs.evaluate import OPTIONS, Evaluation, System, evaluate
from asrpeft.jobs.finetune import DEV_SHARE, Finetuned, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import Comparison, compare_all
from asrpeft.training import Message, Progress, Scoring, TrainingOptions
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
        told = self.trained.to_json()
        keys = ("method", "adapter", "trained_parameters", "head_parameters", "total_parameters", "utterances_per_second", "peak_memory_bytes", "steps")
        return {key: told[key] for key in keys} | {
            "seconds": self.seconds, "score": self.system.to_json(), "test": self.test.to_json(), "merged_equal": self.merged_equal,
        }  # fmt: skip


@dataclass(frozen=True)
class Contest:
    """The base's score, one entry a method in the order asked for, and the methods that could not run with the reason;
    `shared`, `notes`: what the parts of the data have in common, if anything."""

    base: System
    entries: tuple[Entry, ...]
    failed: Mapping[str, str]
    shared: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        told = {"base": self.base.to_json(), "methods": [entry.to_json() for entry in self.entries], "failed": dict(self.failed)}
        return told | {"notes": list(self.notes), **({"overlap": [one.to_json() for one in self.shared]} if self.shared else {})}


@destination.holds
def contest(
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
    decoding: Options = OPTIONS,
    overlap: How = "warn",
    progress: Progress = ignore,
) -> Contest:
    """Train one adapter of each method, one after another on the loaded base, and score each on `eval_data`.

    Args:
        where: layers for the methods that can act on them; a method that cannot uses its own.
        settings: of single methods, by name: {"lora": {"rank": 16}}.
        options: for all of them; a learning rate that is not given is each method's own.
        out: a folder for the adapters, one below it a method.
        decoding: how `eval_data` are decoded.
        overlap: as in `finetune`.
    Raises: BadInput, before anything is trained, for an unknown method, settings it does not have, or a folder that is
        taken. A method that does not fit the layers, or whose training fails, is reported and costs the others nothing.
    """
    if out is not None:
        destination.check(out)
    if not methods:
        raise BadInput("There is nothing to compare: name methods with --methods lora,ia3, or all.")
    for name in methods:
        configure(method_named(name), dict((settings or {}).get(name, {})))
        if out is not None and (Path(out) / name).exists():
            raise BadInput(f"{str(Path(out) / name)!r} exists already. Choose another --out.")
    options = options or TrainingOptions()
    dev_given = dev is not None
    if dev is None:
        data, dev = data.split_by_speaker(DEV_SHARE, options.seed)
    shared, said = parts_of_a_run(data=data, dev=dev, dev_given=dev_given, eval_data=eval_data, how=overlap)
    for sentence in said:
        progress(Message(sentence))
    base = _scored(recognizer, eval_data, None, lang, options, for_base(recognizer, decoding), progress).systems[0]
    measured, failed = [], {}
    for name in methods:
        progress(Message(f"-- {name} --"))
        started = time.perf_counter()
        chosen = dict((settings or {}).get(name, {}))
        try:
            trained = _train(recognizer, data, dev, name, where, chosen, lang, options, out, progress)
            seconds = time.perf_counter() - started
            found = _scored(recognizer, eval_data, name, lang, options, decoding, progress).systems[0]
            equal = _merged_equal(recognizer, eval_data, name, found, lang, options, decoding, progress)
            measured.append((trained, found, equal, seconds))
        except (CannotAttach, Failure, RuntimeError) as error:  # RuntimeError: out of memory, for one
            failed[name] = str(error) or type(error).__name__
            progress(Message(f"{name} is left out: {failed[name]}"))
        finally:
            if name in recognizer.adapters:
                recognizer.adapters.detach(name)
    # All are tested together: of several comparisons with one base, a lucky one is likely.
    scores = [replace(found.score, name=trained.method) for trained, found, *_ in measured]
    tests = compare_all([base.score, *scores], to_first=True, seed=options.seed)
    entries = [Entry(trained, found, test, equal, seconds) for (trained, found, equal, seconds), test in zip(measured, tests, strict=True)]
    return Contest(base, tuple(entries), failed, tuple(one for one in shared if one), tuple(said))


def _train(recognizer: Recognizer, data: Corpus, dev: Corpus, name: str, where: str | None, settings: Mapping[str, Any], lang: str | None,
           options: TrainingOptions, out: str | Path | None, progress: Progress) -> Finetuned:  # fmt: skip
    run = {"options": options, "method": name, "settings": settings, "lang": lang, "dev": dev, "name": name, "progress": progress,
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
