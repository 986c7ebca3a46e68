"""`asrpeft methods [NAME]`: what exists, its equation, its cost on a given base, and where it acts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from asrpeft.cli import options as o
from asrpeft.cli.flags import Given, Uses
from asrpeft.cli.options import Base, Printing
from asrpeft.cli.output import print_json, show
from asrpeft.cli.verb import LOOK, verb
from asrpeft.options.flag import Flag
from asrpeft.report.words import count, per_cent

MODEL = Uses(without=("device", "dtype", "base_precision", "threads"))  # nothing is computed that a device would hasten


@dataclass(frozen=True)
class Listing:
    """Which methods are listed, and on which layers each is counted."""

    PANEL: ClassVar[str] = "What is listed"

    where: Annotated[str | None, Flag("Count the parameters on these layers instead of the method's own choice.")] = None
    family: Annotated[str | None, Flag("Only those of a family: weight, map, activation, tokens.")] = None
    tier: Annotated[int | None, Flag("Only those of a tier: 1 what the field compares with, 2 in wide use, 3 little tried in speech.")] = None
    fits: Annotated[
        str | None, Flag("Only those that can act on a part of the base (conv, enc-attention, cross, norm, …) or a kind of layer (linear, conv1d, …).")
    ] = None
    search: Annotated[str | None, Flag("Only those in whose name, equation or description all of these words stand.")] = None


@verb("methods", panel=LOOK)
def methods(
    base: Annotated[Given[Base], MODEL],
    printing: Given[Printing],
    listing: Given[Listing],
    name: Annotated[str | None, typer.Argument(help="Describe this method in full.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the list into a file, by its ending: .html, .md, .json, .csv; .svg or .png draws where each method acts."),
    ] = None,
) -> None:
    """List the adaptation methods by family and tier: their equations, what each trains on the base, and where it acts.

    --json: {"base", "total_parameters", "places", "methods": [{"name", "title", "family", "tier", "equation", "paper", "mergeable",
    "layers", "where", "settings", "parameters", "acts_on", "can_act_on"}]}
    """
    from asrpeft.jobs.catalog import catalog

    shown, asked = printing(), listing()
    recognizer = o.load_model(base().model, device="cpu", dtype="float32", threads=None, say=lambda text: None)
    found = catalog(recognizer, only=[name] if name else [], where=asked.where, family=asked.family, tier=asked.tier, fits=asked.fits, search=asked.search)
    say = shown.teller()
    if out is not None:
        say(f"Written: {found.save(out)}")
    if shown.json:
        print_json(found.to_json())
        return
    if name:
        one = found.entries[0]
        say(one.description.text)
        share = (
            ""
            if one.parameters is None
            else f": {count(one.parameters)} parameters of {found.base}'s {count(found.total)} ({per_cent(one.parameters / found.total, 2)})"
        )
        say(
            f"Acts on {', '.join(one.description.kinds)}; by default --where {asked.where or one.description.where}{share}. "
            f"{'Merges into the weights.' if one.description.mergeable else 'Cannot be merged: it is served routed.'}"
        )
    show(found)
    if not name:
        say("asrpeft methods NAME describes one in full; --search, --family, --tier and --fits narrow the list; --out methods.svg draws it.")
