"""One adapter per speaker, on one base: train, measure on sentences held out, and say who gained.

Each speaker's sentences are divided into three parts. Training uses the first; the second chooses the weights, and whether the
adapter is worth using at all (`enabled`); the third is only reported. A speaker who is done is not trained again.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from asrpeft import destination, interruption
from asrpeft.adapters.adapter import MANIFEST, read
from asrpeft.corpus import Corpus, Utterance
from asrpeft.corpus.corpus import sentence_key
from asrpeft.decoding import Options
from asrpeft.errors import BadAudio, BadCorpus, BadInput, Failure
from asrpeft.jobs.evaluate import OPTIONS, evaluate
from asrpeft.jobs.finetune import dev_wer, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.jobs.pace import Pace
from asrpeft.jobs.provenance import run_of
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.jobs.results.speakers import TABLE, SpeakerResult, Speakers
from asrpeft.jobs.voices import REPORT
from asrpeft.recognizer import Recognizer
from asrpeft.report.values import plain
from asrpeft.scoring import compare
from asrpeft.training import Message, Progress, TrainingOptions
from asrpeft.training.checkpoints import corpus_key
from asrpeft.training.events import ignore

LONGEST_NAME = 150  # bytes; accented letters take six each, and what lies beside the folder for a while is called after it
POOLED = "_pooled"
TEST_SHARE, DEV_SHARE = 0.3, 0.15
PARTS = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "test": "test"}


@dataclass(frozen=True)
class Parts:
    """A speaker's utterances, by what they are for."""

    train: Corpus
    dev: Corpus
    test: Corpus


@destination.holds
def speakers(
    recognizer: Recognizer,
    data: Corpus,
    *,
    out: str | Path,
    options: TrainingOptions | None = None,
    by: str = "speaker",
    method: str = "lora",
    where: str | None = None,
    settings: Mapping[str, Any] | None = None,
    lang: str | None = None,
    proxy_lang: str | None = None,
    task: str = "transcribe",
    split: str = "split",
    pooled: bool = False,
    from_pooled: bool = False,
    init_adapter: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    decoding: Options = OPTIONS,
    overlap: How = "warn",
    record: bool = True,
    progress: Progress = ignore,
    done: Callable[[SpeakerResult], None] | None = None,
) -> Speakers:
    """Train an adapter for each speaker of `data`, one after another.

    Args:
        out: gets a folder for each speaker's adapter, and `speakers.json`.
        by: the column that tells speakers apart.
        split: a column whose values `train`, `dev` and `test` divide the data; where it is missing, each speaker's sentences
            are divided 55 : 15 : 30, and where only `dev` is, a part of `train` is taken for it.
        pooled: also train one adapter on the training parts of all speakers.
        from_pooled: let each speaker's adapter start from that one.
        resume: go on with an interrupted run: finished speakers are kept as they are.
        decoding: how dev and test sentences are decoded once the adapter is trained.
        overlap: what to do where a recording that is tested on also trains or chooses, the speaker's own or another's, or the
            adapter to start from was trained on it; record: both as `finetune` has them.
        done: told of each speaker.
    Raises: BadInput, BadCorpus if no speaker has enough to train on.
    """
    out, options = Path(out), options or TrainingOptions()
    destination.check(out)
    if out.exists() and any(out.iterdir()) and not (resume or overwrite):
        raise BadInput(f"{str(out)!r} exists already. Choose another --out, --resume the run that made it, or --overwrite.")
    if from_pooled and init_adapter is not None:
        raise BadInput("--from-pooled and --init-adapter both say what to start from. Keep one.")
    parts, skipped = divide(data, by=by, split=split, seed=options.seed)
    train, dev, test = (Corpus([u for mine in parts.values() for u in getattr(mine, part)], name=f"all speakers, {part}")
                        for part in ("train", "dev", "test"))  # fmt: skip
    parent = None if init_adapter is None else read(init_adapter)[0].training
    _, said = parts_of_a_run(data=train, dev=dev, eval_data=test, parent=parent, speakers=False, how=overlap)
    for sentence in said:
        progress(Message(sentence))
    common: dict[str, Any] = dict(options=options, keep_weights="best", check_nonspeech=False, overlap="ignore", record=record, method=method,
                                  where=where, settings=settings, lang=lang, proxy_lang=proxy_lang, task=task, resume=resume,
                                  overwrite=overwrite, progress=progress)  # fmt: skip
    together = None
    if pooled or from_pooled:
        progress(Message(f"All {len(parts)} speakers together"))
        train, dev = _together(parts)
        together = finetune(recognizer, train, dev=dev, name=POOLED, out=out / POOLED, init_adapter=init_adapter, **common)
        init_adapter = together.folder if from_pooled else init_adapter
    results: list[SpeakerResult] = []
    run = run_of(recognizer)
    pace = Pace([len(mine.train) for mine in parts.values()])
    try:
        for number, (speaker, mine) in enumerate(parts.items(), 1):
            folder = out / folder_name(speaker)
            rest = pace.step(counts=not (resume and (folder / MANIFEST).is_file()))
            progress(Message(f"Speaker {number} of {len(parts)}: {speaker} ({len(mine.train)} utterances to train on{rest})"))
            try:
                own = finetune(
                    recognizer,
                    mine.train,
                    dev=mine.dev,
                    name=folder.name,
                    out=folder,
                    init_adapter=init_adapter,
                    **common,
                )
            except (BadAudio, BadCorpus, Failure) as error:
                skipped.append((speaker, str(error)))
                progress(Message(f"{speaker} is left out: {error}"))
                continue
            try:
                result = _measured(recognizer, speaker, mine, own, together, lang, proxy_lang, task, options, decoding)
            except (BadAudio, BadCorpus) as error:
                skipped.append((speaker, str(error)))
                progress(Message(f"{speaker} is left out: {error}"))
                continue
            finally:
                recognizer.adapters.detach(own.name)
            results.append(result)
            Speakers(tuple(results), tuple(skipped), together, by, run).save_report(out)
            if done is not None:
                done(result)
    except interruption.INTERRUPTIONS as error:
        if results:
            interruption.note(error, f"{len(results)} of {len(parts)} speakers are done and in {str(out)!r}.", resumes=True)
        raise
    finally:
        if together is not None:
            recognizer.adapters.detach(together.name)
    if not results:
        reasons = "; ".join(f"{speaker}: {reason}" for speaker, reason in skipped[:3])
        raise BadCorpus(f"No speaker of {data.name or 'the corpus'} could be adapted to ({reasons or 'there is none'}).")
    report = Speakers(tuple(results), tuple(skipped), together, by, run)
    report.save_report(out)
    return report


