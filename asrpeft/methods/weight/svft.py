"""SVFT, fine-tuning with singular vectors (https://arxiv.org/abs/2405.19597).

    W' = W + U M Vᵀ,   W = U Σ Vᵀ      U (out, rank), V (in·k, rank) frozen   M (rank, rank) sparse: m (entries,) trains

`pattern` says where M is not zero: `plain` is its diagonal, `banded` the diagonal and `band` more on each side, `random` and
`top` as many entries as the band has (`top` where |uᵢ·vⱼ| is largest, which needs a layer of as many inputs as outputs, else
it is the band). M starts at zero; the authors' code starts it Gaussian and scales it by a trained gate. The paper keeps all
singular vectors; here the leading `rank` of them are in the file (0: all, a file larger than the base), because those of a base in half precision are others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import LayerAdapter, WeightConfig, one_of, positive, register, zeros
from asrpeft.methods.pool import draw
from asrpeft.methods.weight.lora_xs import leading, rank_at


@register("svft")
class SVFT(LayerAdapter):
    tier = 2
    lr = 2e-2
    tries = ({"rank": 4, "band": 1}, {"rank": 0, "pattern": "random", "band": 1}, {"rank": 3, "pattern": "top", "band": 1})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 128  # leading singular vectors that are used; 0: all
        pattern: str = "banded"  # or plain, random, top
        band: int = 8  # off-diagonals on each side, or as many entries elsewhere
        seed: int = 0  # of random entries

        def __post_init__(self):
            positive("svft", rank=self.rank + 1, band=self.band + 1, seed=self.seed + 1)
            one_of("svft", ("banded", "plain", "random", "top"), pattern=self.pattern)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        n = self.used(config, layer)
        u, _, v = leading(layer, n)
        self.keep("u", u), self.keep("v", v), self.keep("at", self.entries(layer, u, v))
        self.m = zeros(len(self.at))

    @staticmethod
    def used(config, layer) -> int:
        return rank_at(layer, config.rank or max(layer.shape))

    def entries(self, layer, u, v) -> torch.Tensor:
        """(entries,) flat positions in M that train."""
        config, n = self.config, len(v)
        offset = (torch.arange(n)[:, None] - torch.arange(n)).abs().flatten()
        count = self.size(config, layer)
        if config.pattern == "random":
            order = draw(config.seed, f"svft {layer.path}", (n * n,), "uniform").argsort(stable=True)
        elif config.pattern == "top" and len(u) == v.shape[1]:
            order = (u.T @ v.T).abs().flatten().argsort(descending=True, stable=True)
        else:
            order = offset.argsort(stable=True)
        return order[:count].sort().values

    @classmethod
    def size(cls, config, layer):
        n = cls.used(config, layer)
        band = 0 if config.pattern == "plain" else min(config.band, n - 1)
        return n * (2 * band + 1) - band * (band + 1)

    @classmethod
    def stored_size(cls, config, layers):
        return sum(2 * cls.size(config, layer) + cls.used(config, layer) * sum(layer.shape) for layer in layers)

    def core(self) -> torch.Tensor:
        """M (rank, rank)."""
        n = len(self.v)
        return self.m.new_zeros(n * n).index_copy(0, self.at, self.m).view(n, n)

    def delta(self, w):
        return self.u @ self.core() @ self.v

    def literal(self, w, b):
        n = len(self.v)
        moved = sum(m * torch.outer(self.u[:, i // n], self.v[i % n]) for m, i in zip(self.m, self.at.tolist()))
        return w + moved, b
