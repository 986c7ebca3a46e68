"""Muon, momentum made orthogonal (https://arxiv.org/abs/2502.16982), for matrices; AdamW for all else.

    m ← momentum · m + g,   O ≈ U Vᵀ of m = U S Vᵀ, by Newton and Schulz's iteration,   w ← w − lr · (0.2 · √max(out, in) · O + decay · w)      O (out, in)

With that factor a step is as large as AdamW's, so that methods' rates fit. One number of state for each of a matrix. PyTorch's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from asrpeft.methods.settings import within
from asrpeft.training.optimizers.base import Groups, Kind, register


class MuonAndAdamW(torch.optim.Optimizer):
    """Groups of matrices for the one, all others for the other; parameters' state and groups are this optimizer's."""

    def __init__(self, groups: Groups, momentum: float):
        split = [group | {"params": own} for group in groups for flat in (False, True) if (own := [p for p in group["params"] if (p.ndim != 2) == flat])]
        super().__init__(split, {"lr": 1e-3, "weight_decay": 0.0})
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if group["params"][0].ndim == 2:
                part: torch.optim.Optimizer = torch.optim.Muon([group | {}], momentum=self.momentum, adjust_lr_fn="match_rms_adamw")
            else:
                part = torch.optim.AdamW([group | {}], betas=(0.9, 0.98))
            part.state = self.state
            part.step()


@register("muon")
class Muon(Kind):
    @dataclass(frozen=True)
    class Config:
        momentum: float = 0.95

        def __post_init__(self) -> None:
            within("muon", 0, 1, momentum=self.momentum)

    @classmethod
    def make(cls, groups: Groups, config: Config) -> torch.optim.Optimizer:
        return MuonAndAdamW(groups, config.momentum)