def folder_name(speaker: str) -> str:
    """A speaker as a folder's name: what could leave the folder, hide or confuse is written as %XX; of a long one the
    beginning, and a number that tells it from others."""
    safe = quote(speaker, safe=" @+=,()", errors="surrogatepass") or "%"
    if len(safe) > LONGEST_NAME:
        number = hashlib.blake2b(speaker.encode(errors="surrogatepass"), digest_size=6).hexdigest()
        safe = f"{re.sub('%.?$', '', safe[: LONGEST_NAME - 14])}%~{number}"
    taken = safe.startswith((".", "_")) or safe in (REPORT, TABLE)  # hidden, or this job's own
    return f"%{ord(safe[0]):02X}{safe[1:]}" if taken else safe


def divide(data: Corpus, *, by: str, split: str, seed: int) -> tuple[dict[str, Parts], list[tuple[str, str]]]:
    """(parts by speaker, speakers that have too little with the reason).

    Raises: BadInput if the corpus has no such column, or an unknown value in `split`.
    """
    groups: dict[str, list[Utterance]] = {}
    for utterance in data:
        speaker = utterance.column(by)
        if speaker is not None:
            groups.setdefault(str(speaker), []).append(utterance)
    if not groups:
        raise BadInput(f"{data.name or 'The corpus'} has no column {by!r} to tell speakers apart. Name one with --by, or map it: --columns speaker=NAME.")
    parts, poor = {}, []
    for speaker in sorted(groups):
        mine = _divide_one(groups[speaker], split=split, seed=seed, name=f"{data.name} ({speaker})")
        lacking = [part for part in ("train", "dev", "test") if not len(getattr(mine, part))]
        if lacking:
            poor.append((speaker, f"{len(groups[speaker])} utterances leave nothing for {' and '.join(lacking)}"))
        else:
            parts[speaker] = mine
    return parts, poor


