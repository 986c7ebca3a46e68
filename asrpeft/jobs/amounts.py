"""WER against the amount of adaptation data: one method, growing parts of one corpus, all else equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asrpeft import destination, interruption
from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus import Corpus
from asrpeft.decoding import Options
from asrpeft.decoding.joint import for_base
from asrpeft.errors import BadInput
from asrpeft.jobs.evaluate import OPTIONS, evaluate, heard_before
from asrpeft.jobs.finetune import DEV_SHARE, finetune
from asrpeft.jobs.leakage import How, parts_of_a_run
from asrpeft.jobs.ledger import Ledger, keep, refuse_taken
from asrpeft.jobs.pace import Pace
from asrpeft.jobs.provenance import run_of
from asrpeft.jobs.results.curve import Curve, Point
from asrpeft.jobs.results.evaluation import BASE, System
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.methods import configure
from asrpeft.methods import method as method_named
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import compare_all
from asrpeft.training import Message, Progress, Scoring, TrainingOptions
from asrpeft.training.checkpoints import corpus_key
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
        points = tuple(Point(*point, test) for point, test in zip(measured, tests, strict=True))
        found = Curve(base, points, tuple(one for one in shared if one), tuple(said), run)
        if out is not None:
            keep(found, FILES, Path(out), progress)
        if done is not None:
            done(found)
        return found

    finished = {f"{method}-{fraction:g}" for fraction in wanted if out is not None and (Path(out) / f"{method}-{fraction:g}" / MANIFEST).is_file()}
    for name in (BASE, *sorted(finished)):  # another comparison's are refused before anything is trained
        ledger.recall(name, eval_data, **({} if name == BASE else own))
    base = scored(None)
    run = run_of(recognizer)
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
