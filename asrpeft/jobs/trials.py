"""Runs that are held against each other: trained on the same data, scored on the same data, kept in one folder and gone on with.

What `compare` (methods, seeds) and `amounts` (parts of the data) share: each run trains an adapter, scores it, keeps what it wrote
(`asrpeft.jobs.ledger`) and is loaded in place of that where another sitting had done it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asrpeft import destination
from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus import Corpus
from asrpeft.corpus.traces import Overlap
from asrpeft.decoding import Options, Transcripts
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput, CannotAttach
from asrpeft.jobs.checks import MAX_LOSS, Guarded
from asrpeft.jobs.evaluate import check_guard, evaluate, heard_before
from asrpeft.jobs.finetune import DEV_SHARE, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.jobs.ledger import Ledger, refuse_taken
from asrpeft.jobs.results.comparison import Trial
from asrpeft.jobs.results.evaluation import BASE, System
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.training import Message, Progress, Scoring, TrainingOptions
from asrpeft.training.checkpoints import corpus_key


@dataclass(frozen=True)
class Run:
    """One adapter to train. `own`: what was asked of it alone; `data`: what it trains on, where that is not all."""

    name: str
    method: str
    seed: int
    settings: Mapping[str, Any]
    own: Mapping[str, Any]
    data: Corpus | None = None


@dataclass(frozen=True)
class Trials:
    """What all runs share: the base, the data, how to train and decode, and the folder."""

    recognizer: Recognizer
    data: Corpus
    dev: Corpus
    eval_data: Corpus
    options: TrainingOptions
    where: str | None
    lang: str | None
    out: Path | None
    resume: bool
    overwrite: bool
    decoding: Options
    progress: Progress
    guard: Corpus | None = None
    guard_lang: str | None = None
    shared: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def open(
        cls, recognizer: Recognizer, data: Corpus, eval_data: Corpus, *, names: Iterable[str], options: TrainingOptions, dev: Corpus | None,
        out: str | Path | None, resume: bool, overwrite: bool, overlap: How, progress: Progress, guard: Corpus | None = None,
        guard_lang: str | None = None, **how: Any,
    ) -> Trials:  # fmt: skip
        """Look at everything that can be wrong before anything is trained, and set development data aside where there are none.

        Args:    names: of all runs.   how: `where`, `lang`, `decoding`.
        Raises:  BadInput for a folder that cannot be written, is taken, or is to be resumed and not named; as `parts_of_a_run`.
        """
        if out is not None:
            destination.check(out)
        if resume and out is None:
            raise BadInput("--resume goes on with a comparison in a folder: say which, with --out.")
        if guard is not None:
            check_guard(recognizer, guard, guard_lang)
        if out is not None:
            refuse_taken(out, names, resume=resume, overwrite=overwrite)
        dev_given = dev is not None
        if dev is None:
            data, dev = data.split_by_speaker(DEV_SHARE, options.seed)
        shared, said = parts_of_a_run(data=data, dev=dev, dev_given=dev_given, eval_data=eval_data, guard=guard, how=overlap)
        for sentence in said:
            progress(Message(sentence))
        return cls(recognizer, data, dev, eval_data, options, how["where"], how["lang"], None if out is None else Path(out), resume, overwrite,
                   how["decoding"], progress, guard, guard_lang, tuple(one for one in shared if one), tuple(said))  # fmt: skip

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What must be the same for what another sitting left to count."""
        keys = {"data": self.data, "dev": self.dev, "eval_data": self.eval_data}
        return {"base": self.recognizer.adapters.fingerprint, **{key: corpus_key(corpus) for key, corpus in keys.items()},
                "where": self.where, "lang": self.lang, "decoding": asdict(self.decoding)}  # fmt: skip

    def ledger(self, seed: int) -> Ledger:
        return Ledger(self.out, self.asked, options=replace(self.options, seed=seed), resume=self.resume)

    def finished(self, name: str) -> bool:
        """Whether the adapter of a run is in the folder."""
        return self.out is not None and (self.out / name / MANIFEST).is_file()

    def recalled(self, runs: Sequence[Run]) -> dict[str, bool]:
        """By name, whether a run's transcripts are kept. Raises: BadInput for those of another comparison."""
        self.ledger(self.options.seed).recall(BASE, self.eval_data)
        return {run.name: self.ledger(run.seed).recall(run.name, self.eval_data, **run.own) is not None for run in runs}

    @property
    def base(self) -> System:
        """The base on the evaluation data."""
        return self._base_on[0]

    @cached_property
    def _base_on(self) -> tuple[System, System | None]:
        """The base on the evaluation data, and on the guard data."""
        seed = self.options.seed
        return self.heard(None, seed, {})[0], None if self.guard is None else self._guarded(None, seed, {})

    def trial(self, run: Run) -> Trial:
        """Train and score one adapter; what was done in another sitting is loaded. It is detached again, whatever happens."""
        began = time.perf_counter()
        try:
            finished = self.finished(run.name)
            trained = self.train(run)
            seconds = max(time.perf_counter() - began, trained.training.seconds)  # the latter over all interruptions
            system, facts = self.heard(run.name, run.seed, run.own, use=finished, seconds=seconds)
            guarded = None
            if (before := self._base_on[1]) is not None:
                after = self._guarded(run.name, run.seed, run.own, use=finished)
                guarded = Guarded.of(before.score, after.score, max_loss=MAX_LOSS, seed=self.options.seed)
            numbers = self.recognizer.adapters[run.name].tensors()[1].values()
            n_bytes = sum(one.numel() * one.element_size() for one in numbers)
            return Trial(run.seed, trained, system, facts["merged_equal"], facts["seconds"], n_bytes, guarded)
        finally:
            self.forget(run.name)

    def forget(self, name: str) -> None:
        """Detach the adapter of a run, if it is there."""
        if name in self.recognizer.adapters:
            self.recognizer.adapters.detach(name)

    def train(self, run: Run) -> Finetuned:
        """Train the adapter, at the method's own layers where it cannot act on those that were asked for; it stays attached."""
        given: dict[str, Any] = {
            "resume": self.resume, "overwrite": self.overwrite, "options": replace(self.options, seed=run.seed), "method": run.method,
            "settings": run.settings, "lang": self.lang, "dev": self.dev, "name": run.name, "progress": self.progress,
            "keep_weights": "best", "check_nonspeech": False, "overlap": "ignore", "out": None if self.out is None else self.out / run.name,
        }  # fmt: skip
        data = self.data if run.data is None else run.data
        try:
            return finetune(self.recognizer, data, where=self.where, **given)
        except CannotAttach:
            if self.where is None:
                raise
            self.progress(Message(f"{run.method} cannot act on {self.where}; it acts on {method_named(run.method).where}."))
            return finetune(self.recognizer, data, where=None, **given)

    def heard(
        self, name: str | None, seed: int, own: Mapping[str, Any], *, use: bool = True, merged: bool = True, **facts: Any
    ) -> tuple[System, dict[str, Any]]:
        """What the base or an adapter makes of the evaluation data, and what was noted beside it (`facts`).

        Args:    use: what another sitting left.   merged: note whether the merged adapter writes the same.
        """
        kept = self.ledger(seed).recall(name or BASE, self.eval_data, **own) if use else None
        if kept is not None:
            return heard_before(self.recognizer, name, kept[0], self.eval_data, seed=self.options.seed), kept[1]
        system = self._scored(name, self.eval_data, self.lang)
        if name is not None and merged:
            facts |= {"merged_equal": self._merged_equal(name, system.transcripts)}
        self.ledger(seed).keep(name or BASE, system.transcripts, own, **facts)
        return system, facts

    def _guarded(self, name: str | None, seed: int, own: Mapping[str, Any], *, use: bool = True) -> System:
        """The same on the guard data, which have a file of their own: they may be asked for later."""
        assert self.guard is not None
        file, asked = f"{name or BASE}.guard", {**own, "guard": corpus_key(self.guard), "guard_lang": self.guard_lang}
        kept = self.ledger(seed).recall(file, self.guard, **asked) if use else None
        if kept is not None:
            return heard_before(self.recognizer, name, kept[0], self.guard, seed=self.options.seed)
        system = self._scored(name, self.guard, self.guard_lang)
        self.ledger(seed).keep(file, system.transcripts, asked)
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
