"""`asrpeft finetune`: adapt the base to a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrpeft import destination
from asrpeft.cli import options as o
from asrpeft.cli.output import first_process, print_json, reason, show, tell, teller


def add_to(app: typer.Typer) -> None:
    app.command("finetune")(finetune)


Method = Annotated[str, typer.Option("--method", help="The adaptation method; `asrpeft methods` lists them.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Settings of the method: --set rank=16 alpha=32.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        help="Layers: attention, conv, ff, embedding, block, feedforward, stack, all, a glob such as decoder.*.q_proj, or a list of these. Default: the method's own.",
    ),
]
Loss = Annotated[str, typer.Option("--loss", help="ce, ctc, ce+ctc, or weighted: ce+0.2*ctc.")]
Lr = Annotated[float | None, typer.Option("--lr", help="Peak learning rate. Default: the method's own.")]
HeadLr = Annotated[float | None, typer.Option("--head-lr", help="Peak learning rate of a CTC head. Default: 1e-3, or the adapter's rate where that is higher.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the data (10 if no length is given).")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Minutes of training.")]
BatchSeconds = Annotated[float, typer.Option("--batch-seconds", help="Seconds of audio in a batch.")]
Accumulate = Annotated[int, typer.Option("--accumulate", help="Batches in an optimizer step.")]
Optimizer = Annotated[str, typer.Option("--optimizer", help="adamw, adafactor, galore, muon, sgd or adamw8bit, with settings after commas: galore,rank=64.")]
Schedule = Annotated[str, typer.Option("--schedule", help="cosine, linear or constant, after the warm-up, or onecycle.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, bf16 or no.")]
Augment = Annotated[str, typer.Option("--augment", help="none, standard or strong, with changes: standard,noise=0.3.")]
Patience = Annotated[int | None, typer.Option("--patience", help="Looks at the dev data without an improvement before training stops.")]
Checkpointing = Annotated[bool, typer.Option("--gradient-checkpointing", help="Recompute activations: less memory, a third more time.")]
CheckpointMinutes = Annotated[
    float,
    typer.Option(
        "--checkpoint-minutes",
        help="Minutes between checkpoints, from which --resume goes on; 0 writes one after every step. One is written on Ctrl-C and SIGTERM too.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", help="Processes that read and augment audio beside the one that trains; 0 reads in that one.")]
NonspeechShare = Annotated[
    float,
    typer.Option(
        "--nonspeech-share",
        help="Share of the training rows that are sound in which nobody speaks (silence, noise, hum, beeps, music, made on the spot), so that the adapter learns to write nothing there; 0 for none.",
    ),
]
TrainContext = Annotated[str, typer.Option("--context", help="Audio context: auto trains on what each utterance needs, full on 30 s.")]


def finetune(
    invoked: typer.Context,
    data: o.TrainingData,
    dev_data: o.DevData = None,
    eval_data: Annotated[
        list[str] | None,
        typer.Option(
            "--eval-data",
            help="Read once, after training: word error rates before and after, with a paired test. Give the option again for more corpora: they are scored together, and each by itself.",
        ),
    ] = None,
    guard: Annotated[
        str | None, typer.Option("--guard", help="What the base could already do, in its own language: reported before and after, and never trained on.")
    ] = None,
    guard_dev: Annotated[
        str | None,
        typer.Option(
            "--guard-dev",
            help="With --max-loss: guard data that choose among weights. Default: up to 100 utterances held out of --guard by speaker, and left out of its report.",
        ),
    ] = None,
    guard_lang: Annotated[str | None, typer.Option("--guard-lang", help="The language of the guard data, where they do not name it themselves.")] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss",
            help="Points of WER that may be lost on the guard data: the best weights on the dev data that lose no more are kept; if none do, the run fails with status 1 and saves nothing.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", callback=o.recipe, is_eager=True, help="A TOML file with values for these options; flags win over it.")
    ] = None,
    model: o.Model = None,
    lang: o.Lang = None,
    proxy_lang: Annotated[
        str | None, typer.Option("--proxy-lang", help="For a language without a token: the known language whose token it takes the place of and starts from.")
    ] = None,
    task: o.Task = "transcribe",
    method: Method = "lora",
    settings: Set = None,
    where: Where = None,
    init_adapter: Annotated[str | None, typer.Option("--init-adapter", help="Start from a trained adapter of the same method.")] = None,
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
    nonspeech: Annotated[
        str | None,
        typer.Option("--nonspeech", help="Recordings in which nobody speaks, a folder or a corpus: half of the rows of --nonspeech-share are taken from them."),
    ] = None,
    nonspeech_share: NonspeechShare = 0.05,
    patience: Patience = None,
    gradient_checkpointing: Checkpointing = False,
    checkpoint_minutes: CheckpointMinutes = 1.0,
    workers: Workers = 1,
    out: Annotated[Path, typer.Option("--out", help="The adapter's folder.")] = Path("adapter"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of an interrupted run with the same --out.")] = False,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            help="best: the weights that the dev data choose; last: those of the last step; both: the best, and in OUT.last the last where they are others.",
        ),
    ] = "both",
    columns: o.Columns = None,
    strict: o.Strict = False,
    beams: o.Beams = None,
    ctc_weight: o.CtcWeight = 0.0,
    allow_overlap: o.AllowOverlap = False,
    no_record: o.NoRecord = False,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    threads: o.Threads = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fine-tune an adapter on a corpus, and say honestly whether it helped.

    A share of what it is trained on is sound without speech (--nonspeech-share): adapters trained on speech alone write words
    for noise. Base and adapter are held against each other on 16 such clips that training never hears; "nonspeech":
    {"before", "after", "more"}, each with the "rate" of clips with words.

    Ctrl-C and SIGTERM end the run after the step that is under way, with a checkpoint from which --resume goes on to the
    weights of an uninterrupted run (exit status 130, 143); a second one stops at once.

    --json: {"adapter", "method", "trained_parameters", "head_parameters", "total_parameters", "utterances_per_second",
    "peak_memory_bytes", "seconds", "steps", "eval": {"before": {…}, "after": {…}, "test": {"difference", "p", "verdict", "sentence", "also", "notes"}},
    "guard": {"before": {…}, "after": {…}, "loss", "max_loss", "passed", "interval", "chosen_by": {"data", "separate", "looks"}}}

    No recording may be in two of training, dev, evaluation and guard data (else status 2; --allow-overlap goes on knowingly);
    speakers and sentences that are shared are told. All of that stands in "overlap": [{"part", "other", "recordings", "ids",
    "speakers", "sentences", "examples"}]. The adapter keeps digests of what it was trained on, so that evaluate knows it too.

    "dev": {"best", "step", "chosen_by", "measures"}: dev data choose by WER; where that is 90 % or more and says little, by CER,
    and where CER does too, by the loss. "last": the folder of the last step's weights, where they are others.

    Dev data choose among weights, with the part of the guard data that --max-loss sets aside ("chosen_by"; "separate" says
    that none of it is reported). --eval-data and the rest of the guard data are read once, after training, and decoded as
    --beams and --ctc-weight say; while training, dev data are decoded greedily. Without
    --max-loss guard data choose nothing, and "passed" is held against 3 points.
    """
    destination.check_adapter(out, overwrite=overwrite, resume=resume)  # before anything is read, imports included
    from asrpeft.cli.training_progress import reporting
    from asrpeft.jobs.finetune import finetune as run
    from asrpeft.training import TrainingOptions

    quiet = quiet or not first_process()
    say = teller(quiet=quiet, as_json=json)
    settings, length = o.over_recipe(invoked, settings, epochs=epochs, steps=steps, minutes=minutes)
    given = TrainingOptions(
        **length, lr=lr, head_lr=head_lr, loss=loss, batch_seconds=batch_seconds, accumulate=accumulate,
        optimizer=optimizer, schedule=schedule,
        precision=precision, augment=augment, context=context, patience=patience, gradient_checkpointing=gradient_checkpointing, seed=seed,
        nonspeech_share=nonspeech_share, checkpoint_s=60 * checkpoint_minutes, workers=workers,
    )  # fmt: skip
    corpora = [None if not d else o.read_corpus(d, columns=columns, strict=strict, weights=d is data, quiet=quiet) for d in (data, dev_data, eval_data)]
    guards = [None if d is None else o.read_corpus(d, strict=strict) for d in (guard, guard_dev)]
    silent = None if nonspeech is None else o.read_recordings(nonspeech)
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    with reporting(quiet=quiet, say=say) as progress:
        result = run(
            recognizer, corpora[0], dev=corpora[1], eval_data=corpora[2], guard=guards[0], guard_dev=guards[1], guard_lang=guard_lang,
            max_loss=None if max_loss is None else max_loss / 100, nonspeech=silent, options=given, method=method, settings=o.pairs("--set", settings), where=where,
            lang=lang, proxy_lang=proxy_lang, task=task, init_adapter=init_adapter, out=out, overwrite=overwrite, resume=resume, keep_weights=keep,
            decoding=o.search(beams, ctc_weight),
            overlap="tell" if allow_overlap else "refuse", record=not no_record, progress=progress,
        )  # fmt: skip
    if json and first_process():
        print_json(result.to_json())
    elif not quiet:
        show(result)
        tell(f"Saved in {out}." + (f" The weights of the last step are in {result.last}." if result.last else ""))
    lost = result.kept is not None and result.kept.reported is not None and not result.kept.reported.test.passed
    if max_loss is not None and lost:
        reason("More was lost on the reported guard data than --max-loss allows, though the part that chose among weights passed: exit status 1.")
        raise typer.Exit(1)
