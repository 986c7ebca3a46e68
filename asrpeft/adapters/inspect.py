"""What an adapter folder holds: the numbers that `asrpeft adapter inspect` prints.

Without a base: the manifest, and parameters by site from the file. With the base it was trained on: also how far each
weight moves, ‖W' − W‖ / ‖W‖ in the Frobenius norm, and what the method itself reports (the sparsity of S2-LoRA).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asrpeft.adapters.adapter import TENSORS, Adapter, read
from asrpeft.adapters.digest import difference
from asrpeft.adapters.fingerprint import same
from asrpeft.report import Document, Picture, Result, Table
from asrpeft.report.values import Row, plain
from asrpeft.report.words import count, per_cent, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from asrpeft.adapters.container import Adapters


BY_LAYER = "_by_layer"  # how the entries of a method's report end that have a number for each layer
_DIGESTS = {
    "agrees": "agrees: the tensors are those that adapter.json was saved with",
    "absent": "none: saved before there was one, or taken out by hand; unchecked",
}


@dataclass(frozen=True)
class SiteReport:
    """One place of an adapter.

    Attributes:
        parameters: numbers of its own in the file; shared ones are counted in `Inspection.shared_parameters`.
        delta_norm: Frobenius norm of the change of the weight (and bias), or of the virtual tokens; None without a base,
            and for edits of activations, whose size depends on what goes in.
        relative: `delta_norm` over the norm of the frozen weight; None without a base or a weight.
    """

    path: str
    parameters: int
    delta_norm: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Inspection(Result):
    """What is known of an adapter. Sizes are numbers held, `bytes` is the size of its files, `zeros` how many numbers are 0.

    `digest` is "agrees" (the tensors are those that `adapter.json` was saved with), "absent" (saved before there was one, or taken
    out by hand: nothing is known), or "differs: " and what does, with which it cannot be loaded.
    """

    folder: str
    method: str
    config: dict[str, Any]
    where: list[str]
    base_id: str
    fits_base: bool | None  # None where no base was given
    parent: str | None
    language: str | None
    language_slot: str | None
    task: str
    context: str
    parameters: int
    shared_parameters: int
    head_parameters: int
    zeros: int
    bytes: int
    digest: str
    sites: tuple[SiteReport, ...]
    report: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return plain(asdict(self))

    def rows(self) -> list[Row]:
        """One row a place where it acts."""
        return [asdict(one) for one in self.sites]

    def document(self) -> Document:
        zeros = f", {count(self.zeros)} of them zero" if self.zeros else ""
        slot = f" in the slot {self.language_slot}" if self.language_slot else ""
        rows: list[tuple[str, Any]] = [
            ("method", f"{self.method} ({', '.join(f'{k}={v}' for k, v in self.config.items())})"),
            ("where", ", ".join(self.where)),
            ("base", self.base_id),
            ("language", f"{self.language}{slot}"),
            ("audio context", self.context),
            ("parameters", f"{count(self.parameters)}{zeros}; {count(self.shared_parameters)} shared, {count(self.head_parameters)} of a CTC head beside"),
            ("on disk", size(self.bytes)),
            ("digest", _DIGESTS.get(self.digest, self.digest)),
        ]
        rows += [(key.replace("_", " "), value) for key, value in self.report.items() if not isinstance(value, dict)]
        if self.wer("after") is not None:
            rows.append(("WER before → after", f"{per_cent(self.wer('before'))} → {per_cent(self.wer('after'))}"))
        told = self.by_layer()
        sites = [
            (
                one.path,
                count(one.parameters),
                _short(one.delta_norm),
                "" if one.relative is None else per_cent(one.relative, 2),
                *(_short(values.get(one.path)) for values in told.values()),
            )
            for one in self.sites
        ]
        pictures = [Picture(name, f"{name.capitalize()}, layer by layer", partial(self._draw_grid, name)) for name in told]
        if any(one.relative is not None for one in self.sites):
            pictures.append(Picture("layers", "How far each layer moves, in per cent of its frozen weight", self._draw))
        return Document(
            self.folder,
            (
                Table.of(self.folder, ("what", "value"), rows, left=2),
                Table.of("Layers", ("layer", "parameters", "‖ΔW‖", "of ‖W‖", *told), sites).without_empty_columns(),
            ),
            notes=("This adapter was trained on another base than the one given.",) if self.fits_base is False else (),
            pictures=tuple(pictures),
        )

    def _draw(self) -> Figure:
        from asrpeft.report.figures import COLORS, canvas, name_rows

        there = [one for one in self.sites if one.relative is not None]
        figure, axes = canvas(width=7, height=0.8 + 0.2 * len(there))
        axes.barh(range(len(there)), [100 * (one.relative or 0.0) for one in there], color=COLORS[0])
        name_rows(axes, [one.path.replace("layers.", "") for one in there])
        axes.set_ylim(len(there) - 0.4, -0.6)
        axes.set_xlabel("‖ΔW‖ / ‖W‖, %")
        return figure

    def by_layer(self) -> dict[str, dict[str, float]]:
        """What the method tells of each layer, by what it is: `rank` of those with ranks of their own, by path."""
        return {key.removesuffix(BY_LAYER): value for key, value in self.report.items() if key.endswith(BY_LAYER)}

    def _draw_grid(self, name: str) -> Figure:
        """Numbers of layers as a map: depth downward, kind of layer across."""
        from asrpeft.report.figures import grid

        cells = {_place(path): value for path, value in self.by_layer()[name].items()}
        rows, columns = (list(dict.fromkeys(place[i] for place in cells)) for i in (0, 1))
        return grid([[cells.get((row, column)) for column in columns] for row in rows], rows=rows, columns=columns, what=name)

    def wer(self, when: str) -> float | None:
        """The WER that `scores` has of the base ("before") or of the adapter ("after"), a fraction; None where it has none."""
        score = self.scores.get(when)
        value = score.get("wer") if isinstance(score, dict) else None
        return value if isinstance(value, float) and math.isfinite(value) or type(value) is int and abs(value) < 10**9 else None


def _place(path: str) -> tuple[str, str]:
    """(stack and depth, kind of layer) of a layer's path: ("encoder 2", "self_attn.q_proj")."""
    parts = path.split(".")
    if "layers" not in parts:
        return parts[0], ".".join(parts[1:]) or parts[0]
    at = parts.index("layers")
    return f"{parts[at - 1]} {parts[at + 1]}", ".".join(parts[at + 2 :]) or "layer"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def inspect(folder: str | Path, *, adapters: Adapters | None = None) -> Inspection:
    """Look into an adapter folder.

    Args:
        adapters: those of the base it was trained on (`recognizer.adapters`), unmerged; nothing is attached to it.
    Raises: BadAdapter for a folder that cannot be read; WrongBase where the base's shapes are others.
    """
    folder = Path(folder)
    manifest, tensors = read(folder, verify=False)
    wrong = difference(vars(manifest), folder / TENSORS)
    opened = None if adapters is None else adapters.open(folder, force=True)
    counts = _by_site(manifest.sites, tensors)
    sites = tuple(SiteReport(path, counts[path], *_change(path, opened)) for path in manifest.sites)
    return Inspection(
        folder=str(folder),
        method=manifest.method,
        config=manifest.config,
        where=manifest.where,
        base_id=manifest.base_id,
        fits_base=None if adapters is None else same(manifest.base_fingerprint, adapters.fingerprint),
        parent=manifest.parent,
        language=manifest.language,
        language_slot=manifest.language_slot,
        task=manifest.task,
        context=manifest.context,
        parameters=_count(tensors) - _count(tensors, "ctc."),
        shared_parameters=_count(tensors, "shared."),
        head_parameters=_count(tensors, "ctc."),
        zeros=sum(int((tensor == 0).sum()) for tensor in tensors.values()),
        bytes=sum(p.stat().st_size for p in folder.iterdir() if p.is_file()),
        digest=f"differs: it {wrong}" if wrong else "agrees" if manifest.digest else "absent",
        sites=sites,
        report={} if opened is None else opened.method.report(opened.by_path()),
        training=_brief(manifest.training),
        scores=manifest.scores,
    )


