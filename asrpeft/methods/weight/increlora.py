"""IncreLoRA, ranks that grow where they are needed (https://arxiv.org/abs/2308.12043).

    ΔW = s · P diag(λ) Q      P (out, rank), Q (rank, in·k) Gaussian, of deviation 0.02   λ (rank,) zero at the start   s = alpha / target

Each layer begins with `start` triplets; from `warmup` to 1 − `final` of the run, triplets are added one at a time to the layers of the
highest importance, until there are `target` a layer on average and at most `rank` in any. A layer's importance is the mean of
its triplets', as AdaLoRA smooths them. A penalty keeps P and Q orthogonal. A triplet that has not been added has λ = 0 and does not
move; the file holds those that were, layers' ranks in `ranks`. rank·(out + in·k + 1) numbers are counted per layer. That importance, and the even
pace of growth, are this project's choice; the paper gives the growth, the form and the new triplets' zero start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from asrpeft.methods.base import WeightConfig, passed, positive, register, within
from asrpeft.methods.weight.adalora import AdaLoRA, Budget


class Growth(Budget):
    """AdaLoRA's importances and penalty, with a budget that rises."""

    def after_step(self, adapter, *, step, progress, lr):
        config = self.config
        share = passed(progress, config.warmup, config.final)
        self.grow(adapter, share)

    def finish(self, adapter):
        """What has grown has grown: the best weights may be of a time when there was less."""

    @torch.no_grad()
    def grow(self, adapter, share: float) -> None:
        """Add triplets, at most one a layer, up to `share` of the way from `start` to `target`."""
        pieces, config = adapter.pieces_of(adapter.method.name), self.config
        wanted = round(len(pieces) * (config.start + (config.target - config.start) * share))
        missing = wanted - sum(int(piece.alive.sum()) for piece in pieces)
        open_ones = [piece for piece in pieces if not bool(piece.alive.all())]
        score = [float(piece.importance()[piece.alive].mean()) for piece in open_ones]
        for _, place in sorted((-score[i], i) for i in range(len(open_ones)))[: max(0, missing)]:
            piece = open_ones[place]
            piece.alive[int(piece.alive.sum())] = True


@register("increlora")
class IncreLoRA(AdaLoRA):
    tier = 2
    lr = 1e-2  # all three factors start small, and begin with few
    narrow_lr = 0.03
    tries = ({"rank": 4, "target": 2}, {"rank": 3, "target": 3, "start": 2, "alpha": 5.0})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 16  # at most, of each layer
        target: int = 8  # of each layer at the end, on average
        start: int = 2  # of each layer
        alpha: float = 16.0  # ΔW is scaled by alpha / target
        warmup: float = 0.05  # share of the run before ranks grow
        final: float = 0.4  # share of the run after they have grown
        orthogonal: float = 0.1  # weight of the penalty on P and Q
        ranks: dict[str, int] = field(default_factory=dict)  # by layer, where another than `rank`: as a trained file says

        def __post_init__(self):
            positive("increlora", rank=self.rank, target=self.target, start=self.start, alpha=self.alpha)
            within("increlora", 0, self.rank + 1, target=self.target)
            within("increlora", 0, self.target + 1, start=self.start)
            within("increlora", 0, 1, warmup=self.warmup, final=self.final, both=self.warmup + self.final)
            within("increlora", 0, float("inf"), orthogonal=self.orthogonal, **self.ranks)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.s = config.alpha / config.target
        if layer.path not in config.ranks:  # else they have all grown
            self.alive[config.start :] = False

    @classmethod
    def plan(cls, config):
        return Growth(config)

    def left(self):
        return (self.lam * self.alive).nonzero().flatten()

    def delta(self, w):
        return self.s * ((self.p * (self.lam * self.alive)) @ self.q)

    def literal(self, w, b):
        return w + self.config.alpha / self.config.target * self.p @ torch.diag(torch.where(self.alive, self.lam, 0.0)) @ self.q, b
