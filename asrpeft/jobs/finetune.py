"""Fine-tune an adapter on a corpus and say honestly whether it helped: split, train, choose on development data, save, evaluate."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import accelerate
import torch

from asrpeft import destination, interruption
from asrpeft.adapters import Adapter
from asrpeft.adapters.adapter import MANIFEST, TENSORS, read
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.where import split as split_where
from asrpeft.audio.augment import generator
from asrpeft.corpus import Corpus, Skipped, Utterance
from asrpeft.corpus.doubts import FEW_SILENT, silent
from asrpeft.decoding import Options, transcribe_corpus
from asrpeft.errors import BadCorpus, BadInput, Failure
from asrpeft.files import recover
from asrpeft.jobs.evaluate import OPTIONS, check_guard, evaluate
from asrpeft.jobs.guard import divide, keep, watch
from asrpeft.jobs.leakage import RECORD, How, parts_of_a_run, record_of
from asrpeft.jobs.nonspeech import divide as divide_nonspeech
from asrpeft.jobs.nonspeech import listen
from asrpeft.jobs.provenance import describe_corpus, provenance, summary
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.recognizer.languages import canonical
from asrpeft.report.values import known, plain
from asrpeft.scoring import score
from asrpeft.training import Choice, Guard, Message, Progress, Scoring, Trained, TrainingData, TrainingOptions, train
from asrpeft.training.checkpoints import read as read_checkpoint
from asrpeft.training.choice import Rates
from asrpeft.training.events import ignore
from asrpeft.training.options import differences
from asrpeft.training.precision import has_bf16

DEV_SHARE = 0.1
KEEP = ("both", "best", "last")


@destination.holds
def finetune(
    recognizer: Recognizer,
    data: Corpus,
    *,
    options: TrainingOptions | None = None,
    method: str = "lora",
    where: str | None = None,
    settings: Mapping[str, Any] | None = None,
    lang: str | None = None,
    proxy_lang: str | None = None,
    task: str = "transcribe",
    name: str | None = None,
    dev: Corpus | None = None,
    eval_data: Corpus | None = None,
    guard: Corpus | None = None,
    guard_dev: Corpus | None = None,
    guard_lang: str | None = None,
    max_loss: float | None = None,
    nonspeech: Corpus | None = None,
    check_nonspeech: bool = True,
    out: str | Path | None = None,
    overwrite: bool = False,
    init_adapter: str | Path | None = None,
    resume: bool = False,
    keep_weights: str = "both",
    decoding: Options = OPTIONS,
    overlap: How = "warn",
    record: bool = True,
    progress: Progress = ignore,
) -> Finetuned:
    """Train a fresh adapter on `data`; it stays attached, in evaluation mode, with the weights that were best on `dev`.

    Args:
        where, settings: the layers and the method's settings; see `asrpeft.adapters.where` and `asrpeft methods NAME`.
        lang: the language spoken. Default: what the corpus says; rows of several languages each get their own token.
        proxy_lang: for a language that the base has no token for: the language whose slot its learned vector takes, and
            starts from.
        name: to call the adapter by; default the last part of `out`, else the language, else the method.
        dev: chooses among the weights. Default: a tenth of the speakers of `data` (of the sentences where there is one).
        eval_data: transcribed by base and adapter after training, and used for nothing else.
        guard: what the base could already do, in its own language (`guard_lang` where it does not say): transcribed by
            base and adapter after training, and told beside `eval_data`.
        max_loss: WER (a fraction: 0.03 is 3 points) that may be lost there. The best weights on `dev` that lose no more
            are kept. They are chosen on `guard_dev`, or else on up to 100 utterances held out of `guard` by speaker, which
            are then not reported. Where no weights pass, nothing is saved and Failure is raised: an adapter that
            changes nothing would look like a success.
        nonspeech: recordings in which nobody speaks, for half of the rows without speech that `options.nonspeech_share` asks
            for (the others are made on the spot); a fifth of them is held out.
        check_nonspeech: with such a share, transcribe 16 short clips in which nobody speaks by base and adapter.
        out: the adapter's folder; the run's checkpoint lies beside it until the run is done.
        overwrite: replace an adapter that is there.
        init_adapter: a trained adapter of the same method and settings to start from.
        resume: go on from the checkpoint of an interrupted run with the same arguments; where that had come to its end, its
            adapter is loaded and nothing trains.
        keep_weights: "best": those that the development data choose; "last": those of the last step, whatever the evaluations at
            the development data said; "both": the best, and beside `out`, in OUT.last, the last where they are others.
        decoding: how `eval_data` and `guard` are decoded. (Development data, while training: greedily.)
        overlap: what to do where recordings of two parts of the data are the same ones: "refuse", "tell" (in the
            result), "warn" (in Python's way too) or "ignore". Speakers and sentences that are shared are told. See `asrpeft.jobs.leakage`.
        record: let digests of the recordings, ids and speakers go with the adapter, by which `evaluate` knows them again.
    Raises: BadInput, BadCorpus (among others, where all recordings are silent), CannotAttach, UnexpectedTraining, Failure.
    """
    options = options or TrainingOptions()
    out = None if out is None else Path(out)
    name = name or (out.resolve().name if out is not None else canonical(lang) if lang else method)
    if out is not None:
        recover(out)
    finished = out is not None and (out / MANIFEST).is_file()
    if keep_weights not in KEEP:
        raise BadInput(f"--keep {keep_weights}: choose {', '.join(KEEP)}.")
    checkpoint = None if out is None else destination.check_adapter(out, overwrite=overwrite, resume=resume)
    beside = None if checkpoint is None or keep_weights != "both" else checkpoint.with_name(checkpoint.name.removesuffix(".checkpoint") + ".last")
    if beside is not None and beside.exists() and not (overwrite or resume):
        raise BadInput(f"{str(beside)!r} holds the last weights of another run. Choose another --out, --overwrite, or leave them out with --keep best.")
    for corpus in (guard, guard_dev):
        if corpus is not None:
            check_guard(recognizer, corpus, guard_lang)
    asked = {
        "settings": plain(asdict(configure(method_named(method), settings or {}))), "where": where,
        "lang": None if lang is None else canonical(lang), "proxy_lang": proxy_lang, "task": task,
    }  # fmt: skip
    if nonspeech is not None and not options.nonspeech_share:
        raise BadInput("--nonspeech gives recordings to train on, and --nonspeech-share 0 takes none of them. Leave one out.")
    silent, held_silent = divide_nonspeech(nonspeech, options.seed)
    given, lang = lang, lang or _language(data, init_adapter)
    guard, choosing = divide(guard, guard_dev, max_loss, seed=options.seed, progress=progress)
    dev_given = dev is not None
    data, dev = _with_dev(data, dev, options, progress)
    for remark in (mixture(data), quiet(data, seed=options.seed)):
        if remark is not None:
            progress(Message(remark))
    described = {
        "asked": asked, "options": options.to_json(), "data": describe_corpus(data), "dev": None if dev is None else describe_corpus(dev),
        "init_adapter": None if init_adapter is None else str(init_adapter),
    }  # fmt: skip
    if keep_weights == "last":
        described["keep"] = keep_weights
    if silent is not None:
        described["nonspeech"] = describe_corpus(silent)
    if choosing is not None:
        described["guard"] = {"data": describe_corpus(choosing), "max_loss": max_loss}
    if out is not None and finished and resume and checkpoint is not None and not checkpoint.exists():
        adapter, trained = _finished(recognizer, out, name, method, described, options)
        progress(Message(f"{str(out)!r} was finished before: it is loaded, nothing trains."))
    else:
        adapter = _attach(recognizer, name, method, where, dict(settings or {}), lang, proxy_lang, task, options, init_adapter, data)
    try:
        parent = None if init_adapter is None else read(init_adapter)[0].training
        shared, said = parts_of_a_run(data=data, dev=dev, dev_given=dev_given, eval_data=eval_data, guard=guard, guard_dev=choosing,
                                      parent=parent, how=overlap)  # fmt: skip
        for sentence in said:
            progress(Message(sentence))
        if adapter.manifest.training.get("finished") is None:
            on_record = {RECORD: record_of(data, dev, parent, nonspeech=silent)} if record else {}
            watched = None
            if choosing is not None and max_loss is not None:
                watched = watch(choosing, max_loss, lambda adapted: dev_wer(
                    recognizer, name if adapted else None, choosing, lang=guard_lang, task=task, options=options))  # fmt: skip
            if scored := 2 * (len(eval_data or ()) + len(guard or ())):
                unit, n = next((unit, n) for unit in ("minutes", "steps", "epochs") if (n := getattr(options, unit)) is not None)
                progress(Message(f"{len(data):,} utterances to train on ({unit}: {n:g}), then {scored:,} to transcribe, by base and adapter."))
            trained = _train(recognizer, adapter, data, dev, options, given, task, watched, silent,
                             "last" if keep_weights == "last" else "best", checkpoint, resume, progress)  # fmt: skip
            recognizer.adapters.describe(name, training=described | provenance(trained) | on_record)
            if out is not None and accelerate.PartialState().is_main_process:
                adapter.save(out, overwrite=overwrite or resume)
                if beside is not None:
                    _save_last(adapter, trained, beside)
        evaluation = kept = unspoken = None
        if check_nonspeech and options.nonspeech_share:
            unspoken = listen(recognizer, name, held_silent, spoken=data, lang=given, proxy_lang=proxy_lang, task=task,
                              share=options.nonspeech_share, decoding=decoding, progress=progress)  # fmt: skip
            progress(Message(unspoken.sentence()))
        if guard is not None or choosing is not None:
            kept = keep(recognizer, name, guard, choosing, trained, lang=guard_lang, task=task, max_loss=max_loss,
                        seed=options.seed, decoding=decoding, progress=progress)  # fmt: skip
        if eval_data is not None:
            evaluation = evaluate(
                recognizer, _in_language(eval_data, lang), adapters=[name], lang=given, proxy_lang=proxy_lang, task=task,
                by=["corpus"] if len(eval_data.parts) > 1 else [],
                seed=options.seed, options=decoding, overlap="ignore", progress=lambda done, total, what: progress(Scoring(done, total, what)),
            )  # fmt: skip
            evaluation = replace(evaluation, notes=(*evaluation.notes, *said))
        scores = {} if evaluation is None or eval_data is None else summary(evaluation, eval_data)
        scores |= {"guard": kept.summary()} if kept is not None and kept.reported is not None else {}
        scores |= {} if unspoken is None else {"nonspeech": unspoken.summary()}
        if scores:
            recognizer.adapters.describe(name, scores=scores)
            if out is not None and accelerate.PartialState().is_main_process:
                adapter.save(out, overwrite=True)
    except BaseException as error:
        recognizer.adapters.detach(name)
        if isinstance(error, Failure) and checkpoint is not None and accelerate.PartialState().is_main_process:
            checkpoint.unlink(missing_ok=True)  # it came to an end, if not a good one: there is nothing to go on with
        if isinstance(error, interruption.INTERRUPTIONS) and out is not None and checkpoint is not None:
            _tell_what_is_kept(error, out, checkpoint)
        raise
    if checkpoint is not None and accelerate.PartialState().is_main_process:
        checkpoint.unlink(missing_ok=True)
    return Finetuned(name, out, adapter.manifest.method, adapter.trained_parameters(), adapter.head_parameters(),
                     sum(p.numel() for p in recognizer.base.parameters()), trained, evaluation, kept, tuple(one for one in shared if one),
                     beside if beside is not None and beside.is_dir() else None, unspoken)  # fmt: skip


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
    """The one language of the corpus, or of the adapter to start from; None where rows differ or nothing is said."""
    languages = {canonical(u.lang) for u in data if u.lang}
    if len(languages) == 1 and all(u.lang for u in data):
        return languages.pop()
    return read(init_adapter)[0].language if init_adapter is not None and not languages else None


def _in_language(corpus: Corpus, lang: str | None) -> Corpus:
    """The corpus, its rows that do not say their language being in `lang`."""
    if lang is None or all(u.lang for u in corpus):
        return corpus
    return Corpus([replace(u, lang=u.lang or lang) for u in corpus], name=corpus.name, skipped=corpus.skipped)


def _with_dev(data: Corpus, dev: Corpus | None, options: TrainingOptions, progress: Progress) -> tuple[Corpus, Corpus | None]:
    """(training data, development data), the latter at most `dev_utterances` long."""
    if dev is None:
        try:
            data, dev = data.split_by_speaker(DEV_SHARE, options.seed)
        except BadCorpus as error:
            progress(Message(f"Training without development data, the last weights are kept: {error}"))
            return data, None
        progress(Message(f"Development data: {len(dev)} of {len(data) + len(dev)} utterances, {dev.name}."))
    return data, dev.shuffle(options.seed)[: options.dev_utterances]


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


def quiet(data: Corpus, *, seed: int) -> str | None:
    """A warning where many of the recordings hold no sound. Raises: BadCorpus where all are silent."""
    looked, ids = silent(data, seed=seed)
    if len(ids) <= FEW_SILENT * looked:
        return None
    return (f"Warning: {len(ids)} of {looked} recordings of the training data that were looked at hold no sound ({', '.join(ids[:3])}, …): "
            "the adapter learns to write words where nobody speaks. `asrpeft data check` names them all.")  # fmt: skip


def _attach(recognizer: Recognizer, name: str, method: str, where: str | None, settings: dict[str, Any], lang: str | None, proxy_lang: str | None,
            task: str, options: TrainingOptions, init_adapter: str | Path | None, data: Corpus) -> Adapter:  # fmt: skip
    """A fresh adapter, the same for the same seed; or the one to start from, if it is of that kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(options.seed, "start", method).initial_seed())
        if init_adapter is not None:
            adapter = _start_from(recognizer, name, method, where, settings, lang, init_adapter)
            recognizer.adapters.describe(
                name,
                task=task,
                context=options.context,
                training={},
                scores={},
                language=canonical(lang) if lang else adapter.manifest.language,
            )
        elif proxy_lang is not None and lang is not None and recognizer.multilingual and recognizer.token_for(lang) is None:
            number = recognizer.language_token(proxy_lang)  # which refuses what is unknown
            slot = (str(recognizer.token_for(proxy_lang)), number)
            adapter = recognizer.adapters.add(method, name=name, where=where, settings=settings, language_slot=slot, language=canonical(lang),
                                              task=task, context=options.context)  # fmt: skip
        else:
            adapter = recognizer.adapt(method, name=name, where=where, lang=lang, task=task, context=options.context, **settings)
        if options.terms().needs_head:
            known = adapter.ctc.vocabulary[1:] if adapter.ctc is not None else []
            adapter.ctc = CTCHead.for_texts(recognizer.base.config.d_model, [*(u.text for u in data), *known], like=adapter.ctc or recognizer.ctc)
            adapter.ctc.to(recognizer.device)
            recognizer.adapters.describe(name, ctc_vocabulary=adapter.ctc.vocabulary)
        recognizer.adapters.describe(name, decode_by="attention" if options.terms().needs_decoder else "ctc")
    return adapter


