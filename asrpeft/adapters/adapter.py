"""An adapter as a thing: the trained parameters of one method on one base, with a manifest that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asrpeft.adapters.fingerprint import same, same_shape
from asrpeft.adapters.where import select, split
from asrpeft.errors import BadAdapter, BadInput, CannotAttach, WrongBase
from asrpeft.files import replace_folder
from asrpeft.methods import LayerAdapter, Plan, Pool, configure, method
from asrpeft.methods.layers import Layer
from asrpeft.methods.tokens.language import LanguageVector

FORMAT = 1
TENSORS, MANIFEST = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class Manifest:
    """What `adapter.json` says. Times in seconds; `context` is the audio context the adapter was trained for."""

    method: str
    config: dict[str, Any]
    where: list[str]
    base_id: str
    base_fingerprint: str
    sites: list[str] = field(default_factory=list)  # the layers `where` chose, so that a file cannot change its meaning
    format: int = FORMAT
    parent: str | None = None
    language: str | None = None  # a Whisper code, or any name where `language_slot` holds a learned vector
    language_slot: str | None = None  # the token whose place the learned vector takes: `<|yo|>`
    task: str = "transcribe"
    context: str = "full"
    ctc_vocabulary: list[str] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises: BadAdapter for a folder without a manifest, a broken one, or one of a newer format."""
        path = folder / MANIFEST
        if not path.is_file():
            raise BadAdapter(f"{str(folder)!r} has no {MANIFEST}, so it is not an adapter folder. "
                             f"For a Hugging Face peft folder use `asrpeft adapter import`.")  # fmt: skip
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise BadAdapter(f"{str(path)!r} cannot be read as JSON: {error}.") from None
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise BadAdapter(f"{str(path)!r} has no format version.")
        if found["format"] > FORMAT:
            raise BadAdapter(f"{str(path)!r} has format {found['format']}; this version reads up to {FORMAT}. Upgrade asrpeft.")
        known = {f.name for f in fields(cls)}
        try:
            manifest = cls(**{key: value for key, value in found.items() if key in known})
        except TypeError as error:
            raise BadAdapter(f"{str(path)!r} is incomplete: {error}.") from None
        wrong = [n for n, kind in (("method", str), ("config", dict), ("where", list), ("sites", list), ("base_fingerprint", str)) if not isinstance(getattr(manifest, n), kind)]
        if wrong or manifest.base_fingerprint.count(":") != 1:
            raise BadAdapter(f"{str(path)!r} has an unusable {', '.join(wrong) or 'base_fingerprint'}.")
        return manifest


