"""Adapter folders of Hugging Face `peft`: `adapter_config.json` and `adapter_model.safetensors`, read and written.

For the methods that both have: LoRA (Linear, Conv1d, Embedding; standard and rank-stabilized scaling), LoHa (Linear, Conv1d
as a flat matrix) and IA3 (Linear). `peft` never changes the output head that is tied to an embedding, so an adapted
embedding corresponds to `head=False` here. https://huggingface.co/docs/peft/developer_guides/checkpoint

`asrpeft_adapter.json` and `asrpeft_ctc.safetensors` beside peft's own files, which peft does not look at, carry what its
format has no place for: language, task, audio context, the base's fingerprint, training, scores, a CTC head. Reading takes
them from there. Once peft has trained the weights further and written them to the same folder, scores and CTC head are no
longer theirs and are left behind.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import regex
import torch
from safetensors.torch import save_file
from torch import Tensor

from asrpeft.adapters.adapter import _CHECKS, Adapter, Manifest, build, check_base, check_head, read_json
from asrpeft.adapters.container import Adapters
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.tensors import not_finite, read_tensors
from asrpeft.errors import BadAdapter, BadInput, Failure
from asrpeft.files import replace_folder
from asrpeft.methods.layers import Conv1dLayer, Layer
from asrpeft.report.values import as_json

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
CARRIED, CARRIED_CTC = "asrpeft_adapter.json", "asrpeft_ctc.safetensors"
CARRIED_FIELDS = ("language", "task", "context", "parent", "base_id", "base_fingerprint", "ctc_vocabulary", "decode_by", "training", "scores")
PREFIX = "base_model.model."
# Settings that change what an adapter computes and have no counterpart here.
UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "layer_replication",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "alora_invocation_tokens",
    "ensure_weight_tying",
)
_PADDED, _SMALL = 16, 10**8  # padding may make that many times the numbers that the file holds, and this many in any case
_LOHA = {"b1": "hada_w1_a", "a1": "hada_w1_b", "b2": "hada_w2_a", "a2": "hada_w2_b"}


# -- writing -----------------------------------------------------------------------------------------------------------
def write_peft(adapter: Adapter, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write an adapter as a `peft` folder, with what `peft` has no place for beside its files.

    Raises: BadInput where `peft` has no counterpart, with what to do instead.
    """
    name = adapter.manifest.method
    if name not in _WRITERS:
        raise BadInput(f"peft's format is written for {', '.join(_WRITERS)}, not for {name}. Export a merged checkpoint instead.")
    if adapter.language is not None:
        raise BadInput(f"{adapter.name!r} has a learned vector for {adapter.manifest.language!r}, which a peft folder cannot hold. Export a merged checkpoint.")
    settings, tensors = _WRITERS[name](adapter)
    config = settings | {
        "base_model_name_or_path": adapter.manifest.base_id,
        "inference_mode": True,
        "task_type": None,
        "target_modules": [_module(path) for path in adapter.layers],
    }
    held = {PREFIX + key: tensor.detach().float().cpu().contiguous() for key, tensor in tensors.items()}
    if bad := not_finite(held):
        raise Failure(f"{adapter.name!r} is not written: it holds values that are not finite numbers ({', '.join(bad[:3])}). Its training diverged.")

    carried = {name: getattr(adapter.manifest, name) for name in CARRIED_FIELDS}
    carried["ctc_vocabulary"] = None if adapter.ctc is None else list(adapter.ctc.vocabulary)

    def write(into: Path) -> None:
        save_file(held, into / TENSORS, metadata={"format": "pt"})
        (into / CONFIG).write_text(as_json(config), encoding="utf-8")
        record = carried | {"of": _digest(into)}
        (into / CARRIED).write_text(as_json(record), encoding="utf-8")
        if adapter.ctc is not None:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in adapter.ctc.state_dict().items()}, into / CARRIED_CTC)

    return replace_folder(Path(folder), write, overwrite=overwrite, ours={TENSORS, CONFIG, "README.md", CARRIED, CARRIED_CTC})


def _digest(folder: Path) -> str:
    """Of peft's own two files: whether what was carried beside them is still of them."""
    return hashlib.sha256(b"".join(hashlib.sha256((folder / name).read_bytes()).digest() for name in (CONFIG, TENSORS))).hexdigest()


