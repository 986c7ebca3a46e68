"""LaMDA, spectrally decomposed low-dimensional adaptation (https://arxiv.org/abs/2406.12832).

    ΔW = B S A − B₀ S₀ A      A (rank, in·k) frozen   S (rank, rank)   B (out, rank)

B₀ = Uᵣ, S₀ = Σᵣ and A = Vᵣᵀ are the leading singular factors of W. S trains to the end; rows of B freeze one after the other until the share
`freeze` of the run is done, so that most of the run trains rank² numbers a layer (counted are all rank·(rank + out)). What is
subtracted is kept in the file. The abstract tells the parts and the freezing; the start, the order of rows and the share are this
project's choice, and LaMDA++'s ranks by the spectrum are not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from asrpeft.methods.base import Facts, LayerAdapter, Plan, WeightConfig, positive, register, within
from asrpeft.methods.weight.lora_xs import leading, rank_at


class Freeze(Plan):
    """Holds the first rows of every B where they were before a step: momentum and decay would move them without a gradient."""

    def __init__(self, share: float):
        self.share = share
        self.held: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def before_step(self, adapter, *, step, progress):
        done = min(1.0, progress / self.share) if self.share else 1.0
        self.held = []
        for piece in adapter.pieces_of("lamda"):
            rows = int(done * len(piece.b))
            self.held.append((piece.b, piece.b[:rows].clone()))
            if piece.b.grad is not None:
                piece.b.grad[:rows] = 0.0  # nor does a frozen row take part in clipping

    @torch.no_grad()
    def after_step(self, adapter, *, step, progress, lr):
        for b, rows in self.held:
            b[: len(rows)] = rows


@register("lamda")
class LaMDA(LayerAdapter):
    tier = 3
    lr = 3e-3
    tries = ({"rank": 3},)

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 32
        freeze: float = 0.3  # share of the run by which all of B is frozen

        def __post_init__(self):
            positive("lamda", rank=self.rank)
            within("lamda", 0, 1, freeze=self.freeze)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        u, sigma, v = leading(layer, config.rank)
        self.keep("a", v), self.keep("b0", u), self.keep("s0", torch.diag(sigma))
        self.b, self.s = nn.Parameter(u.clone()), nn.Parameter(torch.diag(sigma))

    @classmethod
    def size(cls, config, layer):
        r = rank_at(layer, config.rank)
        return r * (r + layer.shape[0])

    @classmethod
    def stored_size(cls, config, layers):
        return sum(2 * cls.size(config, layer) + rank_at(layer, config.rank) * layer.shape[1] for layer in layers)

    @classmethod
    def facts(cls, config, name):
        return Facts(decay=0.0)  # zero is not the base

    @classmethod
    def plan(cls, config):
        return Freeze(config.freeze)

    def delta(self, w):
        return (self.b @ self.s - self.b0 @ self.s0) @ self.a

    def literal(self, w, b):
        return w - self.b0 @ self.s0 @ self.a + self.b @ self.s @ self.a, b