def _start_from(
    recognizer: Recognizer,
    name: str,
    method: str,
    where: str | None,
    settings: dict[str, Any],
    lang: str | None,
    folder: str | Path,
) -> Adapter:
    """Raises: BadInput if the saved adapter is not what was asked for."""
    manifest, _ = read(folder)
    cls = method_named(manifest.method)
    wanted = configure(method_named(method), settings)
    differ = [key for key in settings if manifest.method == method and getattr(configure(cls, manifest.config), key) != getattr(wanted, key)]
    if manifest.method != method or differ or (where is not None and split_where(where) != manifest.where):
        raise BadInput(f"{str(folder)!r} is {manifest.method} with {manifest.config} at {','.join(manifest.where)}; one cannot start from it with "
                       f"other settings. Give --method {manifest.method} and leave --set and --where out.")  # fmt: skip
    if lang is not None and recognizer.multilingual and recognizer.token_for(lang) is None and manifest.language != canonical(lang):
        raise BadInput(f"The base has no token for {lang!r}, and {str(folder)!r} has learned no vector for it. Start without --init-adapter.")
    if lang is not None and manifest.language_slot is not None and manifest.language != canonical(lang):
        raise BadInput(f"{str(folder)!r} has learned a vector for {manifest.language!r}, which is not {lang!r}. Start without --init-adapter.")
    return recognizer.adapters.load(folder, name=name)


