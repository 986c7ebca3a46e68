"""PMSS, a skeleton of the weight with a trained core (https://arxiv.org/abs/2409.16722).

    ΔW = s · C M R      C (out, rank) columns of W, R (rank, in·k) rows of W, frozen   M (rank, rank)   s = alpha / rank

Only M trains, from zero: rank² numbers a layer. Columns and rows are those that span W best: one after the other the one with most left
after projection on those that are taken (pivoted Gram and Schmidt). The abstract says that a skeleton is selected and a small matrix learned; which
selection and start the paper has could not be checked. The indices are in the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import LayerAdapter, WeightConfig, positive, register, zeros
from asrpeft.methods.weight.lora_xs import rank_at


@torch.no_grad()
def pivots(w: torch.Tensor, n: int) -> torch.Tensor:
    """(n,) indices of the columns of w that a QR decomposition with pivots takes first."""
    left = w.clone()
    taken: list[int] = []
    for _ in range(n):
        sizes = left.square().sum(dim=0)
        sizes[taken] = -1.0
        taken.append(int(sizes.argmax()))
        q = left[:, taken[-1]] / left[:, taken[-1]].norm().clamp(min=1e-12)
        left = left - torch.outer(q, q @ left)
    return torch.tensor(taken, device=w.device)


@register("pmss")
class PMSS(LayerAdapter):
    tier = 3
    lr = 5e-3
    tries = ({"rank": 4},)

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 32
        alpha: float = 32.0  # ΔW is scaled by alpha / rank

        def __post_init__(self):
            positive("pmss", rank=self.rank, alpha=self.alpha)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        w, r = layer.wide()[0].detach(), rank_at(layer, config.rank)
        self.s = config.alpha / config.rank
        self.keep("column_at", pivots(w, r)), self.keep("row_at", pivots(w.T, r))
        self.m = zeros(r, r)

    @classmethod
    def size(cls, config, layer):
        return rank_at(layer, config.rank) ** 2

    @classmethod
    def stored_size(cls, config, layers):
        return sum(cls.size(config, layer) + 2 * rank_at(layer, config.rank) for layer in layers)

    def delta(self, w):
        return self.s * (w[:, self.column_at] @ self.m.to(w.dtype) @ w[self.row_at])

    def literal(self, w, b):
        c, r = torch.stack([w[:, i] for i in self.column_at], dim=1), torch.stack([w[i] for i in self.row_at])
        return w + self.config.alpha / self.config.rank * c @ self.m @ r, b
