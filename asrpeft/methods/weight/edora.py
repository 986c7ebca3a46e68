"""EDoRA, weight-decomposed adaptation in singular directions (https://arxiv.org/abs/2501.12067).

    W' = (‖W‖ + m) ⊙ V / ‖V‖,   V = W + B R A      B (out, rank), A (rank, in·k) frozen   R (rank, rank)   m (out,)

DoRA with LoRA-XS for its direction: B = UᵣΣᵣ and A = Vᵣᵀ are singular factors of W, kept in the file, and rank² + out numbers train per layer.
R starts at zero and m is the magnitude's difference from ‖W‖, one an output, so the start is the base. No gradient flows through ‖V‖, as in DoRA.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import LayerAdapter, WeightConfig, positive, register, zeros
from asrpeft.methods.weight.lora_xs import leading, rank_at


@register("edora")
class EDoRA(LayerAdapter):
    tier = 3
    lr = 5e-3
    tries = ({"rank": 3},)

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 32

        def __post_init__(self):
            positive("edora", rank=self.rank)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        u, sigma, v = leading(layer, config.rank)
        self.keep("b", u * sigma), self.keep("a", v)
        self.r, self.m = zeros(len(sigma), len(sigma)), zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return rank_at(layer, config.rank) ** 2 + layer.shape[0]

    @classmethod
    def stored_size(cls, config, layers):
        return sum(cls.size(config, layer) + rank_at(layer, config.rank) * sum(layer.shape) for layer in layers)

    def merged(self, w, b):
        v = w + self.b @ self.r @ self.a
        gain = (w.norm(dim=1) + self.m) / v.detach().norm(dim=1).clamp(min=1e-12)
        return gain[:, None] * v, b

    def literal(self, w, b):
        v = w + sum(self.r[i, j] * torch.outer(self.b[:, i], self.a[j]) for i in range(len(self.r)) for j in range(len(self.r)))
        return torch.stack([(before.square().sum().sqrt() + m) * row / row.square().sum().sqrt() for before, row, m in zip(w, v, self.m)]), b
