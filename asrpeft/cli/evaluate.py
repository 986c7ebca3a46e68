"""`asrpeft evaluate`: error rates of the base and of adapters on a corpus, side by side."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from asrpeft import destination
from asrpeft.cli import options as o
from asrpeft.cli.output import print_json, show, teller
from asrpeft.report.words import count, counted


def add_to(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


Adapters = Annotated[list[str] | None, typer.Option("--adapter", help="An adapter folder; give the option again for more.")]
By = Annotated[list[str] | None, typer.Option("--by", help="Break the scores down by these columns: speaker,age.")]
Normalizer = Annotated[
    str, typer.Option("--normalizer", help="marks (default; keeps combining marks), none, whisper-english, whisper-basic, or the path of a mapping file.")
]

TrainData = Annotated[
    str | None,
    typer.Option(
        "--train-data", help="What the adapters were trained on: recall of words by how often they occur in its texts; and no recording of it may be in --data."
    ),
]
Rare = Annotated[
    int | None, typer.Option("--rare", help="A word is rare that occurs at most so often in --train-data. Default: never, 1-2, 3-10 and more, each by itself.")
]
Hotwords = Annotated[
    str | None, typer.Option("--hotwords", help="Words or phrases whose recall is scored (decoding does not know of them): a file with one a line, or a,b,c.")
]
NonSpeech = Annotated[
    str | None, typer.Option("--nonspeech", help="Recordings in which nobody speaks, a folder or a corpus: how often, and how much, is invented.")
]
Conditions = Annotated[
    str | None,
    typer.Option(
        "--conditions",
        help="Repeat the test under noise (20, 10, 5 dB), reverb, telephone, speed (0.9, 1.1): noise,speed or all. Eight more passes for each system, if all.",
    ),
]
Guard = Annotated[str | None, typer.Option("--guard", help="What the base could already do, in its own language: how much of it each adapter loses.")]
GuardLang = Annotated[str | None, typer.Option("--guard-lang", help="The language of the guard data, where they do not name it themselves.")]
MaxLoss = Annotated[float, typer.Option("--max-loss", help="Points of WER that an adapter may lose on --guard to be called kept.")]


def evaluate(
    data: o.Data,
    adapter: Adapters = None,
    speakers: o.SpeakersDir = None,
    model: o.Model = None,
    lang: o.Spoken = None,
    proxy_lang: Annotated[str | None, typer.Option("--proxy-lang", help="What to tell the base where it has no token for the language.")] = None,
    task: o.OwnTask = None,
    context: o.Context = None,
    by: By = None,
    normalizer: Normalizer = "marks",
    cap: Annotated[
        float | None,
        typer.Option(
            "--cap",
            help="In the tests, count at most this many errors per reference word of an utterance: 1 for 100 %. Default: all of them, as in the rates; the output says where 1 would say otherwise.",
        ),
    ] = None,
    beams: o.Beams = None,
    ctc_weight: o.CtcWeight = 0.0,
    train_data: TrainData = None,
    rare: Rare = None,
    hotwords: Hotwords = None,
    nonspeech: NonSpeech = None,
    conditions: Conditions = None,
    guard: Guard = None,
    guard_lang: GuardLang = None,
    max_loss: MaxLoss = 3.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder for report.html, report.md, report.json, sclite files, and tables/: a CSV and a JSON file for every picture."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the report that is in --out, with all files that belong to it.")] = False,
    columns: o.Columns = None,
    strict: o.Strict = False,
    force: o.Force = False,
    allow_overlap: o.AllowOverlap = False,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    threads: o.Threads = None,
    batch_size: o.BatchSize = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Score the base and adapters on a corpus: corpus WER and CER with intervals, and paired tests against the base.

    --json: {"systems": [{"name", "wer", "cer", "wer_interval", "cer_interval", "interval_unit", "words", "characters",
    "substitutions", "insertions", "deletions", "utterances", "audio_seconds", "audio_seconds_per_second", "raw",
    "normalizer", "real_time_factor", "hallucination", "calibration": {"ece", "nce", "bins", "utterance_confidence", …},
    …}], "tests": [{"a", "b", "difference", "p", "verdict"}], "skipped": […]}: the base first. Where asked for, a system
    also holds "by" (with the "gap" between worst and best group), "rare_words", "hot_words", "nonspeech": {"rate",
    "words_per_hour"} and, of an adapter, "guard": {"before", "after", "loss", "max_loss", "passed"}; beside the systems
    stands "conditions": [{"name", "systems"}], the corpus as recorded first. Nothing is chosen by any of these data. With
    --speakers one more system, "speakers", hears each row with its speaker's adapter; with --lang auto "languages" counts
    what was detected, and the rows of report.json each say their "language".

    Recordings that an adapter has on record as trained or chosen on, or that are in --train-data, are refused with status 2
    (--allow-overlap goes on knowingly); known speakers and sentences are told, and stand in "overlap" and "notes".
    """
    if out is not None:
        destination.check_report(out, overwrite=overwrite)  # before anything is read, imports included
    from asrpeft.cli.progress import bar

    say = teller(quiet=quiet, as_json=json)
    corpus = o.read_corpus(data, columns=columns, strict=strict, quiet=quiet)
    train = None if train_data is None else o.read_corpus(train_data, columns=columns)

    from asrpeft.jobs.checks import Checks, phrases  # from here on the recognizer's libraries are needed, which take seconds
    from asrpeft.jobs.evaluate import evaluate as run
    from asrpeft.jobs.evaluate import plan
    from asrpeft.jobs.voices import Voices

    checks = Checks(
        train_texts=[] if train is None else [u.text for u in train], rare=rare,
        hotwords=() if hotwords is None else phrases(hotwords), nonspeech=None if nonspeech is None else o.read_recordings(nonspeech),
        conditions=[] if conditions is None else [one.strip() for one in conditions.split(",")],
        guard=None if guard is None else o.read_corpus(guard, strict=strict), guard_lang=guard_lang, max_loss=max_loss / 100,
    )  # fmt: skip
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    names = o.attach(recognizer, adapter, force=force)
    voices = None if speakers is None else Voices.read(speakers).attach(recognizer, corpus, force=force)
    every = [*names, *(() if voices is None else voices.adapters)]
    task = o.task_of(recognizer, every, task)
    o.warn_of_language(recognizer, every, lang)
    wanted = [column for text in by or [] for column in text.split(",") if column]
    if len(corpus.parts) > 1 and "corpus" not in wanted:
        wanted.append("corpus")
    systems = 1 + len(names) + (voices is not None)
    whole = plan(corpus, systems, checks, guarded_by=1 + len(names), full=(context or recognizer.context_for(names[0] if names else None)) == "full")
    say(
        f"{count(whole.utterances)} utterances to transcribe: {count(len(corpus))} of {corpus.name}, {counted(systems, 'system')}, {counted(whole.passes, 'pass', 'passes')} in all."
    )
    began = time.monotonic()

    def on_progress(done: int, total: int, what: str) -> None:
        share = whole.share(done)
        advance(done, total, what, remaining_s=(time.monotonic() - began) * (1 - share) / share if share else None)

    with bar("evaluating", quiet=quiet) as advance:
        found = run(
            recognizer, corpus, adapters=names, voices=voices, lang=lang, proxy_lang=proxy_lang, task=task, context=context, batch_size=batch_size,
            normalizer=normalizer, by=wanted, cap=cap, checks=checks, options=o.search(beams, ctc_weight), seed=seed, strict=strict,
            train=train, overlap="tell" if allow_overlap else "refuse", progress=on_progress,
        )  # fmt: skip
    if speakers is not None:
        found = replace(found, run={**found.run, "speakers": str(speakers)})
    if json:  # before anything is written: a full disk must not cost what was measured
        print_json(found.to_json())
    else:
        show(found)
    if out is not None:
        found.save_report(out, overwrite=overwrite)
    if json:
        return
    for one in found.skipped[:3]:
        say(f"skipped {one.id}: {one.reason}")
    if len(found.skipped) > 3:
        say(f"{len(found.skipped)} utterances were skipped in all.")
    if out is not None:
        say(f"Report: {out / 'report.html'}")
