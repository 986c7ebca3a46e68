"""`asrpeft speakers`: one adapter per speaker, and a report of who gained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrpeft import destination
from asrpeft.cli import options as o
from asrpeft.cli.finetune import (
    Augment,
    BatchSeconds,
    CheckpointMinutes,
    Epochs,
    HeadLr,
    Loss,
    Lr,
    Method,
    Minutes,
    NonspeechShare,
    Patience,
    Precision,
    Set,
    Steps,
    TrainContext,
    Where,
    Workers,
)
from asrpeft.cli.output import print_json, show, teller


def add_to(app: typer.Typer) -> None:
    app.command("speakers")(speakers)


def speakers(
    data: o.TrainingData,
    out: Annotated[Path, typer.Option("--out", help="A folder for one adapter a speaker, and speakers.json.")],
    by: Annotated[str, typer.Option("--by", help="The column that tells speakers apart.")] = "speaker",
    split: Annotated[str, typer.Option("--split", help="A column that says train, dev or test. Without one, each speaker's sentences are divided.")] = "split",
    pooled: Annotated[bool, typer.Option("--pooled", help="Train one adapter on all speakers too, and compare with it.")] = False,
    from_pooled: Annotated[bool, typer.Option("--from-pooled", help="Start every speaker from the pooled adapter.")] = False,
    model: o.Model = None,
    lang: o.Lang = None,
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
    precision: Precision = "auto",
    augment: Augment = "standard",
    context: TrainContext = "auto",
    nonspeech_share: NonspeechShare = 0.05,
    patience: Patience = None,
    checkpoint_minutes: CheckpointMinutes = 1.0,
    workers: Workers = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption: finished speakers are not trained again.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace adapters that are there.")] = False,
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
    """Train one adapter per speaker; enable it only where the speaker's own dev sentences say that it helps.

    --json: {"speakers": [{"speaker", "adapter", "enabled", "base": {…}, "pooled": {…}, "own": {…}, "test": {…}}], …}
    """
    destination.check(out)
    from asrpeft.cli.training_progress import reporting
    from asrpeft.jobs.speakers import speakers as run
    from asrpeft.training import TrainingOptions

    say = teller(quiet=quiet, as_json=json)
    given = TrainingOptions(epochs=epochs, steps=steps, minutes=minutes, lr=lr, head_lr=head_lr, loss=loss, batch_seconds=batch_seconds, precision=precision,
                            augment=augment, context=context, patience=patience, seed=seed,
                            nonspeech_share=nonspeech_share, checkpoint_s=60 * checkpoint_minutes, workers=workers)  # fmt: skip
    corpus = o.read_corpus(data, columns=columns, strict=strict, weights=True, quiet=quiet)
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    with reporting(quiet=quiet, say=say) as progress:
        found = run(recognizer, corpus, out=out, options=given, by=by, method=method, where=where, settings=o.pairs("--set", settings), lang=lang, task=task,
                    split=split, pooled=pooled, from_pooled=from_pooled, init_adapter=init_adapter, resume=resume, overwrite=overwrite,
                    decoding=o.search(beams, ctc_weight), overlap="tell" if allow_overlap else "refuse", record=not no_record,
                    progress=progress)  # fmt: skip
    if json:
        print_json(found.to_json())
        return
    show(found)
    say(f"Adapters and speakers.json are in {out}.")
