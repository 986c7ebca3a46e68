"""What every adaptation method shares: the registry, the piece an adapter has at one layer, the shared pool, the plan.

A method is one file that registers one class. The class gives `delta` (a weight method), `merged` (a weight map),
`forward` (an activation edit) or `rows` (virtual tokens); everything else (names, dtypes, batches of many adapters,
saving, merging) is done once, here and in `asrpeft.adapters`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from asrpeft.errors import BadInput, CannotMerge
from asrpeft.methods.layers import EmbeddingLayer, Layer

WEIGHTS = ("linear", "conv1d", "embedding")
_REGISTRY: dict[str, type[LayerAdapter]] = {}


class Pool(nn.Module):
    """Parameters that belong to a whole adapter rather than to one layer. Made once, stored once, counted once."""

    def __init__(self):
        super().__init__()
        self.tensors = nn.ParameterDict()

    def share(self, key: str, make: Callable[[], Tensor], *, trained: bool = True) -> nn.Parameter:
        """The pool's tensor `key`; `make()` gives its start when it is asked for the first time."""
        if key not in self.tensors:
            self.tensors[key] = nn.Parameter(make(), requires_grad=trained)
        return self.tensors[key]

    def __getitem__(self, key: str) -> nn.Parameter:
        return self.tensors[key]


class Plan:
    """What a method does around the training steps: penalties, ranks, masks, proximal steps. The default does nothing.

    The loop calls `penalty` when it forms the loss and `after_step` when the optimiser has moved the parameters.
    A plan's state that must survive an interruption lives in buffers of the adapter.
    """

    def penalty(self, adapter: nn.Module) -> Tensor | None:
        """A scalar to add to the loss, or None."""
        return None

    def after_step(self, adapter: nn.Module, *, step: int, total_steps: int, lr: float) -> None:
        """Called after optimiser step `step` (from 0) of `total_steps`, taken with learning rate `lr`."""

    def finish(self, adapter: nn.Module) -> None:
        """Called once, after the last step."""


@dataclasses.dataclass(frozen=True)
class WeightConfig:
    """The setting that every method has which can act on a token embedding."""

    head: bool = True  # the change of an embedding acts on the output head that is tied to it as well