def _module(path: str) -> str:
    """Our path of a layer as `transformers` names it."""
    return path if path == "proj_out" else f"model.{path}"


def _write_lora(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A start that is subtracted (PiSSA, OLoRA) is written as more ranks: s(BA − B₀A₀) = s [B, −B₀] [A; A₀]."""
    config = adapter.config
    tensors: dict[str, Tensor] = {}
    started = config.start != "zero"
    rank, alpha = config.rank * (2 if started else 1), config.alpha * ((2**0.5 if config.scale == "rs" else 2) if started else 1)
    for path, piece in adapter.by_path().items():
        layer, key = adapter.layers[path], _module(path)
        a = torch.cat([piece.a, piece.a0]) if started else piece.a
        b = torch.cat([piece.b, -piece.b0], dim=1) if started else piece.b
        if layer.kind == "embedding":
            if getattr(layer, "head", None) is not None and config.head:
                raise BadInput(
                    f"{adapter.name!r} changes {path} and the output head tied to it, which peft does not. "
                    f"Train with head=False, or export a merged checkpoint."
                )
            if type(layer.module) is not torch.nn.Embedding:
                raise BadInput(f"peft cannot run LoRA on {path}, a {type(layer.module).__name__}. Export a merged checkpoint.")
            tensors |= {f"{key}.lora_embedding_A": a, f"{key}.lora_embedding_B": b}
            continue
        if isinstance(layer, Conv1dLayer):
            a, b = a.view(len(a), -1, layer.module.kernel_size[0]), b[:, :, None]
        tensors |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": config.scale == "rs",
        "lora_dropout": config.dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }, tensors


def _write_loha(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    strange = [path for path, layer in adapter.layers.items() if layer.kind not in ("linear", "conv1d")]
    if strange:
        raise BadInput(f"peft has LoHa on linear and convolution layers only, and {adapter.name!r} is on {strange[0]} too. Export a merged checkpoint.")
    tensors = {f"{_module(path)}.{theirs}": getattr(piece, ours) for path, piece in adapter.by_path().items() for ours, theirs in _LOHA.items()}
    return {
        "peft_type": "LOHA",
        "r": adapter.config.rank,
        "alpha": adapter.config.alpha,
        "use_effective_conv2d": False,
        "rank_dropout": 0.0,
        "module_dropout": 0.0,
        "init_weights": True,
    }, tensors


def _write_ia3(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    strange = [path for path, layer in adapter.layers.items() if layer.kind != "linear"]
    if strange:
        raise BadInput(f"peft has IA3 on one-dimensional linear layers only, and {adapter.name!r} is on {strange[0]} too. Export a merged checkpoint.")
    pieces = adapter.by_path()
    tensors = {f"{_module(path)}.ia3_l": piece.l[None] if piece.on_input else piece.l[:, None] for path, piece in pieces.items()}
    inputs = [_module(path) for path, piece in pieces.items() if piece.on_input]
    return {"peft_type": "IA3", "feedforward_modules": inputs, "fan_in_fan_out": False, "init_ia3_weights": True}, tensors


_WRITERS = {"lora": _write_lora, "loha": _write_loha, "ia3": _write_ia3}


# -- reading -----------------------------------------------------------------------------------------------------------
def read_peft(adapters: Adapters, folder: str | Path, *, name: str | None = None, force: bool = False, **manifest: Any) -> Adapter:
    """Read a `peft` folder and attach it (as `name`, or as the folder is called). No pickle is read.

    What `write_peft` carried beside it comes back. `peft` itself keeps no fingerprint of the base, so in folders of other
    makers only names and shapes are checked; the base that its config names is recorded in the manifest's `training`.
    Layers of different ranks or scales are brought to one, exactly: the missing ranks are zeros, and the scale goes into B.

    Args:
        force: let a folder pass that was carried here from another base of the same shapes.
        manifest: further manifest fields that `peft` does not know: `language`, `task`, `context`. They win over what the
            folder carries; None leaves it.
    Raises: BadAdapter for a folder that cannot be read, or uses what this project does not have; WrongBase.
    """
    folder = Path(folder)
    config, tensors = _open(folder)
    kind = _readable_kind(config, folder)
    sites: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        if key.endswith(".base_layer.weight"):
            _check_frozen(key, tensor, adapters, folder)
            continue
        path, part = _split(key, folder)
        sites[path][part] = tensor
    missing = [path for path in sites if path not in adapters.layers]
    if missing:
        raise BadAdapter(f"{str(folder)!r} acts on {missing[0]}, which this base does not have.")
    layers = [layer for path, layer in adapters.layers.items() if path in sites]
    try:
        method, settings, own = _READERS[kind](config, sites, {layer.path: layer for layer in layers})
    except Exception as error:  # whatever comes of a config and tensors that peft would not have written
        kind = "" if type(error) is ValueError else f"{type(error).__name__} "
        raise BadAdapter(f"{str(folder)!r} cannot be used: {kind}{str(error)[:500]}.") from None
    if bad := not_finite(own):
        raise BadAdapter(f"{str(folder)!r} cannot be used: its alpha is so large that {bad[0]} is no finite number.")
    paths, carried = [layer.path for layer in layers], _carried(folder)
    given = {key: value for key, value in manifest.items() if value is not None}
    named = config.get("base_model_name_or_path")
    training = carried.pop("training", {}) | {"imported": "peft", "base_model_name_or_path": named[:500] if isinstance(named, str) else None}
    restored = Manifest(
        method=method,
        config=settings,
        where=paths,
        sites=paths,
        training=training,
        **({"base_id": adapters.base_id, "base_fingerprint": adapters.fingerprint} | carried | given),
    )
    check_base(restored, adapters.fingerprint, adapters.base_id, force=force)
    restored = replace(restored, base_id=adapters.base_id, base_fingerprint=adapters.fingerprint)
    adapter = build(name or folder.resolve().name, restored, layers, own, source=repr(str(folder)))
    if restored.ctc_vocabulary is not None:
        own |= {f"ctc.{part}": tensor for part, tensor in _tensors(folder / CARRIED_CTC).items()}
        check_head(restored, own, adapters.base.config.d_model, source=repr(str(folder)))
        adapter.ctc = CTCHead(adapters.base.config.d_model, restored.ctc_vocabulary)
    adapter.restore(own, source=repr(str(folder)))
    return adapters.attach(adapter)


def _readable_kind(config: Mapping[str, Any], folder: Path) -> str:
    """The `peft_type` of a folder that can be read.

    Raises: BadAdapter for another one, or for settings that have no counterpart here.
    """
    kind = str(config.get("peft_type", "")).upper()
    if kind not in _READERS:
        raise BadAdapter(f"{str(folder)!r} is a peft adapter of type {kind[:40] or 'unknown'}; asrpeft reads {', '.join(_READERS)}.")
    used = [key for key in UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(("pissa", "olora", "corda", "loftq", "lora_ga")):
        used.append(f"init_lora_weights={start} (convert it with peft to a plain LoRA first)")
    if used:
        raise BadAdapter(f"{str(folder)!r} uses what asrpeft has no counterpart for: {', '.join(used)}. Merge it with peft instead.")
    return kind


def _carried(folder: Path) -> dict[str, Any]:
    """The manifest fields that `write_peft` wrote beside peft's own; without scores and CTC head where those have changed since.

    Raises: BadAdapter where the file is there and cannot be used.
    """
    path = folder / CARRIED
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
        found = {name: record[name] for name in CARRIED_FIELDS if name in record}
        wrong = [name for name, value in found.items() if name in _CHECKS and not _CHECKS[name](value)]
        if wrong:
            raise ValueError(f"unusable {', '.join(wrong)}")
        if record.get("of") != _digest(folder):
            found = {name: value for name, value in found.items() if name not in ("scores", "ctc_vocabulary")}
    except (OSError, ValueError, TypeError) as error:
        raise BadAdapter(f"{str(path)!r} cannot be used: {error}. Delete it to read what peft's own files say.") from None
    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = read_tensors(path)
        if not_finite(found):
            raise ValueError("it holds values that are not finite numbers")
        return found
    except ValueError as error:
        raise BadAdapter(f"{str(path)!r} cannot be read: {error}. Export the adapter again.") from None


def _open(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not (folder / CONFIG).is_file():
        raise BadAdapter(f"{str(folder)!r} has no {CONFIG}, so it is not a peft folder.")
    if not (folder / TENSORS).is_file() and (folder / PICKLE).is_file():
        raise BadAdapter(f"{str(folder)!r} holds {PICKLE}, a pickle, which is never read. Save it again with peft's safe_serialization=True.")
    try:
        config, tensors = read_json(folder / CONFIG), read_tensors(folder / TENSORS)
    except ValueError as error:
        raise BadAdapter(f"{str(folder)!r} cannot be read: {error}.") from None
    if not isinstance(config, dict) or not tensors:
        raise BadAdapter(f"{str(folder)!r} is empty, or its {CONFIG} is not an object.")
    if not_finite(tensors):
        raise BadAdapter(f"{str(folder / TENSORS)!r} holds values that are not finite numbers.")
    return config, {name: tensor.float() for name, tensor in tensors.items()}


_PART = re.compile(r"(?P<path>.+)\.(?P<part>lora_[AB]\.weight|lora_embedding_[AB]|hada_[wt][12](?:_[ab])?|ia3_l)$")


def _split(key: str, folder: Path) -> tuple[str, str]:
    found = _PART.match(key.removeprefix(PREFIX))
    if found is None:
        raise BadAdapter(f"{str(folder)!r} holds a tensor {key[:80]!r} that asrpeft does not know.")
    return found["path"].removeprefix("model."), found["part"]


def _check_frozen(key: str, tensor: Tensor, adapters: Adapters, folder: Path) -> None:
    """`peft` writes the whole frozen embedding beside LoRA on it; it has to be this base's own."""
    path = key.removeprefix(PREFIX).removeprefix("model.").removesuffix(".base_layer.weight")
    layer = adapters.layers.get(path)
    own = None if layer is None else layer.weight.detach().float().cpu()
    if own is None or own.shape != tensor.shape or not torch.allclose(own, tensor, rtol=2**-8, atol=1e-6):
        raise BadAdapter(f"{str(folder)!r} was made on another base, or on one whose {path} was changed: the {path} it holds is not this one's.")


Read = tuple[str, dict[str, Any], dict[str, Tensor]]


# What a pattern of module names is made of: no recursion, no conditions, and counts that cannot be nested to a billion.
_STRANGE = regex.compile(r"\(\?(?![:=!]|<[=!])|\(\*|\{(?!\d{0,2}(?:,\d{0,2})?\})")
_PATTERNS, _LENGTH, _COUNTS, _SECONDS = 1000, 1000, 2, 1.0


class _ByPattern:
    """A number that `peft` gives once for all layers, and by patterns of module names for some.

    A pattern is a regular expression for a whole name or for its last parts (`decoder\\..*\\.q_proj`, `fc1`); the first that fits counts.
    It comes from strangers, and a dozen characters can keep an expression busy for years: form, number and time are bounded.
    """

    def __init__(self, config: Mapping[str, Any], key: str, patterns: str):
        self.default, given = _number(config.get(key), key), config.get(patterns) or {}
        if not isinstance(given, dict):
            raise ValueError(f"its {patterns} is not an object of patterns and numbers")
        if len(given) > _PATTERNS:
            raise ValueError(f"its {patterns} has {len(given):,} patterns; at most {_PATTERNS:,} are read")
        self.name, self.left = patterns, _SECONDS
        self.patterns = [(self._compiled(pattern), _number(value, f"{patterns}[{pattern[:80]!r}]")) for pattern, value in given.items()]

    def _compiled(self, pattern: str) -> regex.Pattern:
        if len(pattern) > _LENGTH or _STRANGE.search(pattern) or pattern.count("{") > _COUNTS:
            raise ValueError(
                f"its {self.name} has the pattern {pattern[:80]!r}, which is longer than {_LENGTH:,} characters, or holds what no pattern of "
                f"module names needs (recursion, conditions, counts over 99). Write the names out"
            )
        try:
            return regex.compile(rf"(.*\.)?({pattern})$")
        except (regex.error, RecursionError) as error:
            raise ValueError(f"its {self.name} has the pattern {pattern[:80]!r}, which is no regular expression: {error}") from None

    def of(self, path: str) -> float:
        """The value for a layer: of the first pattern that matches its name, else the default.

        Raises: ValueError once the patterns have taken a second: those that people write take microseconds.
        """
        started = time.monotonic()
        try:
            return next((value for pattern, value in self.patterns if pattern.match(_module(path), timeout=self.left)), self.default)
        except TimeoutError:
            raise ValueError(f"its {self.name} takes more than {_SECONDS:g} s to match the names of layers. Write the names out") from None
        finally:
            self.left = max(self.left - (time.monotonic() - started), 1e-3)


def _number(value: Any, name: str) -> float:
    """A finite number of a peft configuration.

    Raises: ValueError for what is no finite number.
    """
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(
            f"its {name} is {str(value)[:40]!r}, which is no number" if isinstance(value, str) or value is None else f"its {name} is no finite number"
        )
    return found


def _flag(config: Mapping[str, Any], key: str) -> bool:
    """A truth value of a peft configuration.

    Raises: ValueError for what is neither true nor false.
    """
    value = config.get(key) or False
    if not isinstance(value, bool):
        raise ValueError(f"its {key} is neither true nor false")
    return value


def _pad(tensor: Tensor, dim: int, size: int) -> Tensor:
    shape = list(tensor.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)


def _read_lora(config: dict[str, Any], sites: Mapping[str, dict[str, Tensor]], layers: Mapping[str, Layer]) -> Read:
    rs, alphas = _flag(config, "use_rslora"), _ByPattern(config, "lora_alpha", "alpha_pattern")
    pairs, scales = {}, {}
    for path, own in sites.items():
        embedding = layers[path].kind == "embedding"
        a, b = (own["lora_embedding_A"], own["lora_embedding_B"]) if embedding else (own["lora_A.weight"], own["lora_B.weight"])
        pairs[path] = a, b = a.flatten(1), b.flatten(1)
        if not 0 < a.shape[0] == b.shape[1]:
            raise ValueError(f"at {path}, A has rank {a.shape[0]} and B has rank {b.shape[1]}")
        scales[path] = alphas.of(path) / (math.sqrt(len(a)) if rs else len(a))
    rank = max(len(a) for a, _ in pairs.values())
    held, padded = (sum((len(a) if own else rank) * (a.shape[1] + len(b)) for a, b in pairs.values()) for own in (True, False))
    if padded > max(_PADDED * held, _SMALL):
        raise ValueError(f"its ranks are so unequal that {held:,} numbers would be padded with zeros to {padded:,}")
    alpha = alphas.default
    scale = alpha / (math.sqrt(rank) if rs else rank)
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in pairs.items():
        tensors |= {f"sites.{path}.a": _pad(a, 0, rank), f"sites.{path}.b": _pad(b if scales[path] == scale else b * (scales[path] / scale), 1, rank)}
    dropout = _number(config.get("lora_dropout") or 0.0, "lora_dropout")
    return "lora", {"rank": rank, "alpha": alpha, "scale": "rs" if rs else "standard", "dropout": dropout, "head": False}, tensors


def _read_loha(config: dict[str, Any], sites: Mapping[str, dict[str, Tensor]], layers: Mapping[str, Layer]) -> Read:
    if any("hada_t1" in own for own in sites.values()):
        raise ValueError("it decomposes convolution kernels (use_effective_conv2d), which asrpeft does not")
    ranks = {n for own in sites.values() for part, tensor in own.items() for n in [tensor.shape[1 if part.endswith("_a") else 0]]}
    by_layer = _ByPattern(config, "alpha", "alpha_pattern")
    alphas = {by_layer.of(path) for path in sites}
    if len(ranks) != 1 or len(alphas) != 1:
        raise ValueError("its layers, or the factors of one, have different ranks or alphas")
    tensors = {f"sites.{path}.{ours}": own[theirs] for path, own in sites.items() for ours, theirs in _LOHA.items()}
    return "loha", {"rank": ranks.pop(), "alpha": alphas.pop(), "head": False}, tensors


def _read_ia3(config: dict[str, Any], sites: Mapping[str, dict[str, Tensor]], layers: Mapping[str, Layer]) -> Read:
    on_input = {path for path, own in sites.items() if own["ia3_l"].shape[0] == 1}
    leaves = {layers[path].leaf for path in on_input}
    mixed = [path for path in sites if path not in on_input and layers[path].leaf in leaves]
    if mixed:
        raise ValueError(f"{mixed[0]} scales its output where others of that name scale their input")
    return "ia3", {"feedforward": sorted(leaves), "head": False}, {f"sites.{path}.l": own["ia3_l"].flatten() for path, own in sites.items()}


_READERS = {"LORA": _read_lora, "LOHA": _read_loha, "IA3": _read_ia3}
