"""`asrpeft adapter inspect|merge|export|import`: look into an adapter, fold it into a checkpoint, exchange it with `peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrpeft.cli import options as o
from asrpeft.cli.output import print_json, show, teller

Folder = Annotated[Path, typer.Argument(help="An adapter folder.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def add_to(app: typer.Typer) -> None:
    verbs = typer.Typer(help="Look into an adapter, fold it into a checkpoint, exchange it with Hugging Face peft.", no_args_is_help=True)
    verbs.command("inspect")(inspect)
    verbs.command("merge")(merge)
    verbs.command("export")(export)
    verbs.command("import")(import_)
    app.add_typer(verbs, name="adapter")


def inspect(
    folder: Folder,
    model: Annotated[str | None, typer.Option("--model", help="Its base: shows how far each layer moves, and what the method reports.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """What an adapter is: method, layers, base, sizes, training, scores.

    --json: one object with these keys and, per site, {"path", "parameters", "delta_norm", "relative"}; "digest": "agrees" where the
    tensors are those that adapter.json was saved with, "absent" where it has none, "differs: …" where it cannot be loaded.
    """
    from asrpeft.adapters.inspect import inspect as inspect_adapter

    say = teller(quiet=quiet, as_json=json)
    recognizer = None if model is None else o.load_model(model, device="cpu", dtype="float32", threads=None, say=say)
    found = inspect_adapter(folder, adapters=None if recognizer is None else recognizer.adapters)
    print_json(found.to_json()) if json else show(found)


def merge(folder: Folder, out: Out, model: o.Model = None, dtype: o.Dtype = "float32", force: o.Force = False, overwrite: Overwrite = False,
          json: o.Json = False, quiet: o.Quiet = False) -> None:  # fmt: skip
    """Fold an adapter into its base: an ordinary Whisper checkpoint that plain transformers loads.

    --json: {"checkpoint"}
    """
    from asrpeft.adapters.export import export_merged

    say = teller(quiet=quiet, as_json=json)
    recognizer = o.load_model(model, device="cpu", dtype=dtype, threads=None, say=say)
    name = o.attach(recognizer, [str(folder)], force=force)[0]
    written = export_merged(recognizer, name, out, overwrite=overwrite)
    print_json({"checkpoint": str(written)}) if json else say(f"A merged checkpoint is in {written}.")


def export(
    folder: Folder, out: Out, model: o.Model = None, force: o.Force = False, overwrite: Overwrite = False, json: o.Json = False, quiet: o.Quiet = False
) -> None:
    """Write an adapter as a Hugging Face peft folder (lora, loha, ia3).

    What peft has no place for (language, task, audio context, CTC head, scores) goes into files of asrpeft's own beside
    peft's, which peft ignores and `asrpeft adapter import` reads.

    --json: {"peft"}
    """
    from asrpeft.adapters.peft_format import write_peft

    say = teller(quiet=quiet, as_json=json)
    recognizer = o.load_model(model, device="cpu", dtype="float32", threads=None, say=say)
    name = o.attach(recognizer, [str(folder)], force=force)[0]
    written = write_peft(recognizer.adapters[name], out, overwrite=overwrite)
    print_json({"peft": str(written)}) if json else say(f"A peft folder is in {written}.")


def import_(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face peft folder: adapter_config.json and adapter_model.safetensors.")],
    out: Out,
    model: o.Model = None,
    lang: o.Lang = None,
    task: Annotated[
        str | None, typer.Option("--task", help="transcribe or translate. Default: what the folder carries from `adapter export`, else transcribe.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option("--context", help="The audio context it was trained on, full or auto. Default: what the folder carries from `adapter export`, else full."),
    ] = None,
    force: o.Force = False,
    overwrite: Overwrite = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Turn a Hugging Face peft folder (lora, loha, ia3) into an adapter folder.

    One that `asrpeft adapter export` wrote brings back its language, task, audio context, CTC head, training and scores.

    --json: {"adapter"}
    """
    from asrpeft.adapters.peft_format import read_peft
    from asrpeft.recognizer.languages import canonical

    say = teller(quiet=quiet, as_json=json)
    recognizer = o.load_model(model, device="cpu", dtype="float32", threads=None, say=say)
    adapter = read_peft(recognizer.adapters, folder, force=force, language=None if lang is None else canonical(lang), task=task, context=context)
    written = adapter.save(out, overwrite=overwrite)
    print_json({"adapter": str(written)}) if json else say(f"The adapter is in {written}.")
