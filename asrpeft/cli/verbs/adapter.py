"""`asrpeft adapter inspect|merge|export|import|push|pull`: look into an adapter, fold it into a checkpoint, exchange it with `peft`, share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrpeft.cli import options as o
from asrpeft.cli.flags import Given, Uses
from asrpeft.cli.options import Base, Printing
from asrpeft.cli.output import print_json, show
from asrpeft.cli.verb import LOOK, kind, verb
from asrpeft.cli.verbs.methods import MODEL
from asrpeft.errors import BadInput
from asrpeft.options.flag import Flag

if TYPE_CHECKING:
    from asrpeft.recognizer import Recognizer


Folder = Annotated[Path, typer.Argument(help="An adapter folder.")]
Summed = Annotated[str, typer.Argument(help='An adapter folder, or a sum of folders: "adapters/sw + 0.5*adapters/anna".')]


@dataclass(frozen=True)
class Written:
    """Where an adapter is written as something else."""

    out: Annotated[Path, Flag("The folder to write.")]
    overwrite: Annotated[bool, Flag("Replace what is there.")] = False
    force: Annotated[bool, Flag("Use an adapter on another base than its own, if the shapes fit.")] = False


@dataclass(frozen=True)
class Shared:
    """How an adapter is put on the hub."""

    private: Annotated[bool, Flag("A repository that is made is private. Default: as its owner's settings say.")] = False
    message: Annotated[str | None, Flag("What the commit says.")] = None


@dataclass(frozen=True)
class Fetched:
    """Where an adapter of the hub comes to lie."""

    out: Annotated[Path, Flag("The folder to write.")]
    overwrite: Annotated[bool, Flag("Replace what is there.")] = False
    revision: Annotated[str | None, Flag("A branch, tag or commit of the repository. Default: what is newest.")] = None


@dataclass(frozen=True)
class Imported:
    """What a folder of peft's does not say."""

    lang: Annotated[str | None, Flag("The language it was trained for: a code (sw) or a name (swahili). Default: what the folder carries.")] = None
    task: Annotated[str | None, Flag("transcribe or translate. Default: what the folder carries from `adapter export`, else transcribe.")] = None
    context: Annotated[
        str | None, Flag("The audio context it was trained on, full or auto. Default: what the folder carries from `adapter export`, else full.")
    ] = None


kind("adapter", "Look into an adapter, fold it into a checkpoint, exchange it with Hugging Face peft, put it on the hub.", panel=LOOK)


@dataclass(frozen=True)
class Looking:
    """What to look for, and where to write what is found."""

    intruders: Annotated[
        bool, Flag("Count singular vectors of the adapted weights that are like none of the base's: they go with forgetting. Takes --model.")
    ] = False
    out: Annotated[
        Path | None,
        Flag("Write it into a file, by its ending: .html, .md, .json, .csv; .svg or .png draws its layers' ranks, or how far each moves (with --model)."),
    ] = None


@verb("adapter inspect")
def inspect(
    folder: Folder,
    base: Annotated[Given[Base], Uses(MODEL.without, help={"model": "Its base: shows how far each layer moves, and what the method reports."})],
    looking: Given[Looking],
    printing: Given[Printing],
) -> None:
    """What an adapter is: method, layers, base, sizes, training, scores. --intruders tells where its weights have directions that the base's do
    not (with --model; "intruders": {"count", "of", "layers"}).

    --json: one object with these keys and, per site, {"path", "parameters", "delta_norm", "relative"}; "digest": "agrees" where the
    tensors are those that adapter.json was saved with, "absent" where it has none, "differs: …" where it cannot be loaded.
    """
    from asrpeft.adapters.inspect import inspect as inspect_adapter

    shown, model, asked = printing(), base().model, looking()
    say = shown.teller()
    recognizer = None if model is None else o.load_model(model, device="cpu", dtype="float32", threads=None, say=say)
    found = inspect_adapter(folder, adapters=None if recognizer is None else recognizer.adapters)
    foreign = _intruders(recognizer, folder) if asked.intruders else None
    if asked.out is not None:
        say(f"Written: {found.save(asked.out)}")
    if shown.json:
        print_json(found.to_json() | ({} if foreign is None else {"intruders": foreign}))
        return
    show(found)
    if foreign is not None:
        say(f"Intruder dimensions: {foreign['count']} of {foreign['of']} directions looked at.")
        for one in foreign["layers"]:
            if one["count"]:
                say(f"  {one['path']}: {one['count']}, the strangest alike to {one['least']:.2f}")


