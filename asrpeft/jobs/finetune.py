"""Fine-tune an adapter on a corpus and say honestly whether it helped: split, train, choose on development data, save, evaluate."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from asrpeft import destination, interruption, processes
from asrpeft.adapters import Adapter
from asrpeft.adapters.adapter import MANIFEST, TENSORS, read
from asrpeft.adapters.conditions import check_told, columns_named
from asrpeft.corpus import Corpus, Skipped
from asrpeft.corpus.doubts import FEW_SILENT, silent
from asrpeft.corpus.stream import Stream
from asrpeft.errors import BadInput, Failure
from asrpeft.files import recover
from asrpeft.jobs import in_context
from asrpeft.jobs.development import dev_rates, with_dev
from asrpeft.jobs.evaluate import DECODING, check_guard, evaluate
from asrpeft.jobs.guard import GuardResult, divide, keep, watch
from asrpeft.jobs.leakage import RECORD, check_parts, parts_of_a_run, record_of
from asrpeft.jobs.nonspeech import Quiet, listen
from asrpeft.jobs.nonspeech import divide as divide_nonspeech
from asrpeft.jobs.provenance import describe_corpus, provenance, summary
from asrpeft.jobs.results.evaluation import Evaluation
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.jobs.start import TRANSCRIBE, attach, beneath, informed, prompts
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.options import AdapterOptions, Checks, Data, DecodingOptions, OutputOptions, ScoringOptions, SpeechOptions, TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.recognizer.languages import canonical
from asrpeft.report.values import known, plain
from asrpeft.training import Choice, Message, Progress, Scoring, Trained, TrainingData, train
from asrpeft.training import Guard as WeightGuard
from asrpeft.training.checkpoints import read as read_checkpoint
from asrpeft.training.choice import Rates
from asrpeft.training.events import ignore
from asrpeft.training.options import differences
from asrpeft.training.streamed import ENDLESS


@destination.holds
def finetune(
    recognizer: Recognizer,
    data: Corpus | Data,
    *,
    lang: str | SpeechOptions | None = None,
    method: str | AdapterOptions = "lora",
    training: TrainingOptions | None = None,
    decoding: DecodingOptions = DECODING,
    out: str | Path | OutputOptions | None = None,
    progress: Progress = ignore,
) -> Finetuned:
    """Train an adapter on `data`; it stays attached, in evaluation mode, with the weights that were best on the development data.

    Each argument is the one thing that is nearly always enough, or the value that says all there is to say:

    Args:
        data: a corpus to train on; or `Data` with those that choose, are measured on, and stand guard over what the base can do.
        lang: the language spoken, "sw"; or `SpeechOptions` with a proxy language and a task. Default: what the corpus says; rows of several
            languages each get their own token.
        method: "lora"; or `AdapterOptions` with layers, settings, and an adapter to start from.
        training: how; by default ten epochs.
        decoding: how evaluation and guard data are decoded. (Development data, while training: greedily.)
        out: the adapter's folder; or `OutputOptions` that replace what is there, or go on with a run that was interrupted.
        progress: told of every step, score and message.
    Raises: BadInput, BadCorpus (among others, where all recordings are silent), CannotAttach, UnexpectedTraining; Failure where the loss is no
        number any more, or no weights pass the guard.
    """
    asked = Asked(Data.of(data), SpeechOptions.of(lang), AdapterOptions.of(method), training or TrainingOptions(), decoding, OutputOptions.of(out))
    return Finetuning(recognizer, asked, progress).run()


@dataclass(frozen=True)
class Asked:
    """The arguments of `finetune`."""

    data: Data
    speech: SpeechOptions
    adapter: AdapterOptions
    training: TrainingOptions
    decoding: DecodingOptions
    out: OutputOptions


@dataclass(frozen=True)
class Task:
    """What a run of `finetune` trains its adapter on, and what chooses among its weights."""

    data: TrainingData
    choice: Choice
    checkpoint: Path | None


class Finetuning:
    """One call of `finetune`: what can be refused is looked at first, then the data are divided, then the parts are done one by one."""

    def __init__(self, recognizer: Recognizer, asked: Asked, progress: Progress):
        """Look at everything that can be looked at before training.

        Raises: BadInput, BadCorpus.
        """
        self.recognizer, self.progress = recognizer, progress
        self.adapter_options, self.training, self.decoding, self.out = asked.adapter, asked.training, asked.decoding, asked.out
        self.speech = asked.speech if asked.speech.task else replace(asked.speech, task=TRANSCRIBE)
        self.name = self.adapter_options.name or self._called()
        self._look_at_places()
        data = informed(asked.data, self.decoding, self.training)
        self._look_at_data(data)
        self.settings = asdict(configure(method_named(self.adapter_options.method), self.adapter_options.settings))
        self.dev_given = data.dev is not None
        self.lang = self.speech.lang or _language(data.train, self.adapter_options.init_adapter or self.adapter_options.on_adapter)
        self.data, self.held_silent = self._divided(data)
        for remark in (mixture(self.data.train), weighed(self.data.train), quiet(self.data.train, seed=self.training.seed)):
            if remark is not None:
                self.progress(Message(remark))
        self.described = self._described()

    def run(self) -> Finetuned:
        parts = self.parts()
        try:
            task = next(parts)
            try:
                trained = train(
                    self.recognizer,
                    self.name,
                    task.data,
                    options=self.training,
                    choice=task.choice,
                    checkpoint=task.checkpoint,
                    resume=self.out.resume,
                    progress=self.progress,
                )
            except BaseException as error:
                parts.throw(error)
                raise
            parts.send(trained)
        except StopIteration as done:
            return done.value
        raise RuntimeError("a run of finetune trains once")

    def parts(self) -> Generator[Task, Trained, Finetuned]:
        """The run, open where it trains: gives what is to be trained on, and takes what the training did (or why it failed, by `throw`)."""
        before = self.recognizer.adapters.names()
        adapter, trained = self._start()
        self.attached = [one.name for one in (adapter, *adapter.on) if one.name not in before]
        try:
            parent = None if self.adapter_options.init_adapter is None else read(self.adapter_options.init_adapter)[0].training
            heard_before = adapter.on[0].manifest.training if parent is None and adapter.on else parent
            shared, remarks = parts_of_a_run(self.data, dev_given=self.dev_given, parent=heard_before)
            if isinstance(self.data.train, Stream):
                remarks = [*remarks, f"Of the stream the first {len(self.data.train):,} utterances alone were looked at, and are on record as trained on."]
            for sentence in remarks:
                self.progress(Message(sentence))
            if trained is None:
                trained = yield from self._train(adapter, parent)
            unspoken, kept, evaluation = self._unspoken(), self._kept(trained), self._evaluation(remarks)
            self._keep_scores(adapter, unspoken, kept, evaluation)
        except BaseException as error:
            self._give_up(error)
            raise
        if self.checkpoint is not None and processes.here().first:
            self.checkpoint.unlink(missing_ok=True)
        return Finetuned(
            self.name,
            self.out.path,
            adapter.manifest.method,
            adapter.trained_parameters() if trained.parameters is None else trained.parameters,
            adapter.head_parameters(),
            sum(p.numel() for p in self.recognizer.base.parameters()),
            trained,
            evaluation,
            kept,
            tuple(one for one in shared if one),
            self.beside if self.beside is not None and self.beside.is_dir() else None,
            unspoken,
        )

    # -- before anything is read ---------------------------------------------------------------------------------------
    def _called(self) -> str:
        if self.out.path is not None:
            return self.out.path.resolve().name
        return canonical(self.speech.lang) if self.speech.lang else self.adapter_options.method

    def _look_at_places(self) -> None:
        """Look whether everything can be written where it is to go.

        Raises: BadInput where something is in the way.
        """
        out = self.out.path
        if out is not None:
            recover(out)
        self.finished_before = out is not None and (out / MANIFEST).is_file()
        self.checkpoint = None if out is None else destination.check_adapter(out, overwrite=self.out.overwrite, resume=self.out.resume)
        self.beside: Path | None = None
        if self.checkpoint is not None and self.out.keep == "both":
            self.beside = self.checkpoint.with_name(self.checkpoint.name.removesuffix(".checkpoint") + ".last")
        if self.beside is not None and self.beside.exists() and not (self.out.overwrite or self.out.resume):
            raise BadInput(
                f"{str(self.beside)!r} holds the last weights of another run. Choose another --out, --overwrite, or leave them out with --keep best."
            )

    def _look_at_data(self, data: Data) -> None:
        """Look whether the data fit the other options.

        Raises: BadInput for data that contradict the other options.
        """
        if isinstance(data.train, Stream) and self.training.epochs is not None:
            raise BadInput(ENDLESS)
        check_parts(data)
        for corpus in (data.guard.data, data.guard.dev):
            if corpus is not None:
                check_guard(self.recognizer, corpus, data.guard.lang)
        for corpus in (data.train, data.dev, data.eval):
            if corpus is not None:
                check_told(self.adapter_options.conditions, corpus)
        if data.context_text not in (None, in_context.NONE):
            self.recognizer.token(in_context.MARK)  # which says where the base has none
        if data.nonspeech is not None and not self.training.nonspeech_share:
            raise BadInput("--nonspeech gives recordings to train on, and --nonspeech-share 0 takes none of them. Leave one out.")

    def _divided(self, data: Data) -> tuple[Data, Corpus]:
        """(the data, each part for what it is for, what is held out where nobody speaks)."""
        silent, held_silent = divide_nonspeech(data.nonspeech, self.training.seed)
        guard = divide(data.guard, seed=self.training.seed, progress=self.progress)
        # An adapter that is told who speaks is chosen on sentences of the speakers that it knows.
        by = "sentence" if "speaker" in columns_named(self.adapter_options.conditions) else "auto"
        train, dev = with_dev(data.train, data.dev, self.training, self.progress, by=by)
        return replace(data, train=train, dev=dev, nonspeech=silent, guard=guard), held_silent

    def _described(self) -> dict[str, Any]:
        """What the manifest says of the run, by which a resumption knows it again."""
        data, start = self.data, self.adapter_options.init_adapter
        asked = {
            "settings": plain(self.settings),
            "where": self.adapter_options.where,
            "lang": None if self.speech.lang is None else canonical(self.speech.lang),
            "proxy_lang": self.speech.proxy_lang,
            "task": self.speech.task,
        }
        asked |= {"conditions": list(self.adapter_options.conditions)} if self.adapter_options.conditions else {}
        asked |= {} if self.decoding.prompt_column is None else {"prompt_column": self.decoding.prompt_column}
        described = {
            "asked": asked,
            "options": self.training.to_json(),
            "data": describe_corpus(data.train),
            "dev": None if data.dev is None else describe_corpus(data.dev),
            "init_adapter": None if start is None else str(start),
        }
        if self.adapter_options.on_adapter is not None:
            described["on_adapter"] = str(self.adapter_options.on_adapter)
        if isinstance(data.train, Stream):
            described["stream"] = {"rows": data.train.rows}  # of which `data` describes the first window
        if self.out.keep == "last":
            described["keep"] = self.out.keep
        if data.nonspeech is not None:
            described["nonspeech"] = describe_corpus(data.nonspeech)
        if data.guard.dev is not None:
            described["guard"] = {"data": describe_corpus(data.guard.dev), "max_loss": data.guard.max_loss}
        return described

    # -- the parts -----------------------------------------------------------------------------------------------------
    @property
    def route(self) -> str:
        """What the adapter is heard as: itself, or the sum whose part it is."""
        return self.recognizer.adapters[self.name].route

    def _start(self) -> tuple[Adapter, Trained | None]:
        """(the adapter, what its run did where that had come to its end)."""
        out, wanted = self.out.path, self.adapter_options
        if out is not None and self.finished_before and self.out.resume and self.checkpoint is not None and not self.checkpoint.exists():
            found = _finished(self.recognizer, out, self.name, wanted.method, self.described, self.training)
            if wanted.on_adapter is not None:
                found[0].on = (beneath(self.recognizer, wanted.on_adapter),)
            self.progress(Message(f"{str(out)!r} was finished before: it is loaded, nothing trains."))
            return found
        spoken = replace(self.speech, lang=self.lang)
        return attach(self.recognizer, self.name, wanted, speech=spoken, training=self.training, data=self.data.train), None

    def _train(self, adapter: Adapter, parent: Any) -> Generator[Task, Trained, Trained]:
        """Have the adapter trained, and save it."""
        data, out = self.data, self.out
        if scored := 2 * (len(data.eval or ()) + len(data.guard.data or ())):
            unit, n = next((unit, n) for unit in ("minutes", "steps", "epochs") if (n := getattr(self.training, unit)) is not None)
            n_train = f"{len(data.train):,}" if not isinstance(data.train, Stream) else "Any number of"
            self.progress(Message(f"{n_train} utterances to train on ({unit}: {n:g}), then {scored:,} to transcribe, by base and adapter."))
        prompt = prompts(self.recognizer, self.name, lang=self.speech.lang, task=str(self.speech.task))
        prompt(data.train[0])  # an unknown language or task is told before any audio is read
        choice = Choice(data.dev, None if data.dev is None else self._dev_rates, self._watched(), "last" if out.keep == "last" else "best")
        # An adapter trained by CTC alone is scored too: it writes by its head.
        trained = yield Task(TrainingData(data.train, prompt, data.nonspeech), choice, self.checkpoint)
        record = {RECORD: record_of(data.train, data.dev, parent, nonspeech=data.nonspeech)} if out.record else {}
        self.recognizer.adapters.describe(self.name, training=self.described | provenance(trained) | record)
        if out.path is not None and processes.here().first:
            adapter.save(out.path, overwrite=out.overwrite or out.resume)
            if self.beside is not None:
                _save_last(adapter, trained, self.beside)
        return trained

    def _dev_rates(self) -> Rates:
        greedily = DecodingOptions(prompt_column=self.decoding.prompt_column)
        return dev_rates(self.recognizer, self.route, cast(Corpus, self.data.dev), speech=self.speech, training=self.training, decoding=greedily)

    def _watched(self) -> WeightGuard | None:
        """What asks, among the weights that are looked at, how much each lost of what the base could do."""
        guard = self.data.guard
        if guard.dev is None or guard.max_loss is None:
            return None
        choosing, spoken = guard.dev, SpeechOptions(guard.lang, task=self.speech.task)
        return watch(
            choosing,
            guard.max_loss,
            lambda adapted: dev_rates(self.recognizer, self.route if adapted else None, choosing, speech=spoken, training=self.training).wer,
        )

    def _unspoken(self) -> Quiet | None:
        """Base and adapter where nobody speaks."""
        if self.data.check_nonspeech is False or not self.training.nonspeech_share:
            return None
        found = listen(
            self.recognizer,
            self.route,
            self.held_silent,
            spoken=self.data.train,
            speech=self.speech,
            share=self.training.nonspeech_share,
            decoding=self.decoding,
            progress=self.progress,
        )
        self.progress(Message(found.sentence()))
        return found

    def _kept(self, trained: Trained) -> GuardResult | None:
        """Base and adapter on what the base could already do."""
        if self.data.guard.data is None and self.data.guard.dev is None:
            return None
        return keep(
            self.recognizer,
            self.route,
            self.data.guard,
            trained,
            task=str(self.speech.task),
            seed=self.training.seed,
            decoding=self.decoding,
            progress=self.progress,
        )

    def _evaluation(self, remarks: Sequence[str]) -> Evaluation | None:
        """Base and adapter on the evaluation data."""
        if self.data.eval is None:
            return None
        found = evaluate(
            self.recognizer,
            _in_language(self.data.eval, self.lang),
            adapters=[self.route],
            lang=self.speech,
            decoding=self.decoding,
            scoring=ScoringOptions(by=("corpus",) if len(self.data.eval.parts) > 1 else (), seed=self.training.seed),
            checks=Checks(train=self.data.train, context_text=self.data.context_text, overlap="ignore"),
            progress=lambda done, total, what: self.progress(Scoring(done, total, what)),
        )
        return replace(found, notes=(*found.notes, *remarks))

    def _keep_scores(self, adapter: Adapter, unspoken: Quiet | None, kept: GuardResult | None, evaluation: Evaluation | None) -> None:
        """Let the scores travel with the adapter."""
        scores = {} if evaluation is None or self.data.eval is None else summary(evaluation, self.data.eval)
        scores |= {"guard": kept.summary()} if kept is not None and kept.reported is not None else {}
        scores |= {} if unspoken is None else {"nonspeech": unspoken.summary()}
        if scores:
            self.recognizer.adapters.describe(self.name, scores=scores)
            if self.out.path is not None and processes.here().first:
                adapter.save(self.out.path, overwrite=True)

    def _give_up(self, error: BaseException) -> None:
        """The recognizer is as before; a run that was interrupted says what is kept of it."""
        adapters = self.recognizer.adapters
        for name in self.attached:
            if not any(adapters[name] in adapters[other].on for other in adapters.names()):
                adapters.detach(name)
        if isinstance(error, Failure) and self.checkpoint is not None and processes.here().first:
            self.checkpoint.unlink(missing_ok=True)  # it came to an end, if not a good one: there is nothing to go on with
        if isinstance(error, interruption.INTERRUPTIONS) and self.out.path is not None and self.checkpoint is not None:
            _tell_what_is_kept(error, self.out.path, self.checkpoint)


def _save_last(adapter: Adapter, trained: Trained, folder: Path) -> None:
    """The weights of the last step as an adapter folder of their own; an older one goes where there are none to save."""
    if trained.last is None:
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {MANIFEST, TENSORS}:
            shutil.rmtree(folder)
        return
    chosen = {name: tensor.detach().clone() for name, tensor in adapter.state_dict().items()}
    try:
        adapter.load_state_dict(trained.last)
        adapter.save(folder, overwrite=True, training=adapter.manifest.training | {"weights": "last"}, scores={})
    finally:
        adapter.load_state_dict(chosen)


def _tell_what_is_kept(error: BaseException, out: Path, checkpoint: Path) -> None:
    """As a note, which the command line and tracebacks show."""
    if not checkpoint.is_file():
        interruption.note(error, f"Nothing of {str(out)!r} is kept: it had not taken a step.")
        return
    try:
        state = read_checkpoint(checkpoint).state
    except BadInput as damaged:
        interruption.note(error, str(damaged))
        return
    done = "all steps are done, their evaluation is not" if state.finished else f"step {state.step:,}" + (f" of {state.total:,}" if state.total else "")
    interruption.note(error, f"The run is kept in {str(checkpoint)!r}: {done}.", resumes=True)


# -- the parts --------------------------------------------------------------------------------------------------------------
def _language(data: Corpus, init_adapter: str | Path | None) -> str | None:
    """The one language of the corpus, or of the adapter to start from (or to train on top of); None where rows differ or nothing is said."""
    languages = {canonical(u.lang) for u in data if u.lang}
    if len(languages) == 1 and all(u.lang for u in data):
        return languages.pop()
    return read(init_adapter)[0].language if init_adapter is not None and not languages else None


def _in_language(corpus: Corpus, lang: str | None) -> Corpus:
    """The corpus, its rows that do not say their language being in `lang`."""
    if lang is None or all(u.lang for u in corpus):
        return corpus
    return Corpus([replace(u, lang=u.lang or lang) for u in corpus], name=corpus.name, skipped=corpus.skipped)


def mixture(data: Corpus) -> str | None:
    """What is drawn from each of the corpora that the training data were made of; None where every row of one is drawn once."""
    parts = data.parts
    if len(parts) == 1 and parts[0].weight == 1:
        return None
    shares = (
        f"{part.drawn:,.0f} of {part.name}" + (f" ({part.utterances:,} utterances, weight {part.weight:g})" if part.weight != 1 else "") for part in parts
    )
    met = Counter(speaker for speaker, _ in {(u.speaker, u.corpus) for u in data} if speaker is not None)
    speakers = sorted(speaker for speaker, corpora in met.items() if corpora > 1)
    alike = f" Speakers who are called alike in several corpora count as one: {', '.join(speakers[:3])}{', …' * (len(speakers) > 3)}." if speakers else ""
    return f"Drawn in an epoch: {', '.join(shares)}.{alike}"


def weighed(data: Corpus) -> str | None:
    """What the losses of rows are multiplied by; None where all are by 1."""
    weights = [u.loss_weight for u in data if u.loss_weight != 1]
    if not weights:
        return None
    none, rest = weights.count(0.0), [weight for weight in weights if weight]
    said = (
        [f"{len(rest):,} of {len(data):,} rows weigh {min(rest):.2g} to {max(rest):.2g} in the loss ({sum(rest) / len(rest):.2g} on average)"] if rest else []
    )
    said += [f"{none:,} of {len(data):,} rows weigh nothing and are not trained on"] if none else []
    return f"{'; '.join(said)}."


def quiet(data: Corpus, *, seed: int) -> str | None:
    """A warning where many of the recordings hold no sound. Raises: BadCorpus where all are silent."""
    looked, ids = silent(data, seed=seed)
    if len(ids) <= FEW_SILENT * looked:
        return None
    return (
        f"Warning: {len(ids)} of {looked} recordings of the training data that were looked at hold no sound ({', '.join(ids[:3])}, …): "
        "the adapter learns to write words where nobody speaks. `asrpeft data check` names them all."
    )


def _finished(recognizer: Recognizer, out: Path, name: str, method: str, described: Mapping[str, Any], options: TrainingOptions) -> tuple[Adapter, Trained]:
    """The adapter and the record of a run that had come to its end.

    Raises: BadInput if that was another run.
    """
    manifest, _ = read(out)
    record = manifest.training
    others = [key for key, value in described.items() if key != "options" and record.get(key) != value]
    others += ["keep"] if record.get("keep") != described.get("keep") else []
    if (
        manifest.method != method
        or "finished" not in record
        or others
        or not isinstance(record.get("options"), dict)
        or differences(record["options"], options)
    ):
        raise BadInput(f"{str(out)!r} holds a finished adapter of another run ({manifest.method}). Choose another --out, or --overwrite it.")
    try:
        trained = _trained(record["finished"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"The record of the training in {str(out / MANIFEST)!r} is damaged ({type(error).__name__} {error}). Train it anew with --overwrite."
        ) from None
    return recognizer.adapters.load(out, name=name), trained


def _trained(did: Mapping[str, Any]) -> Trained:
    return Trained(
        steps=did["steps"],
        rows=did["rows"],
        seconds=did["seconds"],
        peak_memory_bytes=did["peak_memory_bytes"],
        kind=did["kind"],
        best=None if did["best"] is None else tuple(did["best"]),
        evaluations=tuple(known(tuple(one)) for one in did["evaluations"]),
        dropped=did["dropped"],
        variants=did.get("variants", 0),
        lr=did.get("lr"),
        parameters=did.get("parameters"),
        chosen_by=did.get("chosen_by"),
        measures=tuple(tuple(one) for one in did.get("measures", ())),
        skipped=tuple(Skipped(**s) for s in did["skipped"]),
        guard_evaluations=tuple(known(tuple(one)) for one in did.get("guard_evaluations", ())),
    )
