"""The places of a base where a method can act, each seen one way.

`Linear`, `Conv1d`, `Embedding` and `LayerNorm` all show a weight matrix (out, in·k), so that a method is written once:

    Linear     y = W x + b                      matrix = weight                     (out, in)
    Conv1d     y = W * x + b                    matrix = weight, flat               (out, in/groups · kernel)
    Embedding  y = W[:, token]                  matrix = weightᵀ                    (dim, vocabulary)
    LayerNorm  y = W x̂ + b, x̂ normalised        matrix = weight as a column         (dim, 1)

`Attention` and `DecoderInput` have no matrix: virtual tokens enter there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asrpeft.errors import CannotAttach


class Layer:
    """One frozen layer of the base, seen as a matrix.

    Attributes:
        path: its name in the base, without the leading `model.`: `decoder.layers.0.self_attn.q_proj`.
        kind: `linear`, `conv1d`, `embedding`, `norm`, `attention` or `decoder`.
        module: the frozen module itself.
    """

    kind = ""

    def __init__(self, path: str, module: nn.Module):
        self.path, self.module = path, module

    @property
    def leaf(self) -> str:
        """The last part of the path: `q_proj`."""
        return self.path.rsplit(".", 1)[-1]

    @property
    def matrix(self) -> Tensor:
        """(out, in·k), a view of the frozen weight."""
        return self.module.weight

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.matrix.shape)

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.module, "bias", None)

    def run(self, x: Tensor, w: Tensor) -> Tensor:
        """What a layer of this kind with the matrix `w` and no bias gives for `x`: linear in `w`."""
        raise NotImplementedError

    def channels(self, v: Tensor) -> Tensor:
        """`v` (out,), shaped to multiply or add to this layer's output."""
        return v

    def tensors(self) -> list[Tensor]:
        return [t for t in (self.module.weight, self.bias) if t is not None]

    @torch.no_grad()
    def write(self, w: Tensor, b: Tensor | None) -> None:
        """Overwrite the frozen tensors in place (in their own dtype)."""
        self.matrix.copy_(w.view(self.shape))
        if self.bias is not None and b is not None:
            self.bias.copy_(b)


class LinearLayer(Layer):
    kind = "linear"

    def run(self, x, w):
        return F.linear(x, w.to(x.dtype))


class Conv1dLayer(Layer):
    kind = "conv1d"

    def __init__(self, path, module):
        super().__init__(path, module)
        if module.padding_mode != "zeros":
            raise CannotAttach(f"{path!r} pads its input with {module.padding_mode!r}; only zero padding is supported.")

    @property
    def matrix(self):
        return self.module.weight.flatten(1)

    def run(self, x, w, *, kernel: int | None = None):
        """`w` (out, in/groups · kernel); `out` may differ from the layer's own where `groups` is 1."""
        conv = self.module
        w = w.view(w.shape[0], -1, kernel or conv.kernel_size[0]).to(x.dtype)
        return F.conv1d(x, w, None, conv.stride, conv.padding, conv.dilation, conv.groups)

    def channels(self, v):
        return v[:, None]


class EmbeddingLayer(Layer):
    """An embedding and, where the base ties them, the output head that uses the same weight."""

    kind = "embedding"

    def __init__(self, path, module, head: nn.Linear | None = None):
        super().__init__(path, module)
        self.head = head

    @property
    def matrix(self):
        return self.module.weight.T

    def run(self, x, w):
        return F.embedding(x, w.T)

    def run_head(self, h: Tensor, w: Tensor) -> Tensor:
        """Logits (…, vocabulary) that the tied head gives for h (…, dim) with the matrix `w`."""
        return F.linear(h, w.T.to(h.dtype))


class NormLayer(Layer):
    kind = "norm"

    @property
    def matrix(self):
        return self.module.weight[:, None]

    def run(self, x, w):
        return F.layer_norm(x, self.module.normalized_shape, w[:, 0].to(x.dtype), None, self.module.eps)


class Attention(Layer):
    """An attention block, as a place for extra keys and values. `role` is `self` or `cross`."""

    kind = "attention"

    def __init__(self, path, module):
        super().__init__(path, module)
        self.role = "cross" if self.leaf == "encoder_attn" else "self"
        self.heads, self.head_dim = module.num_heads, module.head_dim

    @property
    def shape(self):
        return (self.heads * self.head_dim, 0)

    def tensors(self):
        return []


class DecoderInput(Layer):
    """The decoder, as a place for extra input rows before the first token."""

    kind = "decoder"

    @property
    def shape(self):
        return (self.module.embed_tokens.embedding_dim, 0)

    @property
    def vocabulary(self) -> Tensor:
        """(vocabulary, dim), the frozen token embeddings."""
        return self.module.embed_tokens.weight

    def tensors(self):
        return []


def _kind_of(module: nn.Module) -> Callable[[str, nn.Module], Layer] | None:
    from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperDecoder

    table: list[tuple[type, type[Layer]]] = [
        (nn.Linear, LinearLayer), (nn.Conv1d, Conv1dLayer), (nn.Embedding, EmbeddingLayer), (nn.LayerNorm, NormLayer),
        (WhisperAttention, Attention), (WhisperDecoder, DecoderInput),
    ]  # fmt: skip
    return next((layer for kind, layer in table if isinstance(module, kind)), None)


def layer_of(path: str, module: nn.Module, *, head: nn.Linear | None = None) -> Layer:
    """The `Layer` that shows `module`.

    Raises: CannotAttach for a module of a kind that no method acts on.
    """
    kind = _kind_of(module)
    if kind is None:
        raise CannotAttach(f"{path!r} is a {type(module).__name__}; methods act on Linear, Conv1d, Embedding, LayerNorm, "
                           f"attention blocks and the decoder. Narrow `where`.")  # fmt: skip
    return EmbeddingLayer(path, module, head) if kind is EmbeddingLayer else kind(path, module)


def layers_of(base: nn.Module) -> list[Layer]:
    """Every place of `base` (a `WhisperForConditionalGeneration`) where some method can act, in the module tree's order.

    The output head is not a place of its own: it is tied to `decoder.embed_tokens` and follows it.
    """
    head = base.get_output_embeddings()
    found = []
    for name, module in base.named_modules():
        if module is head or _kind_of(module) is None:
            continue
        path = name.removeprefix("model.")
        tied = head if head is not None and getattr(module, "weight", None) is head.weight else None
        found.append(layer_of(path, module, head=tied))
    return found
