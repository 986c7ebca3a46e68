"""`asrpeft evaluate`: error rates of the base and of adapters on a corpus, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrpeft.cli import options as o
from asrpeft.cli.output import console, print_json, teller

if TYPE_CHECKING:
    from asrpeft.corpus import Corpus
    from asrpeft.jobs.evaluate import Evaluation
    from asrpeft.scoring.report import Report

_PLAYERS = 60  # recordings that go into the HTML page: each is some tens of kilobytes


def add_to(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


Adapters = Annotated[list[str] | None, typer.Option("--adapter", help="An adapter folder; give the option again for more.")]
By = Annotated[list[str] | None, typer.Option("--by", help="Break the scores down by these columns: speaker,age.")]
Normaliser = Annotated[str, typer.Option("--normaliser", help="marks (default; keeps combining marks), none, whisper-english, whisper-basic, or the path of a mapping file.")]
Beams = Annotated[int, typer.Option("--beams", help="Hypotheses kept by beam search; 1 is greedy.")]


def evaluate(
    data: o.Data,
    adapter: Adapters = None,
    model: o.Model = None,
    lang: o.Lang = None,
    proxy_lang: Annotated[str | None, typer.Option("--proxy-lang", help="What to tell the base where it has no token for the language.")] = None,
    task: o.Task = "transcribe",
    context: o.Context = None,
    by: By = None,
    normaliser: Normaliser = "marks",
    cap: Annotated[float | None, typer.Option("--cap", help="In the tests, count at most this many errors per reference word of an utterance: 1 for 100 %.")] = None,
    beams: Beams = 1,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for report.html, report.md, report.json and sclite files.")] = None,
    columns: o.Columns = None,
    strict: o.Strict = False,
    force: o.Force = False,
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
    "normaliser", …}], "tests": [{"a", "b", "difference", "p", "verdict"}], "skipped": […]}: the base first.
    """
    from asrpeft.cli.progress import bar
    from asrpeft.decoding import Options
    from asrpeft.jobs.evaluate import evaluate as run

    say = teller(quiet=quiet, as_json=json)
    corpus = o.read_corpus(data, columns=columns, strict=strict)
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    names = o.attach(recognizer, adapter, force=force)
    wanted = [column for text in by or [] for column in text.split(",") if column]
    with bar("evaluating", quiet=quiet) as advance:
        found = run(
            recognizer, corpus, adapters=names, lang=lang, proxy_lang=proxy_lang, task=task, context=context, batch_size=batch_size, normaliser=normaliser,
            by=wanted, cap=cap, options=Options(stop_loops=True, beams=beams), seed=seed, strict=strict, progress=advance,
        )  # fmt: skip
    report = contents(found, title=corpus.name)
    if out is not None:
        write(report, found, corpus, out)
    if json:
        print_json(found.to_json())
        return
    from asrpeft.scoring import report as layouts

    layouts.show(report, console())
    for note in found.notes:
        say(note)
    for one in found.skipped[:3]:
        say(f"skipped {one.id}: {one.reason}")
    if len(found.skipped) > 3:
        say(f"{len(found.skipped)} utterances were skipped in all.")
    if out is not None:
        say(f"Report: {out / 'report.html'}")


def contents(found: Evaluation, *, title: str) -> Report:
    """The report of an evaluation: its own tests, breakdowns and speeds."""
    from asrpeft.scoring import report as layouts

    speeds = {
        one.score.name: {"audio_seconds": one.transcripts.audio_seconds, "audio_seconds_per_second": one.transcripts.audio_seconds / max(one.transcripts.seconds, 1e-9)}
        for one in found.systems
    }
    return layouts.make(
        [one.score for one in found.systems], comparisons=found.tests, title=title, extra=speeds, skipped=found.skipped,
        breakdowns=tuple(part for one in found.systems for part in one.breakdowns),
    )  # fmt: skip


def write(report: Report, found: Evaluation, corpus: Corpus, out: Path) -> None:
    """report.html, report.md, report.json and, per system, NIST trn/pra/sys files."""
    from json import dumps

    from asrpeft.files import replace_file
    from asrpeft.scoring import report as layouts
    from asrpeft.scoring.report import sclite

    audio = {}
    for utterance in corpus[:_PLAYERS]:
        source = utterance.audio.read()
        audio[utterance.id] = source if isinstance(source, bytes) else source.read_bytes()
    replace_file(out / "report.html", layouts.html(report, audio=audio))
    replace_file(out / "report.md", layouts.markdown(report))
    replace_file(out / "report.json", dumps(found.to_json(rows=True), ensure_ascii=False, indent=1) + "\n")
    for one in found.systems:
        sclite.write(one.score, out / one.score.name)
