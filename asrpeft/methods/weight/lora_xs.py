"""LoRA-XS, low-rank adaptation with an extremely small number of parameters (https://arxiv.org/abs/2405.17604).

    ΔW = s · B R A,   W = U Σ Vᵀ,   B = Uᵣ Σᵣ,   A = Vᵣᵀ      A (rank, in·k), B (out, rank) frozen   R (rank, rank)   s = alpha / rank

Only R trains: rank² numbers a layer, however wide it is. The paper draws it from N(0, 10⁻⁵); here it starts at zero, which trains
as well (its gradient BᵀGAᵀ is not zero) and is the base exactly. A and B are in the file: singular vectors of neighboring values
would come out otherwise for a base in half precision, or on another machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asrpeft.methods.base import LayerAdapter, WeightConfig, positive, register, zeros
from asrpeft.methods.layers import Layer


@torch.no_grad()
def leading(layer: Layer, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (out, rank), σ (rank,) and Vᵀ (rank, in·k) of the largest singular values of a layer's frozen matrix, in float32."""
    u, s, v = torch.linalg.svd(layer.wide()[0].float(), full_matrices=False)
    return u[:, :rank], s[:rank], v[:rank]


def rank_at(layer: Layer, rank: int) -> int:
    """`rank`, or what there is of it at a smaller layer."""
    return min(rank, *layer.shape)


@register("lora_xs")
class LoRAXS(LayerAdapter):
    tier = 2
    lr = 5e-3
    tries = ({"rank": 3},)

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 32
        alpha: float = 32.0  # ΔW is scaled by alpha / rank

        def __post_init__(self):
            positive("lora_xs", rank=self.rank, alpha=self.alpha)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        r = rank_at(layer, config.rank)
        u, sigma, v = leading(layer, r)
        self.s = config.alpha / config.rank
        self.keep("b", u * sigma), self.keep("a", v)
        self.r = zeros(r, r)

    @classmethod
    def size(cls, config, layer):
        return rank_at(layer, config.rank) ** 2

    @classmethod
    def stored_size(cls, config, layers):
        return sum(cls.size(config, layer) + rank_at(layer, config.rank) * sum(layer.shape) for layer in layers)

    def delta(self, w):
        return self.s * (self.b @ self.r @ self.a)

    def literal(self, w, b):
        moved = [self.r[i, j] * torch.outer(self.b[:, i], self.a[j]) for i in range(len(self.r)) for j in range(len(self.r))]
        return w + self.config.alpha / self.config.rank * sum(moved), b
