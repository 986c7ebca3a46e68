"""The catalog of methods: which there are, of which family, what each trains on a given base, and where it acts there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asrpeft.adapters.adapter import plan_sites
from asrpeft.errors import BadInput, CannotAttach
from asrpeft.methods import Description, configure, describe, method, names
from asrpeft.methods.layers import Layer
from asrpeft.recognizer import Recognizer
from asrpeft.report import Document, Picture, Result, Table
from asrpeft.report.values import Row
from asrpeft.report.words import UNKNOWN, count, listed, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGE = "asrpeft.methods."
DEFAULT, POSSIBLE, NOWHERE = "●", "○", "·"
LEGEND = f"{DEFAULT} acts there by default, {POSSIBLE} where --where asks for it."
# The parts of a Whisper, in the order in which sound passes through it; the words are those of `where`, in each half of it.
PLACES = ("conv", "enc-input", "enc-attention", "enc-ff", "dec-input", "embedding", "dec-attention", "cross", "dec-ff", "norm", "block", "stack")
_OF_PATH = (
    ("encoder.layers", "self_attn", "enc-attention"),
    ("encoder.layers", "f", "enc-ff"),
    ("decoder.layers", "encoder_attn", "cross"),
    ("decoder.layers", "self_attn", "dec-attention"),
    ("decoder.layers", "f", "dec-ff"),
)
_OF_KIND = {"conv1d": "conv", "embedding": "embedding", "norm": "norm", "decoder": "dec-input", "encoder": "enc-input", "block": "block", "stack": "stack"}


def place_of(layer: Layer) -> str:
    """The part of a Whisper that a layer belongs to, one of `PLACES`: "cross", "conv"; its kind where it is of another."""
    if layer.kind in _OF_KIND:
        return _OF_KIND[layer.kind]
    for side, part, place in _OF_PATH:
        if layer.path.startswith(side) and f".{part}" in layer.path:
            return place
    return layer.kind


@dataclass(frozen=True)
class Entry:
    """One method on a base.

    Attributes:
        family: the folder of its file: "weight", "map", "activation", "tokens"; "other" for one registered from elsewhere.
        tier: 1 what the field compares with, 2 in wide use, 3 promising and little tried in speech; None: nobody said.
        parameters: what it trains by default (or at the `where` that was asked); None where it does not act there.
        places: by part of the base, True where it acts there by default, False where it can.
    """

    description: Description
    family: str
    tier: int | None
    parameters: int | None
    places: Mapping[str, bool]

    def to_json(self) -> dict[str, Any]:
        own = self.description
        return {
            "name": own.name,
            "title": own.title,
            "family": self.family,
            "tier": self.tier,
            "equation": own.equation,
            "paper": own.paper,
            "mergeable": own.mergeable,
            "layers": list(own.kinds),
            "where": own.where,
            "settings": own.settings,
            "parameters": self.parameters,
            "acts_on": [place for place, default in self.places.items() if default],
            "can_act_on": [place for place, default in self.places.items() if not default],
        }


@dataclass(frozen=True)
class Catalog(Result):
    """Methods on a base of `total` parameters. `places`: the parts of the base, in the order of its layers."""

    base: str
    total: int
    entries: tuple[Entry, ...]
    places: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft methods --json` prints."""
        return {"base": self.base, "total_parameters": self.total, "places": list(self.places), "methods": [one.to_json() for one in self.entries]}

    def rows(self) -> list[Row]:
        """One row a method; of its places "default", "possible" or nothing."""
        keys = ("name", "family", "tier", "equation", "paper", "mergeable", "where", "parameters")
        said = {True: "default", False: "possible", None: None}
        return [{key: one.to_json()[key] for key in keys} | {place: said[one.places.get(place)] for place in self.places} for one in self.entries]

    def document(self) -> Document:
        families = list(dict.fromkeys(one.family for one in self.entries))
        tables = [self._table(family) for family in families]
        if len(self.entries) == 1:
            tables.append(_settings(self.entries[0]))
        return Document(
            f"{len(self.entries)} methods, and what they train on {self.base} ({count(self.total)} parameters)",
            (*tables, self._where()),
            pictures=(Picture("where", f"Where each method acts: filled by default, hollow where it is asked to ({self.base})", self._draw),),
        )

    def _table(self, family: str) -> Table:
        rows = [
            (
                one.description.name,
                UNKNOWN if one.tier is None else one.tier,
                _formula(one.description),
                one.description.where,
                "yes" if one.description.mergeable else "no",
                UNKNOWN if one.parameters is None else count(one.parameters),
                UNKNOWN if one.parameters is None else percent(one.parameters / self.total),
            )
            for one in self.entries
            if one.family == family
        ]
        head = ("method", "tier", "equation", "where", "merges", f"trained of {count(self.total)}", "%")
        return Table.of(f"{family}: {about(family)}", head, rows, left=5)

    def _where(self) -> Table:
        marks = {True: DEFAULT, False: POSSIBLE, None: NOWHERE}
        rows = [(one.description.name, *(marks[one.places.get(place)] for place in self.places)) for one in self.entries]
        return Table.of("Where each acts", ("method", *self.places), rows, left=1, below=LEGEND)

    def _draw(self) -> Figure:
        """A method a row, a part of the base a column: filled where it acts by default, hollow where it can."""
        from asrpeft.report.figures import COLORS, canvas, name_rows

        families = list(dict.fromkeys(one.family for one in self.entries))
        figure, axes = canvas(width=2.4 + 0.42 * len(self.places), height=1.6 + 0.2 * len(self.entries))
        for row, one in enumerate(self.entries):
            color = COLORS[families.index(one.family) % len(COLORS)]
            for place, default in one.places.items():
                axes.plot(self.places.index(place), row, marker="o", color=color, markersize=6, fillstyle="full" if default else "none", linestyle="none")
        name_rows(axes, [one.description.name for one in self.entries])
        axes.set_xticks(range(len(self.places)), self.places, rotation=55, ha="right", fontsize=8)
        axes.set(xlim=(-0.6, len(self.places) - 0.4), ylim=(len(self.entries) - 0.4, -0.6))
        axes.grid(True, axis="y", color="#eee", linewidth=0.6)
        for number, family in enumerate(families):
            axes.plot([], [], marker="o", linestyle="none", color=COLORS[number % len(COLORS)], label=family)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(families))
        return figure


