"""Runs that are held against each other: trained on the same data, scored on the same data, kept in one folder and gone on with.

What `compare` (methods, seeds) and `amounts` (parts of the data) share: each run trains an adapter, scores it, keeps what it wrote
(`asrpeft.jobs.ledger`) and is loaded in place of that where another sitting had done it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, cast

from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus import Corpus
from asrpeft.corpus.labels import held_out
from asrpeft.decoding import Transcripts
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput, CannotAttach
from asrpeft.jobs import in_context
from asrpeft.jobs.checks import Guarded
from asrpeft.jobs.development import DEV_SHARE
from asrpeft.jobs.evaluate import evaluate, heard_before, with_base
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.guard import divide
from asrpeft.jobs.leakage import check_parts, parts_of_a_run
from asrpeft.jobs.ledger import Ledger
from asrpeft.jobs.results.comparison import Trial
from asrpeft.jobs.results.evaluation import BASE, IN_CONTEXT, InContext, System
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.options import (
    AdapterOptions,
    Checks,
    Data,
    DecodingOptions,
    OutputOptions,
    ScoringOptions,
    SpeechOptions,
    TrainingGuard,
    TrainingOptions,
)
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import compare
from asrpeft.training import Message, Progress, Scoring
from asrpeft.training.checkpoints import corpus_key


def divided(data: Data, out: OutputOptions, training: TrainingOptions, progress: Progress) -> tuple[Data, dict[str, Any]]:
    """(the data, with development data; `shared` and `notes` of what its parts have in common, which are also told).

    Raises: BadInput without evaluation data, for a resumption without a folder, and where recordings are shared.
    """
    if data.eval is None:
        raise BadInput("There is nothing to compare on: give evaluation data, with --eval-data.")
    if out.resume and out.path is None:
        raise BadInput("--resume goes on with a comparison in a folder: say which, with --out.")
    check_parts(data)
    parts = replace(data, guard=divide(data.guard, seed=training.seed, progress=progress))
    if data.dev is None:
        train, dev = held_out(data.train, DEV_SHARE, training.seed)
        parts = replace(parts, train=train, dev=dev)
    shared, remarks = parts_of_a_run(parts, dev_given=data.dev is not None)
    for sentence in remarks:
        progress(Message(sentence))
    return parts, {"shared": tuple(one for one in shared if one), "notes": tuple(remarks)}


class Runs:
    """The runs of one comparison: what they share, and what each is asked to do."""

    def __init__(
        self,
        recognizer: Recognizer,
        data: Data,
        speech: SpeechOptions,
        training: TrainingOptions,
        decoding: DecodingOptions,
        out: OutputOptions,
        progress: Progress,
    ):
        self.recognizer, self.data, self.speech, self.training, self.out, self.progress = recognizer, data, speech, training, out, progress
        self.decoding, self.tested = decoding, cast(Corpus, data.eval)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What must be the same for what another sitting left to count."""
        keys = {"data": self.data.train, "dev": self.data.dev, "eval_data": self.data.eval, "nonspeech": self.data.nonspeech, "guard_dev": self.data.guard.dev}
        return {
            "base": self.recognizer.adapters.fingerprint,
            **{key: None if corpus is None else corpus_key(corpus) for key, corpus in keys.items()},
            **asdict(self.speech),
            "max_loss": self.data.guard.max_loss,
            "decoding": asdict(self.decoding),
        }

    def ledger(self, seed: int) -> Ledger:
        return Ledger(self.out.path, self.asked, options=replace(self.training, seed=seed), resume=self.out.resume)

    def recalled(self, name: str, adapter: AdapterOptions, seed: int) -> bool:
        """Whether its transcripts are kept. Raises: BadInput for those of another comparison."""
        return self.ledger(seed).recall(name, self.tested, **own(adapter)) is not None

    def finished(self, name: str) -> bool:
        return self.out.path is not None and (self.out.path / name / MANIFEST).is_file()

    def base(self) -> System:
        return self._base_on[0]

    def in_context(self) -> InContext | None:
        """The base, told text of the training data before every recording; None where nothing is to be told."""
        text, seed = in_context.settled(self.recognizer, self.data.context_text, [u.text for u in self.data.train]), self.training.seed
        if text is None:
            return None
        kept = self.ledger(seed).recall(IN_CONTEXT, self.tested, told=text)
        if kept is not None:
            system = heard_before(self.recognizer, None, kept[0], self.tested, checks=self.checks, seed=seed)
        else:
            system = self.scored(None, self.tested, self.speech, before=text)
            self.ledger(seed).keep(IN_CONTEXT, system.transcripts, {"told": text})
        system = replace(with_base(system, self.base(), seed=seed), adapter=IN_CONTEXT, score=replace(system.score, name=IN_CONTEXT))
        return InContext(text, system, compare(self.base().score, system.score, seed=seed))

    @property
    def checks(self) -> Checks:
        """What is looked at beside error rates: words by how often the training data have them."""
        return Checks(train=self.data.train, context_text=in_context.NONE, overlap="ignore")

    @cached_property
    def _base_on(self) -> tuple[System, System | None]:
        """The base on the evaluation data, and on the guard data."""
        seed = self.training.seed
        return (self.heard(None, seed, {})[0], None if self.data.guard.data is None else self._on_guard(None, seed, {}))

    def trained(self, name: str, adapter: AdapterOptions, train: Corpus, seed: int) -> Finetuned:
        folder = None if self.out.path is None else self.out.path / name
        guard = replace(self.data.guard, data=None) if self.data.guard.dev is not None else TrainingGuard()
        data = replace(self.data, train=train, eval=None, guard=guard, check_nonspeech=bool(self.data.check_nonspeech), overlap="ignore")
        return finetune(
            self.recognizer,
            data,
            lang=self.speech,
            method=replace(adapter, name=name),
            training=replace(self.training, seed=seed),
            decoding=self.decoding,
            out=replace(self.out, folder=folder, keep="best"),
            progress=self.progress,
        )

    def heard(self, name: str | None, seed: int, own: Mapping[str, Any], *, use: bool = True, **facts: Any) -> tuple[System, dict[str, Any]]:
        """What the base or an adapter makes of the evaluation data, and what was noted beside it; `use`: what another sitting left."""
        kept = self.ledger(seed).recall(name or BASE, self.tested, **own) if use else None
        if kept is not None:
            system = heard_before(self.recognizer, name, kept[0], self.tested, checks=self.checks, seed=self.training.seed)
            return system if name is None else with_base(system, self.base(), seed=self.training.seed), kept[1]
        system = self.scored(name, self.tested, self.speech)
        if name is not None:
            system = with_base(system, self.base(), seed=self.training.seed)
        if name is not None and facts:
            facts |= {"merged_equal": _merged_equal(self, name, system.transcripts)}
        self.ledger(seed).keep(name or BASE, system.transcripts, own, **facts)
        return system, facts

    def guarded(self, name: str, seed: int, own: Mapping[str, Any], *, use: bool) -> Guarded | None:
        """What an adapter lost of what the base could do; None without guard data to report."""
        if (before := self._base_on[1]) is None:
            return None
        after = self._on_guard(name, seed, own, use=use)
        return Guarded.of(before.score, after.score, max_loss=self.data.guard.limit, seed=self.training.seed)

    def _on_guard(self, name: str | None, seed: int, own: Mapping[str, Any], *, use: bool = True) -> System:
        """As `heard`, on the guard data, which have a file of their own: they may be asked for later."""
        corpus, lang = cast(Corpus, self.data.guard.data), self.data.guard.lang
        file, extra = f"{name or BASE}.guard", {**own, "guard": corpus_key(corpus), "guard_lang": lang}
        kept = self.ledger(seed).recall(file, corpus, **extra) if use else None
        if kept is not None:
            return heard_before(self.recognizer, name, kept[0], corpus, seed=self.training.seed)
        system = self.scored(name, corpus, SpeechOptions(lang, task=self.speech.task), told=False)
        self.ledger(seed).keep(file, system.transcripts, extra)
        return system

    def scored(self, name: str | None, corpus: Corpus, speech: SpeechOptions, *, told: bool = True, before: str = "") -> System:
        """The base, or an adapter, on a corpus; `told` what had been said before each row, where that is asked for, or `before` in place of that."""
        decoding = self.decoding if told and not before else replace(self.decoding, prompt_column=None)
        decoding = replace(decoding, prompt=f"{before} {decoding.prompt or ''}") if before else decoding
        found = evaluate(
            self.recognizer,
            corpus,
            adapters=[] if name is None else [name],
            lang=speech,
            decoding=for_base(self.recognizer, decoding) if name is None else decoding,
            scoring=ScoringOptions(base=name is None, seed=self.training.seed),
            checks=self.checks,
            progress=lambda done, total, what: self.progress(Scoring(done, total, what)),
        )
        return found.systems[0]