def _intruders(recognizer: Recognizer | None, folder: Path) -> dict[str, Any]:
    """The intruder dimensions of an adapter.

    Raises: BadInput without a base to hold the adapter against.
    """
    from asrpeft.adapters.intruders import intruders

    if recognizer is None:
        raise BadInput("--intruders holds the adapted weights against the base's: name the base with --model.")
    layers = [vars(one) for one in intruders(recognizer.adapters.open(folder, force=True))]
    return {"count": sum(one["count"] for one in layers), "of": sum(one["top"] for one in layers), "layers": layers}


@dataclass(frozen=True)
class MergedFor:
    """The row that an adapter is merged for, where it is told something of each."""

    condition: Annotated[dict[str, str] | None, o.CONDITION] = None


@verb("adapter merge")
def merge(
    folder: Summed,
    written: Given[Written],
    row: Given[MergedFor],
    base: Annotated[Given[Base], Uses(("device", "threads", "base_precision"))],
    printing: Given[Printing],
) -> None:
    """Fold an adapter, or a sum of adapters, into its base: an ordinary Whisper checkpoint that plain transformers loads. One that is told
    something of each row is folded in for one of them: --condition speaker=anna.

    --json: {"checkpoint"}
    """
    from asrpeft.adapters.export import export_merged

    asked, shown, of = written(), printing(), base()
    say = shown.teller()
    recognizer = o.load_model(of.model, device="cpu", dtype=of.dtype, threads=None, say=say)
    name = o.knowing(recognizer, o.attach(recognizer, [folder], force=asked.force)[0], row().condition, alone=False)
    place = export_merged(recognizer, name, asked.out, overwrite=asked.overwrite)
    print_json({"checkpoint": str(place)}) if shown.json else say(f"A merged checkpoint is in {place}.")


@verb("adapter export")
def export(folder: Folder, written: Given[Written], base: Annotated[Given[Base], MODEL], printing: Given[Printing]) -> None:
    """Write an adapter as a Hugging Face peft folder (lora, loha, ia3).

    What peft has no place for (language, task, audio context, CTC head, scores) goes into files of asrpeft's own beside
    peft's, which peft ignores and `asrpeft adapter import` reads.

    --json: {"peft"}
    """
    from asrpeft.adapters.peft_format import write_peft

    asked, shown = written(), printing()
    say = shown.teller()
    recognizer = o.load_model(base().model, device="cpu", dtype="float32", threads=None, say=say)
    name = o.attach(recognizer, [str(folder)], force=asked.force)[0]
    place = write_peft(recognizer.adapters[name], asked.out, overwrite=asked.overwrite)
    print_json({"peft": str(place)}) if shown.json else say(f"A peft folder is in {place}.")


@verb("adapter import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face peft folder: adapter_config.json and adapter_model.safetensors.")],
    written: Given[Written],
    imported: Given[Imported],
    base: Annotated[Given[Base], MODEL],
    printing: Given[Printing],
) -> None:
    """Turn a Hugging Face peft folder (lora, loha, ia3) into an adapter folder.

    One that `asrpeft adapter export` wrote brings back its language, task, audio context, CTC head, training and scores.

    --json: {"adapter"}
    """
    from asrpeft.adapters.peft_format import read_peft
    from asrpeft.recognizer.languages import canonical

    asked, told, shown = written(), imported(), printing()
    say = shown.teller()
    recognizer = o.load_model(base().model, device="cpu", dtype="float32", threads=None, say=say)
    language = None if told.lang is None else canonical(told.lang)
    adapter = read_peft(recognizer.adapters, folder, force=asked.force, language=language, task=told.task, context=told.context)
    place = adapter.save(asked.out, overwrite=asked.overwrite)
    print_json({"adapter": str(place)}) if shown.json else say(f"The adapter is in {place}.")


@verb("adapter push")
def push(
    folder: Folder,
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face hub; made if there is none.")],
    shared: Given[Shared],
    printing: Given[Printing],
) -> None:
    """Put an adapter on the Hugging Face hub: its two files and, where the repository has no README, a card that says what it is.

    All goes up in one commit. The token is that of `hf auth login`, or HF_TOKEN.

    --json: {"pushed"}
    """
    from asrpeft.adapters.hub import push as push_adapter

    asked, shown = shared(), printing()
    address = push_adapter(folder, repository, private=asked.private or None, message=asked.message)
    print_json({"pushed": address}) if shown.json else shown.teller()(f"The adapter is at {address}.")


@verb("adapter pull")
def pull(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face hub.")],
    fetched: Given[Fetched],
    printing: Given[Printing],
) -> None:
    """Bring an adapter of the Hugging Face hub into a folder, checked as any adapter is that is loaded.

    --json: {"adapter"}
    """
    from asrpeft.adapters.hub import pull as pull_adapter

    asked, shown = fetched(), printing()
    place = pull_adapter(repository, asked.out, revision=asked.revision, overwrite=asked.overwrite)
    print_json({"adapter": str(place)}) if shown.json else shown.teller()(f"The adapter is in {place}.")