def _settings(one: Entry) -> Table:
    return Table.of("Settings (--set NAME=VALUE)", ("setting", "default"), list(one.description.settings.items()) or [("none", "")], left=2)


def _formula(description: Description) -> str:
    """The equation without the shapes behind it."""
    return description.equation.partition("      ")[0]


def family_of(name: str) -> str:
    """The folder below `asrpeft.methods` in which a method is written."""
    module = method(name).__module__
    rest = module.removeprefix(_PACKAGE).split(".")
    return rest[0] if module.startswith(_PACKAGE) and len(rest) > 1 else "other"


def about(family: str) -> str:
    """What its methods have in common: the first line of its folder's docstring."""
    if family == "other":
        return "registered from elsewhere"
    written = import_module(_PACKAGE + family).__doc__ or ""
    return written.strip().splitlines()[0].rstrip(".").partition(": ")[2] or written.strip()


def catalog(
    recognizer: Recognizer,
    *,
    only: Sequence[str] = (),
    where: str | None = None,
    family: str | None = None,
    tier: int | None = None,
    fits: str | None = None,
    search: str | None = None,
) -> Catalog:
    """The methods, by family and tier, with what each trains on the base and where it acts.

    Args:
        only: these alone, by name. Default: all.
        where: count the parameters on these layers in place of the method's own choice.
        family, tier: only those of one folder ("weight"), of one tier (1).
        fits: only those that can act on a part of the base ("cross", "conv") or a kind of layer ("conv1d").
        search: only those in whose name, title, equation or description all of these words stand, in any case.
    Raises: BadInput where nothing is left, saying what there is; CannotAttach for a single method that cannot act at `where`.
    """
    layers = list(recognizer.adapters.layers.values())
    there = {place_of(layer) for layer in layers}
    places = (*(place for place in PLACES if place in there), *sorted(there - set(PLACES)))
    known: dict[str, tuple[Any, list[Any]]] = {
        "--family": (family, sorted({family_of(name) for name in names()})),
        "--tier": (tier, [1, 2, 3]),
        "--fits": (fits, [*places, *sorted({layer.kind for layer in layers})]),
    }
    for flag, (asked, choices) in known.items():
        if asked is not None and asked not in choices:
            raise BadInput(f"{flag} {asked}: choose {listed([str(one) for one in dict.fromkeys(choices)], 'or')}.")
    found = [_entry(name, layers, where, strict=len(only) == 1) for name in only or names()]
    found = [one for one in found if family in (None, one.family) and tier in (None, one.tier) and _fits(one, fits) and _holds(one, search)]
    if not found:
        asked_for = [f"{flag} {asked}" for flag, (asked, _) in known.items() if asked is not None] + ([f"--search {search!r}"] if search is not None else [])
        raise BadInput(f"No method is left by {listed(asked_for)}. Ask for less; `asrpeft methods` lists all {len(names())}.")
    found.sort(key=lambda one: (one.family, one.tier or 9, one.description.name))
    return Catalog(recognizer.info.id, sum(p.numel() for p in recognizer.base.parameters()), tuple(found), places)


def _entry(name: str, layers: Sequence[Layer], where: str | None, *, strict: bool) -> Entry:
    cls = method(name)
    config = configure(cls, {})
    able = [layer for layer in layers if layer.kind in cls.kinds and cls.fits(layer, config)]
    try:
        sites = [layer for layer in plan_sites(layers, name, where)[1] if cls.fits(layer, config)]
        parameters = sum(cls.size(config, layer) for layer in sites) + cls.shared_size(config, sites)
    except CannotAttach:
        if strict:
            raise
        sites, parameters = [], None
    taken = {place_of(layer) for layer in sites}
    places = {place: place in taken for place in dict.fromkeys(map(place_of, able))}
    return Entry(describe(name), family_of(name), cls.tier, parameters, places)


def _fits(one: Entry, fits: str | None) -> bool:
    return fits is None or fits in one.places or fits in one.description.kinds


def _holds(one: Entry, search: str | None) -> bool:
    text = " ".join([one.description.name, one.family, one.description.where, one.description.text]).casefold()
    return all(word in text for word in (search or "").casefold().split())
