"""`asrpeft methods [NAME]`: what exists, its equation, its cost on a given base."""

from __future__ import annotations

from typing import Annotated

import typer

from asrpeft.cli import options as o
from asrpeft.cli.output import console, count, per_cent, print_json, table, teller


def add_to(app: typer.Typer) -> None:
    app.command("methods")(methods)


def methods(
    name: Annotated[str | None, typer.Argument(help="Describe this method in full.")] = None,
    model: o.Model = None,
    where: Annotated[str | None, typer.Option("--where", help="Count the parameters on these layers instead of the method's own choice.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List the adaptation methods with their equations and what each trains on the base."""
    from asrpeft.adapters.adapter import plan_sites
    from asrpeft.errors import CannotAttach
    from asrpeft.methods import configure, describe, method, names

    recognizer = o.load_model(model, device="cpu", dtype="float32", threads=None, say=lambda text: None)
    layers = list(recognizer.adapters.layers.values())
    total = sum(p.numel() for p in recognizer.base.parameters())
    found = []
    for each in [name] if name else names():
        cls, description = method(each), describe(each)
        config = configure(cls, {})
        try:
            sites = [layer for layer in plan_sites(layers, each, where)[1] if cls.fits(layer, config)]
            trained = sum(cls.size(config, layer) for layer in sites) + cls.shared_size(config, sites)
        except CannotAttach:
            if name:
                raise
            trained = None
        found.append((description, trained))
    if json:
        keys = [{"name": t.name, "title": t.title, "equation": t.equation, "paper": t.paper, "mergeable": t.mergeable, "layers": list(t.kinds),
                 "where": t.where, "settings": t.settings, "parameters": n} for t, n in found]  # fmt: skip
        print_json({"base": recognizer.info.id, "total_parameters": total, "methods": keys})
        return
    out, say = console(), teller(quiet=quiet, as_json=False)
    if name:
        description, trained = found[0]
        say(description.text)
        out.print(table("Settings (--set NAME=VALUE)", ["setting", "default"], [(k, v) for k, v in description.settings.items()] or [("none", "")]))
        say(f"Acts on {', '.join(description.kinds)}; by default --where {where or description.where}: {count(trained)} parameters of {recognizer.info.id}'s {count(total)} "
            f"({per_cent(trained / total, 2)}). {'Merges into the weights.' if description.mergeable else 'Cannot be merged: it is served routed.'}")  # fmt: skip
        return
    rows = [
        (t.name, t.equation, t.where, "yes" if t.mergeable else "no", "–" if n is None else count(n), "–" if n is None else per_cent(n / total, 2))
        for t, n in found
    ]
    out.print(
        table(
            f"Methods, and what they train on {recognizer.info.id} ({count(total)} parameters)",
            ["method", "equation", "where", "merges", "trained", "share"],
            rows,
            left=4,
        )
    )
    say("asrpeft methods NAME describes one in full.")
