"""The piece that an adapter has at one layer: what a method's file defines, and what it gets for it.

A method is one file that registers one class. The class gives `delta` (a weight method), `merged` (a weight map),
`forward` (an activation edit) or `rows` (virtual tokens); everything else (names, dtypes, batches of many adapters,
saving, merging) is done once, here, in the files beside this one and in `asrpeft.adapters`. README.md beside this file
tells a method's author all of it in one page.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from asrpeft.errors import CannotMerge
from asrpeft.methods.change_cache import CHANGES, Change, tensors_of
from asrpeft.methods.inputs import CURRENT, Inputs
from asrpeft.methods.layers import EmbeddingLayer, Layer
from asrpeft.methods.plan import Plan, collect_loss, passed
from asrpeft.methods.pool import Holder, Pool
from asrpeft.methods.settings import configure, one_of, positive, within
from asrpeft.methods.step_changes import StepChanges
from asrpeft.registry import Registry

__all__ = [
    "METHODS",
    "WEIGHTS",
    "Facts",
    "Inputs",
    "LayerAdapter",
    "Plan",
    "Pool",
    "WeightConfig",
    "configure",
    "gaussian",
    "method",
    "names",
    "one_of",
    "passed",
    "positive",
    "register",
    "within",
    "zeros",
]

WEIGHTS = ("linear", "conv1d", "embedding")
NARROW = 256  # dimensions: on bases as narrow as `data/mini` most methods want three to six times their rate on a Whisper (recipes/rates.md)


@dataclasses.dataclass(frozen=True)
class Facts:
    """How one parameter is to be trained.

    Attributes:
        rate: its learning rate, as a multiple of the adapter's.
        decay: its weight decay, as a multiple of what the user asked for; None: 1 for matrices, 0 for vectors.
    """

    rate: float = 1.0
    decay: float | None = None


@dataclasses.dataclass(frozen=True)
class WeightConfig:
    """The setting that every method has which can act on a token embedding."""

    head: bool = True  # the change of an embedding acts on the output head that is tied to it as well


class LayerAdapter(Holder):
    """What one adapter adds to one frozen layer.

    A weight method gives `delta`, a weight map gives `merged`, an activation edit gives `forward` (and `merged` where it
    folds), and virtual tokens give `rows`.
    Parameters are float32 whatever the base's dtype is.
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = WEIGHTS  # what it attaches to
    where: ClassVar[str] = "attention"  # where it attaches unless told
    lr: ClassVar[float] = 1e-3  # AdamW's peak learning rate unless told
    narrow_lr: ClassVar[float | None] = None  # the same on a base of at most `NARROW` dimensions, where that was measured to want another
    neutral: bool = True  # a fresh one changes nothing
    mergeable: ClassVar[bool] = True
    tier: ClassVar[int | None] = None  # 1: what the field compares with, 2: in wide use, 3: promising and little tried in speech
    edits_input: ClassVar[bool] = False  # `edit_input` is called before the frozen layer
    conditioned: ClassVar[bool] = False  # it asks `self.condition()`: who speaks, what is known of the row (`asrpeft.methods.conditioned`)
    reads_inputs: ClassVar[bool] = False  # it asks `self.inputs`: positions, tokens, what is padding
    personal: ClassVar[tuple[str, ...]] = ()  # of its parameters those that stay with a speaker where the others are averaged
    changeable: ClassVar[tuple[str, ...]] = ()  # settings that may be others where training goes on from a trained adapter
    tries: ClassVar[tuple[dict[str, Any], ...]] = ({},)  # small settings that the common tests try, each on every kind of layer

    @dataclasses.dataclass(frozen=True)
    class Config:
        """The method's settings, all with defaults."""

    def __init__(self, layer: Layer, config: Any, pool: Pool):
        super().__init__()
        self.step_changes: StepChanges | None = None  # in an optimizer step: changes that its passes share
        self.config = config
        self._pool = (pool,)  # in a tuple, so that the pool is not counted or stored as part of every layer

    @property
    def pool(self) -> Pool:
        """What the pieces of this adapter share."""
        return self._pool[0]

    # -- what the class says of itself -------------------------------------------------------------------------------
    @classmethod
    def fits(cls, layer: Layer, config: Any) -> bool:
        """Whether the method has something to train at `layer` (BitFit has nothing where there is no bias)."""
        return layer.kind in cls.kinds

    @classmethod
    def prepared(cls, settings: dict[str, Any], encode: Callable[[str], list[int]]) -> dict[str, Any]:
        """The settings of a fresh adapter, with tokens for text where the method wants text as tokens."""
        return settings

    @classmethod
    def size(cls, config: Any, layer: Layer) -> int:
        """How many numbers train at one layer, by the paper's formula; shared ones are counted in `shared_size`."""
        raise NotImplementedError

    @classmethod
    def shared_size(cls, config: Any, layers: Sequence[Layer]) -> int:
        """How many numbers the whole adapter trains that belong to no single layer."""
        return 0

    @classmethod
    def stored_size(cls, config: Any, layers: Sequence[Layer]) -> int:
        """How many numbers the file holds: what trains, unless the method keeps more, or drops some after training."""
        return sum(cls.size(config, layer) for layer in layers) + cls.shared_size(config, layers)

    @classmethod
    def plan(cls, config: Any) -> Plan | None:
        """What the method does around the training steps, if anything."""
        return None

    @classmethod
    def rate(cls, config: Any, width: int) -> float:
        """AdamW's peak learning rate unless told, on a base of `width` dimensions."""
        return cls.lr if width > NARROW or cls.narrow_lr is None else cls.narrow_lr

    @classmethod
    def facts(cls, config: Any, name: str) -> Facts:
        """What the optimizer should know of the parameter `name` of a piece (`b`), or of the pool (`shared.b_linear_64x64`)."""
        return Facts()

    @classmethod
    def report(cls, pieces: dict[str, LayerAdapter]) -> dict[str, Any]:
        """What `asrpeft adapter inspect` tells about a trained adapter of this method beyond its sizes."""
        return {}

    @classmethod
    def compact(cls, config: Any, pieces: Mapping[str, LayerAdapter]) -> tuple[Any, dict[str, dict[str, Tensor]]]:
        """The config and, by path, the tensors to save: less than what trains where a method drops parts of itself after
        training (a perceptron that made a prefix; ranks that fell, which the config then tells by layer). A piece made
        with that config must have these tensors, by these names and shapes."""
        return config, {path: piece.stored() for path, piece in pieces.items()}

    def aligned(self, to: LayerAdapter) -> dict[str, Tensor]:
        """Its trained parameters in another order of its hidden units: doing what they do, and number by number as like those of `to` as
        they can be, so that the two can be averaged (`asrpeft.methods.alignment`). Names that are left out stay as they are.

        Raises: CannotMerge for a method whose numbers have no such freedom, or none that is known.
        """
        raise CannotMerge(f"{self.name} has no hidden units that could change places.")

    @classmethod
    def changes_weights(cls) -> bool:
        """Whether it has a weight form, `delta` or `merged`."""
        return cls.delta is not LayerAdapter.delta or cls.merged is not LayerAdapter.merged

    # -- weight methods ----------------------------------------------------------------------------------------------
    def delta(self, w: Tensor) -> Tensor:
        """ΔW as a matrix (out, in·k); `w` is the frozen one, in float32 or wider."""
        raise CannotMerge(f"{self.name} acts on activations and has no weight delta: serve it routed.")

    def delta_bias(self) -> Tensor | None:
        """Δb (out,), for the methods that move biases."""
        return None

    def merged(self, w: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The weight (out, in·k) and bias (out,) that act alone as the frozen layer and the adapter do together."""
        db = self.delta_bias()
        return w + self.delta(w), b if db is None or b is None else b + db

    def literal(self, w: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None] | None:
        """W' and b' once more, as literally by the paper's formula as it can be written, however slow: what the common tests
        hold `merged` to. None where there is nothing that would not be the same code again."""
        return None

    def change(self, layer: Layer, dtype: torch.dtype) -> Change:
        """(ΔW, Δb) in `dtype`, made in float32 or wider whatever the base's dtype or autocast is: a small difference of
        large products (PiSSA's s(BA − B₀A₀)) has no digits left in bfloat16. Kept while nothing it depends on changes."""
        if self.training and self.step_changes is not None and not torch.compiler.is_compiling():
            shared = self.step_changes.get(self, lambda: self._make(layer, None))
            if shared is not None:
                dw, db = shared
                return dw.to(dtype), None if db is None else db.to(dtype)
        of = [*tensors_of(self), *tensors_of(self.pool), *layer.tensors()]
        if self.training or torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(t.requires_grad for t in of)):
            return self._make(layer, dtype)
        return CHANGES.get(self, of, dtype, lambda: self._make(layer, dtype))

    def _make(self, layer: Layer, dtype: torch.dtype | None) -> Change:
        with torch.autocast(layer.matrix.device.type, enabled=False):
            w, b = layer.wide()
            if type(self).merged is LayerAdapter.merged:
                dw, db = self.delta(w), self.delta_bias()
            else:
                new_w, new_b = self.merged(w, b)
                dw, db = new_w - w, None if b is None or new_b is None else new_b - b
            return dw.to(dtype or dw.dtype), None if db is None else db.to(dtype or db.dtype)

    @property
    def inputs(self) -> Inputs:
        """What is known of the rows at hand, in `forward` and `edit_input`, where `reads_inputs` is true."""
        found = CURRENT.get()
        if found is None:
            raise RuntimeError(f"{type(self).__name__} asks for `self.inputs`: it has to say so in its class, with reads_inputs = True.")
        return found

    def add_loss(self, value: Tensor) -> None:
        """Called in `forward`, in training: a scalar (a mean over the rows at hand) to add to the loss, for penalties that read
        activations, such as the load balance of a mixture. Weigh it yourself."""
        collect_loss(self, value)

    def train(self, mode: bool = True) -> LayerAdapter:
        CHANGES.forget(self)
        return super().train(mode)

    # -- at work -----------------------------------------------------------------------------------------------------
    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        """The adapted output; `y` is what the frozen layer gave for `x`. Rows come first in both."""
        dw, db = self.change(layer, y.dtype)
        y = y + layer.run(x, dw)
        return y if db is None else y + layer.channels(db)

    def head(self, h: Tensor, logits: Tensor, layer: EmbeddingLayer) -> Tensor:
        """The adapted logits of the head tied to an adapted embedding: the same change of weight, seen from there."""
        return logits + layer.run_head(h, self.change(layer, logits.dtype)[0])

    def edit_input(self, x: Tensor, layer: Layer) -> Tensor:
        """What the frozen layer (one with a weight) gets in place of `x`; used where `edits_input` is true."""
        return x

    def literal_edit(self, x: Tensor | tuple[Tensor, ...], y: Tensor, layer: Layer) -> Tensor | None:
        """What `forward` gives in evaluation once more, as literally by the paper's formula as it can be written, however slow: what the
        common tests hold `forward` to. None where there is nothing that would not be the same code again."""
        return None

    def rows(self) -> tuple[Tensor, ...]:
        """The virtual tokens, if it has any: (tokens, dim) for the decoder's input; keys and values (heads, tokens, head_dim) for attention;
        for the encoder (tokens, dim) before its first layer, or one such for each layer, which takes the place of the one before."""
        return ()

    def rows_for(self, heard: Tensor, real: Tensor) -> Tensor:
        """The virtual tokens before the decoder's first token, (tokens, dim) for all rows, or (rows, tokens, dim) where each has its own. Asked
        once for an utterance, before its first token; how many there are is `n_rows`, for all utterances alike.

        Args: heard (rows, frames, dim): the encoder's states; real (rows, frames): true where a frame is one, and no padding.
        """
        return self.rows()[0]

    @property
    def n_rows(self) -> int:
        """How many virtual tokens it has."""
        rows = self.rows()
        return rows[0].shape[-2] if rows else 0


def gaussian(*shape: int, std: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * std)


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


METHODS: Registry[type[LayerAdapter]] = Registry("method", "asrpeft.methods", more="`asrpeft methods NAME` describes one.")
register, method = METHODS.register, METHODS.find


def names() -> list[str]:
    """The registered methods, in alphabetical order."""
    return list(METHODS)
