"""Stochastic gradient descent with Nesterov's momentum (https://proceedings.mlr.press/v28/sutskever13.html).

    m ← momentum · m + g,   w ← w − lr · (g + momentum · m + decay · w)      m of w's shape

Its steps are as long as gradients are, so that no method's default rate fits it: say `--lr`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.settings import within
from asrpeft.training.optimizers.base import Groups, Kind, register


@register("sgd")
class SGD(Kind):
    needs_rate = True

    @dataclass(frozen=True)
    class Config:
        momentum: float = 0.9

        def __post_init__(self) -> None:
            within("sgd", 0, 1, momentum=self.momentum)

    @classmethod
    def make(cls, groups: Groups, config: Config) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=config.momentum, nesterov=config.momentum > 0)