def _brief(training: dict[str, Any]) -> dict[str, Any]:
    """The training provenance, with how many digests are on record in place of the digests themselves."""
    record = training.get("record")
    if not isinstance(record, dict):
        return training
    parts = {part: kinds for part, kinds in record.items() if isinstance(kinds, dict)}
    counts = {part: {kind: one.get("count") for kind, one in kinds.items() if isinstance(one, dict)} for part, kinds in parts.items()}
    return training | {"record": counts}


def _count(tensors: dict[str, Tensor], prefix: str = "") -> int:
    return sum(tensor.numel() for name, tensor in tensors.items() if name.startswith(prefix))


def _by_site(paths: list[str], tensors: dict[str, Tensor]) -> dict[str, int]:
    """How many numbers each site has; a tensor belongs to the longest path that begins its name."""
    counts = dict.fromkeys(paths, 0)
    for name, tensor in tensors.items():
        owners = [path for path in paths if name.startswith(f"sites.{path}.")]
        if owners:
            counts[max(owners, key=len)] += tensor.numel()
    return counts


@torch.no_grad()
def _change(path: str, opened: Adapter | None) -> tuple[float | None, float | None]:
    if opened is None:
        return None, None
    layer, piece = opened.layers[path], opened.by_path()[path]
    if piece.mergeable:
        w = layer.matrix.detach().float().cpu()
        b = None if layer.bias is None else layer.bias.detach().float().cpu()
        new_w, new_b = piece.merged(w, b)
        moved = (new_w - w).square().sum() + (0 if b is None or new_b is None else (new_b - b).square().sum())
        return float(moved.sqrt()), float(moved.sqrt() / w.norm().clamp(min=1e-12))
    rows = piece.rows()
    return (float(torch.stack([own.square().sum() for own in rows]).sum().sqrt()) if rows else None), None
