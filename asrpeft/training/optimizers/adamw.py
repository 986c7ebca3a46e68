"""AdamW, Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101): what every default rate is meant for.

    m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,   w ← w − lr · (m̂ / (√v̂ + ε) + decay · w)      m, v of w's shape

Two numbers of state for each that trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.training.optimizers.base import Groups, Kind, betas, register


@register("adamw")
class AdamW(Kind):
    @dataclass(frozen=True)
    class Config:
        beta1: float = 0.9
        beta2: float = 0.98  # a run has hundreds of steps, not millions: 0.999 would remember its first for most of it
        eps: float = 1e-8

        def __post_init__(self) -> None:
            betas("adamw", self.beta1, self.beta2)

    @classmethod
    def make(cls, groups: Groups, config: Config) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps)
