"""Several methods on one corpus: error rates against trained parameters, time and memory, every run with the same data and seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus import Corpus
from asrpeft.decoding import Options, Transcripts
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput, CannotAttach, Failure
from asrpeft.jobs.checks import MAX_LOSS, Guarded
from asrpeft.jobs.evaluate import OPTIONS, check_guard, evaluate, heard_before
from asrpeft.jobs.finetune import DEV_SHARE, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.jobs.ledger import Ledger, keep, refuse_taken
from asrpeft.jobs.pace import Pace
from asrpeft.jobs.provenance import run_of
from asrpeft.jobs.results.comparison import Entry, MethodComparison, Trial
from asrpeft.jobs.results.evaluation import BASE, System
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring.ranking import Ranker
from asrpeft.training import Message, Progress, Scoring, TrainingOptions
from asrpeft.training.checkpoints import corpus_key
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
    if out is not None:
        destination.check(out)
    methods = list(dict.fromkeys(methods))
    if not methods:
        raise BadInput("There is nothing to compare: name methods with --methods lora,ia3, or all.")
    if seeds < 1:
        raise BadInput(f"--seeds {seeds}: every method is trained by one seed or more.")
    if resume and out is None:
        raise BadInput("--resume goes on with a comparison in a folder: say which, with --out.")
    options = options or TrainingOptions()
    own = {name: dict((settings or {}).get(name, {})) for name in methods}
    for name in methods:
        configure(method_named(name), own[name])
    if guard is not None:
        check_guard(recognizer, guard, guard_lang)
    numbers = [options.seed + number for number in range(seeds)]
    if out is not None:
        refuse_taken(out, [called(name, seed, options.seed) for name in methods for seed in numbers], resume=resume, overwrite=overwrite)
    dev_given = dev is not None
    if dev is None:
        data, dev = data.split_by_speaker(DEV_SHARE, options.seed)
    shared, said = parts_of_a_run(data=data, dev=dev, dev_given=dev_given, eval_data=eval_data, guard=guard, how=overlap)
    for sentence in said:
        progress(Message(sentence))
    trials = _Trials(recognizer, data, dev, eval_data, guard, guard_lang, options, where, own, lang, None if out is None else Path(out), resume, overwrite,
                     decoding, progress)  # fmt: skip
    kept = trials.recalled(methods, numbers)  # before anything is trained: another comparison's are refused
    known = {"shared": tuple(one for one in shared if one), "notes": tuple(said), "run": run_of(recognizer, {})}
    found = _Found(trials.base(), Ranker(trials.base().score, options.seed), known, trials.out, progress, done)
    return _all_of(found, trials, methods, numbers, kept)


def called(method: str, seed: int, first: int) -> str:
    """The adapter of a method by a seed, and its folder: `lora`, and `lora-seed1` of a further seed."""
    return method if seed == first else f"{method}-seed{seed}"


def _all_of(found: _Found, trials: _Trials, methods: Sequence[str], seeds: Sequence[int], kept: Mapping[str, bool]) -> MethodComparison:
    """Every method by every seed, as they come."""
    pace = Pace([1.0] * len(methods) * len(seeds))
    compared = found.so_far()
    try:
        for number, method in enumerate(methods, 1):
            runs: list[Trial] = []
            try:
                for seed in seeds:
                    rest = pace.step(counts=not kept[called(method, seed, trials.options.seed)])
                    of_seed = f", seed {seed}" if len(seeds) > 1 else ""
                    trials.progress(Message(f"-- {method} ({number} of {len(methods)}{of_seed}{rest}) --"))
                    runs.append(trials.trial(method, seed))
            except Exception as error:  # whatever it is: hours of the other methods are not lost for it
                found.failed[method] = str(error) or type(error).__name__
                trials.progress(Message(f"{method} is left out: {found.failed[method]}"))
            else:
                found.add(runs)
            compared = found.so_far()
    except interruption.INTERRUPTIONS as error:
        if trials.out is not None:
            interruption.note(error, f"{len(found.trials)} of {len(methods)} methods are done and in {str(trials.out)!r}.", resumes=True)
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
    done: Callable[[MethodComparison], None] | None
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
        if self.done is not None:
            self.done(compared)
        return compared


@dataclass(frozen=True)
class _Trials:
    """What all runs of one comparison share, and how each is made."""

    recognizer: Recognizer
    data: Corpus
    dev: Corpus
    eval_data: Corpus
    guard: Corpus | None
    guard_lang: str | None
    options: TrainingOptions
    where: str | None
    settings: Mapping[str, Mapping[str, Any]]
    lang: str | None
    out: Path | None
    resume: bool
    overwrite: bool
    decoding: Options
    progress: Progress

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What must be the same for what another sitting left to count."""
        keys = {"data": self.data, "dev": self.dev, "eval_data": self.eval_data}
        return {"base": self.recognizer.adapters.fingerprint, **{key: corpus_key(corpus) for key, corpus in keys.items()},
                "where": self.where, "lang": self.lang, "decoding": asdict(self.decoding)}  # fmt: skip

    def ledger(self, seed: int) -> Ledger:
        return Ledger(self.out, self.asked, options=replace(self.options, seed=seed), resume=self.resume)

    def own(self, method: str | None) -> dict[str, Any]:
        return {} if method is None else {"settings": asdict(configure(method_named(method), self.settings[method]))}

    def recalled(self, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, bool]:
        """By the adapter's name, whether its transcripts are kept. Raises: BadInput for those of another comparison."""
        runs = [(called(method, seed, self.options.seed), method, seed) for method in methods for seed in seeds]
        self.ledger(self.options.seed).recall(BASE, self.eval_data)
        return {name: self.ledger(seed).recall(name, self.eval_data, **self.own(method)) is not None for name, method, seed in runs}

    def base(self) -> System:
        return self._base_on[0]

    @cached_property
    def _base_on(self) -> tuple[System, System | None]:
        """The base on the evaluation data, and on the guard data."""
        return (self._heard(None, self.options.seed, {})[0], None if self.guard is None else self._guarded(None, self.options.seed, {}))

    def trial(self, method: str, seed: int) -> Trial:
        """Train and score one adapter; what was done in another sitting is loaded. It is detached again, whatever happens."""
        name, own = called(method, seed, self.options.seed), self.own(method)
        began = time.perf_counter()
        try:
            finished = self.out is not None and (self.out / name / MANIFEST).is_file()
            trained = self._train(method, name, seed)
            seconds = max(time.perf_counter() - began, trained.training.seconds)  # the latter over all interruptions
            system, facts = self._heard(name, seed, own, use=finished, seconds=seconds)
            guarded = None
            if (before := self._base_on[1]) is not None:
                after = self._guarded(name, seed, own, use=finished)
                guarded = Guarded.of(before.score, after.score, max_loss=MAX_LOSS, seed=self.options.seed)
            numbers = self.recognizer.adapters[name].tensors()[1].values()
            return Trial(seed, trained, system, facts["merged_equal"], facts["seconds"], sum(one.numel() * one.element_size() for one in numbers), guarded)
        finally:
            if name in self.recognizer.adapters:
                self.recognizer.adapters.detach(name)

    def _train(self, method: str, name: str, seed: int) -> Finetuned:
        run: dict[str, Any] = {
            "resume": self.resume, "overwrite": self.overwrite, "options": replace(self.options, seed=seed), "method": method,
            "settings": self.settings[method], "lang": self.lang, "dev": self.dev, "name": name, "progress": self.progress,
            "keep_weights": "best", "check_nonspeech": False, "overlap": "ignore", "out": None if self.out is None else self.out / name,
        }  # fmt: skip
        try:
            return finetune(self.recognizer, self.data, where=self.where, **run)
        except CannotAttach:
            if self.where is None:
                raise
            self.progress(Message(f"{method} cannot act on {self.where}; it acts on {method_named(method).where}."))
            return finetune(self.recognizer, self.data, where=None, **run)

    def _heard(self, name: str | None, seed: int, own: Mapping[str, Any], *, use: bool = True, **facts: Any) -> tuple[System, dict[str, Any]]:
        """What the base or an adapter makes of the evaluation data, and what was noted beside it; `use`: what another sitting left."""
        kept = self.ledger(seed).recall(name or BASE, self.eval_data, **own) if use else None
        if kept is not None:
            return heard_before(self.recognizer, name, kept[0], self.eval_data, seed=self.options.seed), kept[1]
        system = self._scored(name, self.eval_data, self.lang)
        if name is not None:
            facts |= {"merged_equal": self._merged_equal(name, system.transcripts)}
        self.ledger(seed).keep(name or BASE, system.transcripts, own, **facts)
        return system, facts

    def _guarded(self, name: str | None, seed: int, own: Mapping[str, Any], *, use: bool = True) -> System:
        """The same on the guard data, which have a file of their own: they may be asked for later."""
        assert self.guard is not None
        file, extra = f"{name or BASE}.guard", {**own, "guard": corpus_key(self.guard), "guard_lang": self.guard_lang}
        kept = self.ledger(seed).recall(file, self.guard, **extra) if use else None
        if kept is not None:
            return heard_before(self.recognizer, name, kept[0], self.guard, seed=self.options.seed)
        system = self._scored(name, self.guard, self.guard_lang)
        self.ledger(seed).keep(file, system.transcripts, extra)
        return system

    def _scored(self, name: str | None, corpus: Corpus, lang: str | None) -> System:
        decoding = for_base(self.recognizer, self.decoding) if name is None else self.decoding
        return evaluate(self.recognizer, corpus, adapters=[] if name is None else [name], base=name is None, lang=lang, options=decoding,
                        seed=self.options.seed, overlap="ignore",
                        progress=lambda done, total, what: self.progress(Scoring(done, total, what))).systems[0]  # fmt: skip

    def _merged_equal(self, name: str, routed: Transcripts) -> bool | None:
        if not self.recognizer.adapters[name].method.mergeable:
            return None
        self.recognizer.adapters.merge(name)
        try:
            merged = self._scored(name, self.eval_data, self.lang)
        finally:
            self.recognizer.adapters.unmerge()
        return merged.transcripts.texts == routed.texts