def prompts(recognizer: Recognizer, name: str, *, lang: str | None, task: str) -> Callable[[Utterance], list[int]]:
    """The prompt of an utterance: in `lang` if that is given, else in the utterance's own language, else in the adapter's."""
    made: dict[str | None, list[int]] = {}

    def of(utterance: Utterance) -> list[int]:
        own = lang or utterance.lang
        if own not in made:
            made[own] = recognizer.prompt(lang=own, task=task, adapter=name)
        return made[own]

    return of


def _train(recognizer: Recognizer, adapter: Adapter, data: Corpus, dev: Corpus | None, options: TrainingOptions, lang: str | None, task: str,
           guard: Guard | None, nonspeech: Corpus | None, keep_weights: str, checkpoint: Path | None, resume: bool, progress: Progress) -> Trained:  # fmt: skip
    name = adapter.name
    prompt = prompts(recognizer, name, lang=lang, task=task)
    prompt(data[0])  # an unknown language or task is told before any audio is read
    return train(  # an adapter trained by CTC alone is scored too: it writes by its head
        recognizer, name, TrainingData(data, prompt, nonspeech), options=options,
        choice=Choice(dev, None if dev is None else lambda: dev_rates(recognizer, name, dev, lang=lang, task=task, options=options), guard, keep_weights),
        checkpoint=checkpoint, resume=resume, progress=progress,
    )  # fmt: skip


