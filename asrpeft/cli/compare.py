"""`asrpeft compare`: the methods against each other on one corpus, or one method on growing parts of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrpeft import destination
from asrpeft.cli import options as o
from asrpeft.cli.finetune import (
    Accumulate,
    Augment,
    BatchSeconds,
    Epochs,
    HeadLr,
    Loss,
    Lr,
    Minutes,
    Optimizer,
    Precision,
    Schedule,
    Steps,
    TrainContext,
    Where,
)
from asrpeft.cli.output import print_json, show, teller
from asrpeft.errors import BadInput

if TYPE_CHECKING:
    from asrpeft.report import Result


def add_to(app: typer.Typer) -> None:
    app.command("compare")(compare)


def compare(
    data: o.TrainingData,
    eval_data: Annotated[list[str], typer.Option("--eval-data", help="What the methods are scored on; give the option again for more corpora.")],
    amounts: Annotated[
        str | None,
        typer.Option(
            "--amounts", help="WER against the amount of data instead: one method (--methods NAME) trained on these fractions of it, such as 0.1,0.3,1."
        ),
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="Names separated by commas, or all.")] = "all",
    dev_data: o.DevData = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="METHOD.NAME=VALUE", help="Settings of single methods: --set lora.rank=16 s2lora.rank=32.")
    ] = None,
    model: o.Model = None,
    lang: o.Lang = None,
    where: Where = None,
    loss: Loss = "ce",
    lr: Lr = None,
    head_lr: HeadLr = None,
    epochs: Epochs = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch_seconds: BatchSeconds = 60.0,
    accumulate: Accumulate = 1,
    optimizer: Optimizer = "adamw",
    schedule: Schedule = "cosine",
    precision: Precision = "auto",
    augment: Augment = "standard",
    context: TrainContext = "auto",
    seeds: Annotated[
        int,
        typer.Option("--seeds", help="Train every method by so many seeds, from --seed on: rates are then means, and the tests know how much seeds differ."),
    ] = 1,
    guard: Annotated[
        str | None, typer.Option("--guard", help="What the base could already do, in its own language: how much of it each method forgets.")
    ] = None,
    guard_lang: Annotated[str | None, typer.Option("--guard-lang", help="The language of the guard data, where they do not name it themselves.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder for the adapters, and for compare.html, .csv, .json and .svg, which are written anew after every method."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the comparison in --out: what is done there is neither trained nor decoded again, an interrupted run goes on from its checkpoint.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again and replace what is in --out.")] = False,
    columns: o.Columns = None,
    beams: o.Beams = None,
    ctc_weight: o.CtcWeight = 0.0,
    allow_overlap: o.AllowOverlap = False,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    threads: o.Threads = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fine-tune with several methods, all else equal: WER against trained parameters, time, memory and what is forgotten.

    All methods have the same data, order and budget. Holm's correction is made over the tests against the base, and over all pairs of
    methods where each is tested against the one with the lowest WER; the output says which cannot be told apart from it, and
    about how many speakers would tell them.

    --json: {"base": {…}, "methods": [{"method", "trained_parameters", "wer", "wer_interval", "seconds", "seconds_per_step",
    "utterances_per_second", "peak_memory_bytes", "adapter_bytes", "forgotten", "score": {…}, "test": {…}, "to_best": {…}, "guard": {…},
    "merged_equal", "seeds": […]}], "ranking": {"best", "tied", "pairs", "sentences"}, "frontier": […], "failed": {…}, "run": {…}}; with
    --amounts {"base": {…}, "amounts": [{"fraction", "utterances", "minutes", "score": {…}, "test": {…}}]}. --out also gets
    compare.json (this object), compare.csv (its table), compare.html (tables and pictures) and compare.svg; with --amounts they are
    called curve. All are written anew after every method or amount; --resume goes on after an interruption.
    """
    if out is not None:
        destination.check(out)
    from asrpeft.cli.training_progress import reporting
    from asrpeft.jobs import compare as job
    from asrpeft.jobs.amounts import amounts as grow
    from asrpeft.methods import names
    from asrpeft.training import TrainingOptions

    say = teller(quiet=quiet, as_json=json)
    given = TrainingOptions(epochs=epochs, steps=steps, minutes=minutes, lr=lr, head_lr=head_lr, loss=loss, batch_seconds=batch_seconds, accumulate=accumulate, optimizer=optimizer, schedule=schedule,
                            precision=precision, augment=augment, context=context, seed=seed)  # fmt: skip
    wanted = names() if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    if amounts is not None and len(wanted) != 1:
        raise BadInput(f"--amounts compares amounts of data for one method; name it, for instance --methods lora (got {methods}).")
    own: dict[str, dict[str, str]] = {}
    for key, value in o.pairs("--set", settings).items():
        name, dot, setting = key.partition(".")
        if not dot or name not in wanted:
            raise BadInput(f"--set {key}={value}: write METHOD.NAME=VALUE with a method that is compared ({', '.join(wanted)}).")
        own.setdefault(name, {})[setting] = value
    guarded = None if guard is None else o.read_corpus(guard)
    corpora = [None if not d else o.read_corpus(d, columns=columns, weights=d is data, quiet=quiet) for d in (data, eval_data, dev_data)]
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    how: dict[str, Any] = {"options": given, "where": where, "lang": lang, "dev": corpora[2], "out": out, "resume": resume, "overwrite": overwrite,
                           "decoding": o.search(beams, ctc_weight), "overlap": "tell" if allow_overlap else "refuse"}  # fmt: skip
    found: Result
    with reporting(quiet=quiet, say=say) as progress:
        if amounts is not None:
            found = grow(
                recognizer, corpora[0], corpora[1], fractions=fractions(amounts), method=wanted[0], settings=own.get(wanted[0]), progress=progress, **how
            )
        else:
            found = job.compare(recognizer, corpora[0], corpora[1], methods=wanted, settings=own, seeds=seeds, guard=guarded, guard_lang=guard_lang,
                                progress=progress, **how)  # fmt: skip
    if out is not None:
        name = "compare" if amounts is None else "curve"
        say(f"Report and table: {out / f'{name}.html'}, {out / f'{name}.csv'}, {out / f'{name}.json'}")
    if json:
        print_json(found.to_json())
    else:
        show(found)


def fractions(text: str) -> list[float]:
    """Raises: BadInput for what is no number."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"--amounts takes fractions of the training data between commas, such as 0.1,0.5,1; got {text!r}.") from None
