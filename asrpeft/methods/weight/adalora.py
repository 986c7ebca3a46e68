"""AdaLoRA, adaptive budget allocation (https://arxiv.org/abs/2303.10512).

    ΔW = s · P diag(λ) Q      P (out, rank), Q (rank, in·k) Gaussian, of deviation 0.02   λ (rank,) zero at the start   s = alpha / rank

Each layer begins with `rank` triplets; all layers together end with `target` a layer on average, given to those that need
them. A triplet's importance is that of λᵢ plus the means of those of Pᵢ and Qᵢ, where a number's importance is the smoothed
|w · gradient| times the smoothed distance from it. From `warmup` to 1 − `final` of the run the budget falls by a cubic law; what is outside
it has its λ set to zero, and may come back until the budget is reached. A penalty keeps P and Q orthogonal. The file
holds what is left, layers' ranks in `ranks`; rank·(out + in·k + 1) numbers train per layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from asrpeft.methods.base import LayerAdapter, Plan, WeightConfig, gaussian, passed, positive, register, within, zeros

SMOOTHING = 0.85  # of importances, and of their uncertainty


class Budget(Plan):
    def __init__(self, config):
        self.config = config

    def penalty(self, adapter):
        gram = [m for piece in adapter.pieces_of(adapter.method.name) for m in (piece.p.T @ piece.p, piece.q @ piece.q.T)]
        return self.config.orthogonal * sum((m - torch.eye(len(m), device=m.device)).square().sum() for m in gram) / len(gram)

    @torch.no_grad()
    def before_step(self, adapter, *, step, progress):
        for piece in adapter.pieces_of(adapter.method.name):
            for name in ("p", "lam", "q"):
                w, mean, spread = getattr(piece, name), getattr(piece, f"{name}_mean"), getattr(piece, f"{name}_spread")
                importance = (w * w.grad).abs()
                mean.lerp_(importance, 1 - SMOOTHING)
                spread.lerp_((importance - mean).abs(), 1 - SMOOTHING)

    def after_step(self, adapter, *, step, progress, lr):
        self.allocate(adapter, passed(progress, self.config.warmup, self.config.final))

    def finish(self, adapter):
        self.allocate(adapter, 1.0)  # the best weights may be of a time when the budget was larger

    @torch.no_grad()
    def allocate(self, adapter, share: float) -> None:
        """Set λ to zero outside the budget at `share` of its fall."""
        pieces, config = adapter.pieces_of(adapter.method.name), self.config
        if share == 0.0:
            return
        each = config.target + (config.rank - config.target) * (1 - share) ** 3
        if not bool(pieces[0].settled):  # once the budget is reached, what fell stays down
            score = torch.cat([piece.importance() for piece in pieces])
            kept = torch.zeros_like(score, dtype=torch.bool)
            kept[score.topk(min(len(score), round(each * len(pieces)))).indices] = True
            for piece, own in zip(pieces, kept.split([len(piece.lam) for piece in pieces])):
                piece.alive.copy_(own)
            pieces[0].settled.fill_(share == 1.0)
        for piece in pieces:
            piece.lam.mul_(piece.alive)


@register("adalora")
class AdaLoRA(LayerAdapter):
    tier = 1
    # After 25 steps 3e-2 is best on both bases that were tried, and 1e-1 diverges on one: P, Q and λ begin small. recipes/real-encoder.md
    lr = 1e-2
    narrow_lr = 0.03
    tries = ({"rank": 4, "target": 2}, {"rank": 2, "target": 1, "alpha": 5.0})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 12  # of each layer at the start
        target: int = 8  # of each layer at the end, on average
        alpha: float = 24.0  # ΔW is scaled by alpha / rank
        warmup: float = 0.1  # share of the run before the budget falls
        final: float = 0.4  # share of the run after it has fallen
        orthogonal: float = 0.1  # weight of the penalty on P and Q
        ranks: dict[str, int] = field(default_factory=dict)  # by layer, where another than `rank`: as a trained file says

        def __post_init__(self):
            positive("adalora", rank=self.rank, target=self.target, alpha=self.alpha)
            within("adalora", 0, self.rank + 1, target=self.target)
            within("adalora", 0, 1, warmup=self.warmup, final=self.final, both=self.warmup + self.final)
            within("adalora", 0, float("inf"), orthogonal=self.orthogonal, **self.ranks)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out, inp), r = layer.shape, config.ranks.get(layer.path, config.rank)
        self.s = config.alpha / config.rank
        self.p, self.q, self.lam = gaussian(out, r, std=0.02), gaussian(r, inp, std=0.02), zeros(r)
        for name in ("p", "lam", "q"):
            for of in ("mean", "spread"):
                self.remember(f"{name}_{of}", torch.zeros_like(getattr(self, name)))
        self.remember("alive", torch.ones(r, dtype=torch.bool)), self.remember("settled", torch.tensor(False))

    @classmethod
    def size(cls, config, layer):
        return config.ranks.get(layer.path, config.rank) * (sum(layer.shape) + 1)

    @classmethod
    def plan(cls, config):
        return Budget(config)

    @classmethod
    def compact(cls, config, pieces):
        left = {path: piece.left() for path, piece in pieces.items()}
        if all(len(piece.lam) == 0 or not len(left[path]) for path, piece in pieces.items()):
            return super().compact(config, pieces)  # one that was never trained
        cut = {path: {"p": piece.p[:, left[path]], "q": piece.q[left[path]], "lam": piece.lam[left[path]]} for path, piece in pieces.items()}
        return replace(config, ranks={path: len(own) for path, own in left.items()}), cut

    @classmethod
    def report(cls, pieces):
        kept = {path: len(piece.left()) for path, piece in pieces.items()}
        return {"rank_by_layer": kept, "mean_rank": sum(kept.values()) / len(kept)}

    def left(self) -> torch.Tensor:
        """Which triplets do something."""
        return self.lam.nonzero().flatten()

    def importance(self) -> torch.Tensor:
        """(rank,) of the triplets."""
        of_p, of_q = self.p_mean * self.p_spread, self.q_mean * self.q_spread
        return self.lam_mean * self.lam_spread + of_p.mean(dim=0) + of_q.mean(dim=1)

    def delta(self, w):
        return self.s * ((self.p * self.lam) @ self.q)

    def literal(self, w, b):
        return w + self.config.alpha / self.config.rank * self.p @ torch.diag(self.lam) @ self.q, b