def dev_wer(recognizer: Recognizer, name: str | None, dev: Corpus, **how: Any) -> float:
    """As `dev_rates`, WER alone."""
    return dev_rates(recognizer, name, dev, **how).wer


def dev_rates(
    recognizer: Recognizer, name: str | None, dev: Corpus, *, lang: str | None, task: str, options: TrainingOptions,
    decoding: Options = OPTIONS,
) -> Rates:  # fmt: skip
    """What an adapter (None: the base) makes of development data, decoded greedily unless told otherwise."""
    fast = options.precision == "bf16" or (options.precision == "auto" and recognizer.dtype == torch.float32 and has_bf16(recognizer.device))
    heard = transcribe_corpus(recognizer, dev, adapter=name, lang=lang, task=task, context=None if name is None else options.context,
                              options=decoding, autocast=fast)  # fmt: skip
    if not heard.utterances:
        raise BadCorpus(f"No utterance of the development data can be read: {'; '.join(f'{s.id}: {s.reason}' for s in heard.skipped[:3])}.")
    found = score([u.text for u in heard.utterances], heard.texts, resamples=0)
    return Rates(found.wer, found.cer)


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
        raise BadInput(f"The record of the training in {str(out / MANIFEST)!r} is damaged ({type(error).__name__} {error}). "
                       f"Train it anew with --overwrite.") from None  # fmt: skip
    return recognizer.adapters.load(out, name=name), trained


def _trained(did: Mapping[str, Any]) -> Trained:
    return Trained(
        steps=did["steps"], rows=did["rows"], seconds=did["seconds"], peak_memory_bytes=did["peak_memory_bytes"], kind=did["kind"],
        best=None if did["best"] is None else tuple(did["best"]), evaluations=tuple(known(tuple(one)) for one in did["evaluations"]), dropped=did["dropped"],
        chosen_by=did.get("chosen_by"), measures=tuple(tuple(one) for one in did.get("measures", ())),
        skipped=tuple(Skipped(**s) for s in did["skipped"]), guard_evaluations=tuple(known(tuple(one)) for one in did.get("guard_evaluations", ())),
    )  # fmt: skip
