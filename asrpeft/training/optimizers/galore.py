"""GaLore, AdamW in a low-rank projection of the gradient (https://arxiv.org/abs/2403.03507, Algorithm 2).

    R = Pᵀ G,   N = Adam(R),   W ← W − lr · (scale · P N + decay · W)      G (out, in)   P (out, rank), or G P with P (in, rank) where in < out

P holds the leading singular vectors of the gradient of every `refresh`-th step. Every number of W moves, and the state is that of R: rank
numbers twice for each of the larger side, and P. For `--method full`; where a parameter is no matrix, or no larger than the rank, it is
AdamW. As there, the moments stay what they are when P changes. (The paper has scale 0.25 for training from scratch and 4 at rank 4.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asrpeft.methods.settings import positive
from asrpeft.training.optimizers.base import Groups, Kind, betas, register


def leading(g: Tensor, rank: int) -> Tensor:
    """(min(out, in), rank): the leading singular vectors of g on its smaller side."""
    gram = g @ g.T if g.shape[0] <= g.shape[1] else g.T @ g  # a tenth of the time of a singular value decomposition of g
    return torch.linalg.eigh(gram)[1][:, -rank:].flip(1)


class GaLoreAdamW(torch.optim.Optimizer):
    def __init__(self, groups: Groups, config: GaLore.Config):
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.0})
        self.config = config

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, w: nn.Parameter, lr: float, decay: float) -> None:
        state, config, g = self.state[w], self.config, w.grad
        assert g is not None
        low = w.ndim == 2 and min(w.shape) > config.rank
        if low and state.get("step", 0) % config.refresh == 0:
            state["projection"] = leading(g.float(), config.rank).to(g.dtype)
        left = low and w.shape[0] <= w.shape[1]
        r = g if not low else state["projection"].T @ g if left else g @ state["projection"]
        if "step" not in state:
            state |= {"step": 0, "mean": torch.zeros_like(r), "square": torch.zeros_like(r)}
        state["step"] += 1
        state["mean"].lerp_(r, 1 - config.beta1)
        state["square"].lerp_(r.square(), 1 - config.beta2)
        mean, square = (state[name] / (1 - beta ** state["step"]) for name, beta in (("mean", config.beta1), ("square", config.beta2)))
        n = mean / (square.sqrt() + config.eps)
        if low:
            n = config.scale * (state["projection"] @ n if left else n @ state["projection"].T)
        w.mul_(1 - lr * decay).sub_(lr * n)


@register("galore")
class GaLore(Kind):
    @dataclass(frozen=True)
    class Config:
        rank: int = 64
        refresh: int = 100  # steps after which the projection is that of a new gradient
        scale: float = 1.0  # of the step of what is projected
        beta1: float = 0.9
        beta2: float = 0.98
        eps: float = 1e-8

        def __post_init__(self) -> None:
            positive("galore", rank=self.rank, refresh=self.refresh, scale=self.scale)
            betas("galore", self.beta1, self.beta2)

    @classmethod
    def make(cls, groups: Groups, config: Config) -> torch.optim.Optimizer:
        return GaLoreAdamW(groups, config)