class LayerAdapter(nn.Module):
    """What one adapter adds to one frozen layer.

    A weight method gives `delta`, a weight map gives `merged` and `forward`, an activation edit gives `forward`
    (and `merged` where it folds), and virtual tokens give `rows`.
    Parameters are float32 whatever the base's dtype is.
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = WEIGHTS  # what it attaches to
    where: ClassVar[str] = "attention"  # where it attaches unless told
    lr: ClassVar[float] = 1e-3  # AdamW's peak learning rate unless told
    neutral: ClassVar[bool] = True  # a fresh one changes nothing
    mergeable: ClassVar[bool] = True
    edits_input: ClassVar[bool] = False  # `edit_input` is called before the frozen layer

    @dataclasses.dataclass(frozen=True)
    class Config:
        """The method's settings, all with defaults."""

    def __init__(self, layer: Layer, config: Any, pool: Pool):
        super().__init__()
        self.config = config

    @classmethod
    def fits(cls, layer: Layer, config: Any) -> bool:
        """Whether the method has something to train at `layer` (BitFit has nothing where there is no bias)."""
        return layer.kind in cls.kinds

    @classmethod
    def size(cls, config: Any, layer: Layer) -> int:
        """How many numbers train at one layer, by the paper's formula; shared ones are counted in `shared_size`."""
        raise NotImplementedError

    @classmethod
    def shared_size(cls, config: Any, layers: Sequence[Layer]) -> int:
        """How many numbers the whole adapter trains that belong to no single layer."""
        return 0

    @classmethod
    def plan(cls, config: Any) -> Plan | None:
        """What the method does around the training steps, if anything."""
        return None

    @classmethod
    def report(cls, pieces: dict[str, LayerAdapter]) -> dict[str, Any]:
        """What `asrpeft adapter inspect` tells about a trained adapter of this method beyond its sizes."""
        return {}

    # -- weight methods ----------------------------------------------------------------------------------------------
    def delta(self, w: Tensor) -> Tensor:
        """ΔW as a matrix (out, in·k); `w` is the frozen one."""
        raise CannotMerge(f"{self.name} acts on activations and has no weight delta: serve it routed.")

    def delta_bias(self) -> Tensor | None:
        """Δb (out,), for the methods that move biases."""
        return None

    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        """The adapted output; `y` is what the frozen layer gave for `x`. Rows come first in both."""
        y = y + layer.run(x, self.delta(layer.matrix))
        db = self.delta_bias()
        return y if db is None else y + layer.channels(db).to(y.dtype)

    def head(self, h: Tensor, logits: Tensor, layer: EmbeddingLayer) -> Tensor:
        """The adapted logits of the head tied to an adapted embedding: the same change of weight, seen from there."""
        if type(self).delta is not LayerAdapter.delta:
            return logits + layer.run_head(h, self.delta(layer.matrix))
        w = layer.matrix.to(torch.promote_types(layer.matrix.dtype, torch.float32))
        return logits + layer.run_head(h, self.merged(w, None)[0] - w)

    def merged(self, w: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The weight (out, in·k) and bias (out,) that act alone as the frozen layer and the adapter do together."""
        db = self.delta_bias()
        return w + self.delta(w), b if db is None or b is None else b + db

    # -- activation edits --------------------------------------------------------------------------------------------
    def edit_input(self, x: Tensor, layer: Layer) -> Tensor:
        """What the frozen layer gets in place of `x`; used where `edits_input` is true."""
        return x

    # -- virtual tokens ----------------------------------------------------------------------------------------------
    def rows(self) -> tuple[Tensor, ...]:
        """The virtual tokens: (tokens, dim) for the decoder's input; keys and values (heads, tokens, head_dim) for attention."""
        raise NotImplementedError(f"{self.name} has no virtual tokens")

    # -- saving ------------------------------------------------------------------------------------------------------
    def compact(self) -> tuple[Any, dict[str, Tensor]]:
        """The config and tensors to save: less than what trains where a method drops a part of itself after training."""
        return self.config, {name: tensor.detach() for name, tensor in self.state_dict().items()}


def register(name: str) -> Callable[[type[LayerAdapter]], type[LayerAdapter]]:
    """Make a `LayerAdapter` class known as `name`: to `adapt`, the command line, the listing and the common tests."""

    def add(cls: type[LayerAdapter]) -> type[LayerAdapter]:
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return add


def _load_all() -> dict[str, type[LayerAdapter]]:
    import asrpeft.methods as package

    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    return _REGISTRY


def names() -> list[str]:
    """The registered methods, in alphabetical order."""
    return sorted(_load_all())


def method(name: str) -> type[LayerAdapter]:
    """The class registered as `name`.

    Raises: BadInput, naming the methods there are.
    """
    found = _load_all().get(name)
    if found is None:
        raise BadInput(f"There is no method {name!r}. The methods are {', '.join(names())}; `asrpeft methods NAME` describes one.")
    return found


def configure(cls: type[LayerAdapter], settings: dict[str, Any]) -> Any:
    """The method's frozen `Config` from `settings`, whose values may be text (as `--set rank=16` gives them).

    Raises: BadInput for a setting that the method does not have or a value that it cannot take.
    """
    fields = {f.name: f for f in dataclasses.fields(cls.Config)}
    values = {}
    for key, value in settings.items():
        if key not in fields:
            raise BadInput(f"{cls.name} has no setting {key!r}. It has {', '.join(fields) or 'none'}.")
        values[key] = _convert(cls.name, key, value, type(fields[key].default))
    return cls.Config(**values)


def _convert(name: str, key: str, value: Any, kind: type) -> Any:
    if isinstance(value, str) and kind is bool:
        if value.lower() in ("true", "yes", "1", "on"):
            return True
        if value.lower() in ("false", "no", "0", "off"):
            return False
        raise BadInput(f"{name}: {key}={value!r} is neither true nor false.")
    if kind is tuple:
        values = value.split(",") if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
            raise BadInput(f"{name}: {key}={value!r} is not a list of names.")
        return tuple(v.strip() for v in values if v.strip())
    if kind is str and not isinstance(value, str):
        raise BadInput(f"{name}: {key}={value!r} is not a text.")
    if kind is bool and not isinstance(value, bool):
        raise BadInput(f"{name}: {key}={value!r} is neither true nor false.")
    try:
        converted = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{name}: {key}={value!r} is not {'a whole number' if kind is int else 'a number'}.") from None
    if kind is int and not isinstance(value, str) and converted != value:
        raise BadInput(f"{name}: {key}={value!r} is not a whole number.")
    return converted


@dataclasses.dataclass(frozen=True)
class Description:
    """What a method's file says of itself."""

    name: str
    title: str
    equation: str
    paper: str
    mergeable: bool
    kinds: tuple[str, ...]
    where: str
    settings: dict[str, Any]
    text: str


def describe(name: str) -> Description:
    """The description of a method, read from its file's docstring: title, links, the indented equation."""
    cls = method(name)
    text = inspect.cleandoc(inspect.getmodule(cls).__doc__ or "")
    lines = text.splitlines()
    equation = next((line.strip() for line in lines[1:] if line.startswith("    ")), "")
    links = re.findall(r"https?://[^\s),;]+", text)
    settings = {f.name: f.default for f in dataclasses.fields(cls.Config)}
    title, paper = lines[0] if lines else "", links[0].rstrip(".") if links else ""
    return Description(name, title, equation, paper, cls.mergeable, cls.kinds, cls.where, settings, text)


def positive(name: str, **values: float) -> None:
    """Raises: BadInput unless every value is above zero and finite."""
    for key, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise BadInput(f"{name}: {key} must be a number above 0, got {value}.")


def gaussian(*shape: int, std: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * std)


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))
