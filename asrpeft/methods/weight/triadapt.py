"""TriAdaptLoRA, triangular factors whose rank grows where their norm passes a moving threshold (https://arxiv.org/abs/2501.08008).

    ΔW = s · L U      L (out, rank), nothing above its diagonal   U (rank, in·k), nothing below its diagonal   s = alpha / target

What a triangle leaves out of LoRA's factors could be turned away without a change of their product: rank·(out + in·k − rank + 1) numbers
train per layer. A layer begins with rank `start`. Its score is the Frobenius norm of ΔW over √(out·in·k); from `warmup` to 1 − `final` of the
run a rank is added to layers whose score lies above the threshold, the highest first, while there are fewer than an even pace
has earned, until there are `target` a layer on average and at most `rank` in any. The threshold follows the mean score of the layers. L starts at
zero, and so does the column of a rank to come; the file holds the ranks there are, by layer in `ranks`. That the triangles are those of an LU
factorization, and how the threshold moves, could not be checked in every detail.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from asrpeft.methods.base import LayerAdapter, Plan, WeightConfig, passed, positive, register, within

FOLLOWS = 0.1  # how far the threshold goes, in a step, to the mean score of the layers


class MovingThreshold(Plan):
    """Adds ranks to layers whose score passes a threshold that follows all layers' scores."""

    def __init__(self, config):
        self.config = config

    @torch.no_grad()
    def after_step(self, adapter, *, step, progress, lr):
        pieces, config = adapter.pieces_of("triadapt"), self.config
        scores, threshold = torch.stack([piece.score() for piece in pieces]), adapter.pool["threshold"]
        threshold.lerp_(scores.mean(), FOLLOWS)
        share = passed(progress, config.warmup, config.final)
        missing = round(len(pieces) * (config.start + (config.target - config.start) * share)) - sum(int(piece.active) for piece in pieces)
        above = [i for i, score in enumerate(scores.tolist()) if score > float(threshold) and int(pieces[i].active) < pieces[i].rank]
        for i in sorted(above, key=lambda i: (-float(scores[i]), i))[: max(0, missing)]:
            pieces[i].active.add_(1)


@register("triadapt")
class TriAdapt(LayerAdapter):
    tier = 3
    lr = 3e-3
    tries = ({"rank": 4, "target": 2}, {"rank": 3, "target": 3, "start": 2, "alpha": 5.0})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 16  # at most, of each layer
        target: int = 8  # of each layer at the end, on average
        start: int = 2  # of each layer
        alpha: float = 16.0  # ΔW is scaled by alpha / target
        warmup: float = 0.05  # share of the run before ranks grow
        final: float = 0.4  # share of the run after they have grown
        ranks: dict[str, int] = field(default_factory=dict)  # by layer, where another than `rank`: as a trained file says

        def __post_init__(self):
            positive("triadapt", rank=self.rank, target=self.target, start=self.start, alpha=self.alpha)
            within("triadapt", 0, self.rank + 1, target=self.target)
            within("triadapt", 0, self.target + 1, start=self.start)
            within("triadapt", 0, 1, warmup=self.warmup, final=self.final, both=self.warmup + self.final)
            within("triadapt", 0, float("inf"), **self.ranks)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out, inp), self.rank = layer.shape, config.ranks.get(layer.path, config.rank)
        self.s = config.alpha / config.target
        self.lower = nn.Parameter(torch.zeros(_n(out, self.rank)))
        self.upper = nn.Parameter(torch.randn(_n(inp, self.rank)) * inp**-0.5)
        self.remember("active", torch.tensor(self.rank if layer.path in config.ranks else config.start))
        if "threshold" not in pool:
            pool.remember("threshold", torch.zeros(()))
        self.shape = layer.shape

    @classmethod
    def fits(cls, layer, config):
        return super().fits(layer, config) and config.rank <= min(layer.shape)

    @classmethod
    def size(cls, config, layer):
        rank = config.ranks.get(layer.path, config.rank)
        return sum(_n(side, rank) for side in layer.shape)

    @classmethod
    def plan(cls, config):
        return MovingThreshold(config)

    @classmethod
    def compact(cls, config, pieces):
        """The ranks there are, if it was trained at all."""
        left = {path: int(piece.active) for path, piece in pieces.items()}
        if not any(bool(piece.lower.any()) for piece in pieces.values()):
            return super().compact(config, pieces)
        cut = {}
        for path, piece in pieces.items():
            low, up = (factor[:, : left[path]] for factor in piece.whole())
            cut[path] = {"lower": low[_triangle(low)], "upper": up[_triangle(up)]}
        return replace(config, ranks=left), cut

    @classmethod
    def report(cls, pieces):
        kept = {path: int(piece.active) for path, piece in pieces.items()}
        return {"rank_by_layer": kept, "mean_rank": sum(kept.values()) / len(kept)}

    def whole(self) -> tuple[Tensor, Tensor]:
        """L (out, rank) and Uᵀ (in·k, rank)."""
        made = [torch.zeros(side, self.rank, dtype=self.lower.dtype, device=self.lower.device) for side in self.shape]
        return made[0].masked_scatter(_triangle(made[0]), self.lower), made[1].masked_scatter(_triangle(made[1]), self.upper)

    def score(self) -> Tensor:
        """‖ΔW‖ over √(out·in·k)."""
        return self.delta(None).norm() / (self.shape[0] * self.shape[1]) ** 0.5

    def delta(self, w):
        low, up = self.whole()
        return self.s * ((low * (torch.arange(self.rank, device=low.device) < self.active)) @ up.T)

    def literal(self, w, b):
        low, up, n = torch.zeros(w.shape[0], self.rank).to(w), torch.zeros(self.rank, w.shape[1]).to(w), int(self.active)
        places = [(row, column) for row in range(w.shape[0]) for column in range(min(row + 1, self.rank))]
        for (row, column), number in zip(places, self.lower):
            low[row, column] = number
        places = [(row, column) for column in range(w.shape[1]) for row in range(min(column + 1, self.rank))]
        for (row, column), number in zip(places, self.upper):
            up[row, column] = number
        return w + self.config.alpha / self.config.target * low[:, :n] @ up[:n], b


def _n(side: int, rank: int) -> int:
    """How many numbers a triangle of (side, rank) holds."""
    return side * rank - rank * (rank - 1) // 2


def _triangle(factor: Tensor) -> Tensor:
    return torch.ones_like(factor, dtype=torch.bool).tril()
