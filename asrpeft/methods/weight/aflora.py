"""AFLoRA, adaptive freezing of low-rank adaptation (https://arxiv.org/abs/2403.13269).

    ΔW = s · diag(v) B diag(d) A      A (rank, in·k)   B (out, rank)   d (rank,), v (out,) vectors after each projection   s = alpha / rank

Each projection is followed by a trained vector, as in VeRA. All train at first; from `warmup` of the run on, A's and B's freeze one after the other, the
least important first, until at 1 − `final` only vectors train: fewer numbers move, and less is there to overfit with. A matrix's
importance is AdaLoRA's, the mean of the smoothed |w · gradient| times its smoothed uncertainty; its share falls by a cubic law. v starts at zero, d at
one. rank·(out + in·k) + rank + out numbers are counted per layer; about rank + out train at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from asrpeft.methods.base import LayerAdapter, Plan, WeightConfig, gaussian, passed, positive, register, within, zeros
from asrpeft.methods.weight.adalora import SMOOTHING


class Freezing(Plan):
    """A frozen matrix has no gradient, so that no moment and no decay moves it either."""

    def __init__(self, config):
        self.config = config

    @torch.no_grad()
    def before_step(self, adapter, *, step, progress):
        config, pieces = self.config, adapter.pieces_of("aflora")
        matrices = [(piece, i, name) for piece in pieces for i, name in enumerate(("a", "b"))]
        for piece, i, name in matrices:
            w = getattr(piece, name)
            if w.grad is not None and not piece.frozen[i]:
                importance = (w * w.grad).abs().mean()
                piece.mean[i].lerp_(importance, 1 - SMOOTHING)
                piece.spread[i].lerp_((importance - piece.mean[i]).abs(), 1 - SMOOTHING)
        share = passed(progress, config.warmup, config.final)
        wanted = len(matrices) - round(len(matrices) * (1 - share) ** 3)
        left = sorted((float(piece.mean[i] * piece.spread[i]), at) for at, (piece, i, _) in enumerate(matrices) if not piece.frozen[i])
        for _, at in left[: max(0, wanted - (len(matrices) - len(left)))]:
            piece, i, _ = matrices[at]
            piece.frozen[i] = True
        for piece, i, name in matrices:
            if piece.frozen[i]:
                getattr(piece, name).grad = None


@register("aflora")
class AFLoRA(LayerAdapter):
    tier = 3
    lr = 2e-3
    narrow_lr = 0.01
    tries = ({"rank": 2}, {"rank": 3, "alpha": 2.0})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 8
        alpha: float = 16.0  # ΔW is scaled by alpha / rank
        warmup: float = 0.1  # share of the run in which everything trains
        final: float = 0.3  # share of the run in which only vectors do

        def __post_init__(self):
            positive("aflora", rank=self.rank, alpha=self.alpha)
            within("aflora", 0, 1, warmup=self.warmup, final=self.final, both=self.warmup + self.final)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out, inp), r = layer.shape, config.rank
        self.s = config.alpha / r
        self.a, self.b = gaussian(r, inp, std=inp**-0.5), gaussian(out, r, std=r**-0.5)
        self.d, self.v = nn.Parameter(torch.ones(r)), zeros(out)
        self.remember("mean", torch.zeros(2)), self.remember("spread", torch.zeros(2))
        self.remember("frozen", torch.zeros(2, dtype=torch.bool))

    @classmethod
    def size(cls, config, layer):
        return config.rank * (sum(layer.shape) + 1) + layer.shape[0]

    @classmethod
    def plan(cls, config):
        return Freezing(config)

    def delta(self, w):
        return self.s * self.v[:, None] * ((self.b * self.d) @ self.a)

    def literal(self, w, b):
        return w + self.config.alpha / self.config.rank * torch.diag(self.v) @ self.b @ torch.diag(self.d) @ self.a, b