def own(adapter: AdapterOptions) -> dict[str, Any]:
    """What a run is asked beside what all are."""
    return {"settings": asdict(configure(method_named(adapter.method), adapter.settings)), "where": adapter.where}


def trial_of(runs: Runs, name: str, adapter: AdapterOptions, seed: int) -> Trial:
    """Train and score one adapter; what was done in another sitting is loaded. It is detached again, whatever happens."""
    recognizer, mine = runs.recognizer, own(adapter)
    began = time.perf_counter()
    try:
        finished = runs.finished(name)
        trained = _trained(runs, name, adapter, seed)
        seconds = max(time.perf_counter() - began, trained.training.seconds)  # the latter over all interruptions
        system, facts = runs.heard(name, seed, mine, use=finished, seconds=seconds)
        guarded = runs.guarded(name, seed, mine, use=finished)
        numbers = recognizer.adapters[name].tensors()[1].values()
        return Trial(seed, trained, system, facts["merged_equal"], facts["seconds"], sum(one.numel() * one.element_size() for one in numbers), guarded)
    finally:
        if name in recognizer.adapters:
            recognizer.adapters.detach(name)


def _trained(runs: Runs, name: str, adapter: AdapterOptions, seed: int) -> Finetuned:
    try:
        return runs.trained(name, adapter, runs.data.train, seed)
    except CannotAttach:
        if adapter.where is None:
            raise
        runs.progress(Message(f"{adapter.method} cannot act on {adapter.where}; it acts on {method_named(adapter.method).where}."))
        return runs.trained(name, replace(adapter, where=None), runs.data.train, seed)


def _merged_equal(runs: Runs, name: str, routed: Transcripts) -> bool | None:
    if not runs.recognizer.adapters[name].method.mergeable:
        return None
    runs.recognizer.adapters.merge(name)
    try:
        return runs.scored(name, runs.tested, runs.speech).transcripts.texts == routed.texts
    finally:
        runs.recognizer.adapters.unmerge()
