"""LoKr, low-rank Kronecker product (LyCORIS, https://arxiv.org/abs/2309.14859; for diffusion models https://arxiv.org/abs/2402.17412).

    ΔW = s · C ⊗ D,   D = D₁ D₂      C (out₁, in₁)   D (out₂, in₂·k)   D₁ (out₂, rank), D₂ (rank, in₂·k)   s = alpha / rank

out = out₁·out₂ and in = in₁·in₂, each split as near to its square root as it goes, or with a first factor of at most `factor`.
D is one matrix where a product of that rank would be no smaller (2·rank ≥ max(out₂, in₂)). The rank of ΔW is that of C times that of D.
C starts at zero. The kernel of a Conv1d lies in D. out₁·in₁ + rank·(out₂ + in₂·k) numbers train per layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from asrpeft.methods.base import LayerAdapter, WeightConfig, positive, register, zeros
from asrpeft.methods.map.oft import divisor


def uniform(*shape: int) -> nn.Parameter:
    """Kaiming-uniform, of bound 1/√columns."""
    return nn.Parameter((2 * torch.rand(shape) - 1) / shape[-1] ** 0.5)


@register("lokr")
class LoKr(LayerAdapter):
    tier = 2
    lr = 2e-2
    tries = ({"rank": 1, "alpha": 2.0}, {"rank": 2, "factor": 2})  # a product, a whole matrix

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 8
        alpha: float = 8.0  # ΔW is scaled by alpha / rank
        factor: int = 0  # out₁ and in₁ are at most this; 0: near the square roots

        def __post_init__(self):
            positive("lokr", rank=self.rank, alpha=self.alpha, factor=self.factor + 1)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out1, in1), (out2, in2), whole = self.form(config, layer)
        self.s = config.alpha / config.rank
        self.c = zeros(out1, in1)
        self.d = uniform(out2, in2) if whole else None
        self.d1 = None if whole else uniform(out2, config.rank)
        self.d2 = None if whole else uniform(config.rank, in2)

    @staticmethod
    def form(config, layer) -> tuple[tuple[int, int], tuple[int, int], bool]:
        """The shapes of C and of D, and whether D is one matrix."""
        k = layer.module.kernel_size[0] if layer.kind == "conv1d" else 1
        out, inp = layer.shape[0], layer.shape[1] // k
        out1, in1 = (divisor(n, config.factor or math.isqrt(n)) for n in (out, inp))
        return (out1, in1), (out // out1, inp // in1 * k), 2 * config.rank >= max(out // out1, inp // in1)

    @classmethod
    def size(cls, config, layer):
        (out1, in1), (out2, in2), whole = cls.form(config, layer)
        return out1 * in1 + (out2 * in2 if whole else config.rank * (out2 + in2))

    def _whole(self) -> torch.Tensor:
        """D (out₂, in₂)."""
        if self.d is not None:
            return self.d
        assert self.d1 is not None and self.d2 is not None  # one matrix or two
        return self.d1 @ self.d2

    def delta(self, w):
        return self.s * torch.kron(self.c, self._whole())

    def literal(self, w, b):
        d = self._whole()
        rows = [torch.cat([entry * d for entry in row], dim=1) for row in self.c]
        return w + self.config.alpha / self.config.rank * torch.cat(rows), b
