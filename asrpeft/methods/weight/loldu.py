"""LoLDU, the leading diagonal of a lower-diagonal-upper decomposition (https://arxiv.org/abs/2410.13618).

    ΔW = P Lᵣ (s · diag(d) − diag(d₀)) Uᵣ,   W = P L D U      L (out, rank), U (rank, in·k) frozen, of unit diagonals   d (rank,)   s (1,)

d₀ are the first entries of D, where d starts, and s, a trained scale, starts at one, so the start is the base: rank + 1 numbers train per layer.
(Kept are the differences d − d₀ and s − 1.) The authors' code starts s at alpha / rank and takes as much from W. PL, d₀ and U are in the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import LayerAdapter, WeightConfig, positive, register, zeros
from asrpeft.methods.weight.lora_xs import rank_at


@register("loldu")
class LoLDU(LayerAdapter):
    tier = 3
    lr = 1e-2
    tries = ({"rank": 3},)

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 128

        def __post_init__(self):
            positive("loldu", rank=self.rank)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        r = rank_at(layer, config.rank)
        p, lower, upper = torch.linalg.lu(layer.wide()[0].detach().double())
        d = upper.diagonal()[:r]
        # A weight of lower rank than `rank` ends in zeros on the diagonal: these rows are zero as well, and stay so
        upper = upper[:r] / torch.where(d == 0, 1.0, d)[:, None]
        self.keep("lower", (p @ lower[:, :r]).float()), self.keep("d0", d.float()), self.keep("upper", upper.float())
        self.d, self.s = zeros(r), zeros(1)

    @classmethod
    def size(cls, config, layer):
        return rank_at(layer, config.rank) + 1

    @classmethod
    def stored_size(cls, config, layers):
        return sum(rank_at(layer, config.rank) * (2 + sum(layer.shape)) + 1 for layer in layers)

    def delta(self, w):
        return (self.lower * (self.d + self.s * (self.d0 + self.d))) @ self.upper

    def literal(self, w, b):
        return w + self.lower @ ((1 + self.s) * torch.diag(self.d0 + self.d) - torch.diag(self.d0)) @ self.upper, b