def _divide_one(rows: Sequence[Utterance], *, split: str, seed: int, name: str) -> Parts:
    assigned = [u.column(split) for u in rows]
    if all(value is not None for value in assigned):
        unknown = {str(v) for v in assigned} - set(PARTS)
        if unknown:
            raise BadInput(f"The column {split!r} says {', '.join(sorted(unknown)[:3])!r}; it may say train, dev and test.")
        found = {part: [u for u, v in zip(rows, assigned) if PARTS[str(v)] == part] for part in ("train", "dev", "test")}
        if not found["dev"]:
            found["dev"], found["train"] = _by_sentence(found["train"], DEV_SHARE, seed)
    else:
        test, rest = _by_sentence(rows, TEST_SHARE, seed)
        dev, train = _by_sentence(rest, DEV_SHARE / (1 - TEST_SHARE), seed)
        found = {"train": train, "dev": dev, "test": test}
    return Parts(*(Corpus(found[part], name=f"{name}, {part}") for part in ("train", "dev", "test")))


def _by_sentence(rows: Sequence[Utterance], share: float, seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """(about `share` of the utterances, the rest), no sentence in both. Sentences are drawn in one order for all speakers, so
    that speakers who read the same ones hold out the same ones."""

    def place(key: str) -> bytes:
        return hashlib.blake2b(f"{seed}\x1f{key}".encode(), digest_size=8).digest()

    keys = sorted({sentence_key(u.text) for u in rows}, key=place)
    chosen = set(keys[: math.ceil(share * len(keys))]) if len(keys) > 1 else set()
    return [u for u in rows if sentence_key(u.text) in chosen], [u for u in rows if sentence_key(u.text) not in chosen]


def _together(parts: Mapping[str, Parts]) -> tuple[Corpus, Corpus]:
    """(training, development) data of all speakers, without sentences that anyone is tested or chosen on."""
    test = {sentence_key(u.text) for mine in parts.values() for u in mine.test}
    dev = [u for mine in parts.values() for u in mine.dev if sentence_key(u.text) not in test]
    held = test | {sentence_key(u.text) for u in dev}
    train = [u for mine in parts.values() for u in mine.train if sentence_key(u.text) not in held]
    if not train or not dev:
        raise BadCorpus("Without the sentences that some speaker is tested on, nothing is left to train a pooled adapter on. Leave --pooled out.")
    return Corpus(train, name="all speakers, train"), Corpus(dev, name="all speakers, dev")


def _measured(recognizer: Recognizer, speaker: str, parts: Parts, own: Finetuned, together: Finetuned | None, lang: str | None, proxy_lang: str | None,
              task: str, options: TrainingOptions, decoding: Options) -> SpeakerResult:  # fmt: skip
    """Scores of one speaker; from the adapter's manifest if it was measured before on the same."""
    adapter = recognizer.adapters[own.name]
    key = {"test": corpus_key(parts.test), "dev": corpus_key(parts.dev), "pooled": together is not None, "cap": None,
           "decoding": [decoding.beams, decoding.ctc_weight]}  # fmt: skip
    if lang is None and not any(u.lang for u in parts.test):
        lang = adapter.manifest.language  # what it was trained in, where nobody else says it
    folder = cast(Path, own.folder)  # `speakers` gave one
    record = adapter.manifest.scores.get("speaker")
    if not isinstance(record, dict) or record.get("key") != key:
        names = {"own": own.name} if together is None else {"pooled": together.name, "own": own.name}
        systems: dict[str, str | None] = {"base": None, **names}
        slot = adapter.manifest.language_slot
        # A base without a token for the language is told the one in whose place the adapter learned it.
        spoken = {"base": proxy_lang or (lang if slot is None else slot)} | {name: lang for name in names}
        dev = {name: dev_wer(recognizer, of, parts.dev, lang=spoken[name], task=task, options=options, decoding=decoding) for name, of in systems.items()}
        found = evaluate(
            recognizer,
            parts.test,
            adapters=list(names.values()),
            lang=lang,
            proxy_lang=proxy_lang,
            task=task,
            options=decoding,
            seed=options.seed,
            overlap="ignore",
        )
        # Own against base alone, whatever else was scored beside them: each speaker's is a question of its own.
        test = compare(found.systems[0].score, found.systems[-1].score, seed=options.seed)
        record = {
            "key": key, "dev": dev, "enabled": dev["own"] < min(wer for name, wer in dev.items() if name != "own"),
            **{name: system.to_json() for name, system in zip(systems, found.systems)}, "test": test.to_json(),
        }  # fmt: skip
        recognizer.adapters.describe(own.name, scores=dict(adapter.manifest.scores) | {"speaker": plain(record)})
        adapter.save(folder, overwrite=True)
    sizes = {part: len(getattr(parts, part)) for part in ("train", "dev", "test")}
    return SpeakerResult(
        speaker,
        folder,
        record["enabled"],
        record["base"],
        record.get("pooled"),
        record["own"],
        record["test"],
        record["dev"],
        sizes,
    )