class Adapter(nn.Module):
    """The trained parameters of one adapter: a piece for each site, what they share, and a CTC head where one was trained.

    Attributes:
        name: by which routes call it.
        manifest: what is known about it.
        pieces: one `LayerAdapter` a site, by path with `/` for `.`.
        pool: the tensors its pieces share.
        ctc: a CTC head of its own, or None.
    """

    def __init__(self, name: str, manifest: Manifest, layers: Sequence[Layer]):
        super().__init__()
        self.name, self.manifest = name, manifest
        cls = method(manifest.method)
        config = configure(cls, manifest.config)
        self.layers = {layer.path: layer for layer in layers if cls.fits(layer, config)}
        if not self.layers:
            raise CannotAttach(f"{cls.name} has nothing to train at {', '.join(layer.path for layer in layers[:4])}.")
        self.pool = Pool()
        self.pieces = nn.ModuleDict({path.replace(".", "/"): cls(layer, config, self.pool) for path, layer in self.layers.items()})
        self.language: LanguageVector | None = None
        self.ctc: nn.Module | None = None

    @property
    def method(self) -> type[LayerAdapter]:
        return method(self.manifest.method)

    @property
    def config(self) -> Any:
        return next(iter(self.pieces.values())).config

    def by_path(self) -> dict[str, LayerAdapter]:
        return {key.replace("/", "."): piece for key, piece in self.pieces.items()}

    def pieces_of(self, name: str) -> list[LayerAdapter]:
        """The pieces of one method: what that method's plan works on."""
        return [piece for piece in self.pieces.values() if piece.name == name]

    def plan(self) -> Plan | None:
        return self.method.plan(self.config)

    def placed(self) -> list[tuple[Layer, LayerAdapter]]:
        """Every piece with the layer it acts on, in the order in which they act."""
        found = [(self.layers[path], piece) for path, piece in self.by_path().items()]
        return found + ([(self._language_layer, self.language)] if self.language is not None else [])

    def give_language_vector(self, layer: Layer, slot: int) -> None:
        """Let the adapter learn its own vector for the language token `slot`."""
        self.language = LanguageVector(layer, LanguageVector.Config(slot=slot), self.pool)
        self._language_layer = layer

    def trained_parameters(self) -> int:
        """How many numbers of the method (and of a language vector) train, shared ones once; a CTC head is counted apart."""
        own = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return own - self.head_parameters()

    def head_parameters(self) -> int:
        return 0 if self.ctc is None else sum(p.numel() for p in self.ctc.parameters() if p.requires_grad)

    def formula_size(self) -> int:
        """The number of trained parameters by the method's formula; the tests hold `trained_parameters` to it."""
        layers = list(self.layers.values())
        own = sum(self.method.size(self.config, layer) for layer in layers) + self.method.shared_size(self.config, layers)
        return own + (self.language.v.numel() if self.language is not None else 0)

    # -- on disk -----------------------------------------------------------------------------------------------------
    def tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """(config to record, tensors to save): `sites.PATH.NAME`, `shared.NAME`, `language.v`, `ctc.NAME`."""
        saved: dict[str, Tensor] = {}
        config = self.config
        for path, piece in self.by_path().items():
            config, own = piece.compact()
            saved |= {f"sites.{path}.{name}": tensor for name, tensor in own.items()}
        saved |= {f"shared.{name}": tensor.detach() for name, tensor in self.pool.tensors.items()}
        if self.language is not None:
            saved["language.v"] = self.language.v.detach()
        if self.ctc is not None:
            saved |= {f"ctc.{name}": tensor.detach() for name, tensor in self.ctc.state_dict().items()}
        return asdict(config), {name: tensor.cpu().contiguous() for name, tensor in saved.items()}

    def save(self, folder: str | Path, *, overwrite: bool = False, **changes: Any) -> Path:
        """Write `adapter.safetensors` and `adapter.json`; the folder appears whole or not at all.

        Args:
            overwrite: replace an adapter that is there already.
            changes: manifest fields to set, such as `scores`.
        Raises: BadInput if the folder holds something else, or an adapter and `overwrite` is false.
        """
        folder = Path(folder)
        config, tensors = self.tensors()
        manifest = asdict(self.manifest) | {"config": config} | changes

        def write(into: Path) -> None:
            save_file(tensors, into / TENSORS, metadata={"format": "pt"})
            (into / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

        return replace_folder(folder, write, overwrite=overwrite, ours={TENSORS, MANIFEST})

    def restore(self, tensors: Mapping[str, Tensor], *, source: str) -> None:
        """Fill the parameters from saved tensors.

        Raises: BadAdapter if any is missing, superfluous or of another shape.
        """
        own = dict(self.tensors()[1])
        missing, extra = own.keys() - tensors.keys(), tensors.keys() - own.keys()
        if missing or extra:
            raise BadAdapter(f"{source} does not hold what its manifest says: missing {sorted(missing)[:3]}, unknown {sorted(extra)[:3]}.")
        wrong = [f"{n} {tuple(tensors[n].shape)} instead of {tuple(t.shape)}" for n, t in own.items() if tensors[n].shape != t.shape]
        if wrong:
            raise BadAdapter(f"{source} has tensors of the wrong shape: {'; '.join(wrong[:3])}.")
        places = {f"sites.{path}.{n}": t for path, piece in self.by_path().items() for n, t in piece.state_dict(keep_vars=True).items()}
        places |= {f"shared.{n}": t for n, t in self.pool.tensors.items()}
        if self.language is not None:
            places["language.v"] = self.language.v
        if self.ctc is not None:
            places |= {f"ctc.{n}": t for n, t in self.ctc.state_dict(keep_vars=True).items()}
        with torch.no_grad():
            for name, place in places.items():
                place.copy_(tensors[name])


def read(folder: str | Path) -> tuple[Manifest, dict[str, Tensor]]:
    """The manifest and tensors of an adapter folder. No pickle is read.

    Raises: BadAdapter if the folder is missing, incomplete or corrupt.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadAdapter(f"There is no adapter folder {str(folder)!r}.")
    manifest = Manifest.read(folder)
    try:
        return manifest, load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise BadAdapter(f"{str(folder / TENSORS)!r} cannot be read: {error}.") from None


def check_base(manifest: Manifest, fingerprint: str, base_id: str, *, force: bool = False) -> None:
    """Raises: WrongBase if an adapter with this manifest was trained on another base; `force` lets equal shapes pass."""
    if same(manifest.base_fingerprint, fingerprint):
        return
    fits = same_shape(manifest.base_fingerprint, fingerprint)
    if force and fits:
        return
    remedy = "Its shapes fit; --force uses it all the same." if fits else "Its shapes do not fit this base."
    raise WrongBase(f"The adapter was trained on {manifest.base_id!r}, and {base_id!r} has other weights. "
                    f"Load it with --model {manifest.base_id}. {remedy}")  # fmt: skip


def plan_sites(layers: Sequence[Layer], name: str, where: str | Sequence[str] | None) -> tuple[list[str], list[Layer]]:
    """(the parts of `where`, the layers that method `name` can act on and `where` chooses)."""
    cls = method(name)
    able = [layer for layer in layers if layer.kind in cls.kinds]
    if not able:
        raise BadInput(f"The base has no layer of a kind that {name} acts on ({', '.join(cls.kinds)}).")
    where = where or cls.where
    return split(where), select(able, where)
