"""Bases whose projections take eight bits a weight, or four: less memory for the same model, adapters in full precision on top.

    int8   one scale an output channel, symmetric                                               8 bits a weight
    nf4    16 values placed as a normal distribution is, a scale for 64 weights, 8 bits each    4.1 bits a weight

The rounding is torchao's (`pip install asrpeft[quantized]`): kept by PyTorch itself, both kinds compute on any CPU and on GPUs, and a
gradient passes through to the adapters. Source of nf4, and of adapters on it: QLoRA, https://arxiv.org/abs/2305.14314

Only the linear layers of the encoder and decoder are rounded: the embedding (whose weight the output head has too), the convolutions,
the norms and the biases are small or delicate. An adapter's fingerprint stays that of the base; merging into rounded weights is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from asrpeft.errors import BadInput

PRECISIONS = ("full", "int8", "nf4")
_BLOCK, _SCALES = 64, 256  # weights that share a scale, scales that are rounded together: torchao's own, which its copies rely on


@dataclass(frozen=True)
class Quantized:
    """What rounding did to a base: the paths of the layers that were rounded, of those that were left as they are, and the bytes of
    all its weights before and after."""

    precision: str
    rounded: tuple[str, ...]
    left: tuple[str, ...]
    bytes_before: int
    bytes_after: int

    def sentence(self) -> str:
        """`Base: 72 layers in nf4, 967 MB → 254 MB.`"""
        kept = f", {len(self.left)} left as they are (their size is no multiple of {_BLOCK * _SCALES:,})" if self.left else ""
        return f"Base: {len(self.rounded)} layers in {self.precision}{kept}, {self.bytes_before / 1e6:,.0f} → {self.bytes_after / 1e6:,.0f} MB."


def quantize(base: nn.Module, precision: str) -> Quantized:
    """Round the linear layers of `base` (a `WhisperForConditionalGeneration`) in place, the output head apart.

    Args: precision: `int8` or `nf4`; `full` leaves everything as it is.
    Raises: BadInput for another precision, where torchao is not installed, or where no layer can be rounded.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"There is no base precision {precision!r}; choose {', '.join(PRECISIONS)}.")
    before = _bytes(base)
    if precision == "full":
        return Quantized(precision, (), (), before, before)
    rounded: list[str] = []
    left: list[str] = []
    round_ = _rounding(precision)
    embedded = {id(module.weight) for module in base.modules() if isinstance(module, nn.Embedding)}
    for path, module in base.named_modules():
        if not isinstance(module, nn.Linear) or id(module.weight) in embedded or path == "proj_out":
            continue
        if precision == "nf4" and module.weight.numel() % (_BLOCK * _SCALES):
            left.append(path)
            continue
        module.weight = nn.Parameter(round_(module.weight.detach()), requires_grad=False)
        rounded.append(path)
    if not rounded:
        raise BadInput(f"No layer of this base can be kept in {precision}: its sizes are no multiples of {_BLOCK * _SCALES:,}. Use int8.")
    return Quantized(precision, tuple(rounded), tuple(left), before, _bytes(base))


def _rounding(precision: str) -> Any:
    """A function from a weight (out, in) to the tensor that stands for it."""
    try:
        if precision == "nf4":
            to_nf4 = import_module("torchao.quantization.quantize_.workflows").to_nf4
            return lambda weight: to_nf4(weight, _BLOCK, _SCALES)
        torchao = import_module("torchao.quantization")
    except (ImportError, AttributeError) as error:
        raise BadInput(f"A base in {precision} takes torchao 0.18 or newer ({error}): pip install 'asrpeft[quantized]'.") from None

    def int8(weight: Tensor) -> Tensor:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        torchao.quantize_(layer, torchao.Int8WeightOnlyConfig())
        return layer.weight.detach()

    return int8


def _bytes(base: nn.Module) -> int:
    """Of every weight once, whatever it is made of."""
    return sum({id(tensor): size(tensor) for tensor in (*base.parameters(), *base.buffers())}.values())


def size(tensor: Tensor) -> int:
    """The bytes that a tensor takes; of a rounded one those of its parts."""
    parts = getattr(tensor, "__tensor_flatten__", None)
    if parts is None:
        return tensor.numel() * tensor.element_size()
    return sum(size(getattr(tensor, name)) for name in parts()[0])
