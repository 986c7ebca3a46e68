"""Adafactor, second moments as the product of a row's and a column's (https://arxiv.org/abs/1804.04235).

    V̂ = r cᵀ / mean(r)   r, c: means of g² over rows and columns   w ← w − lr · g / √V̂ / max(1, RMS(g / √V̂) / clip)      r (out,)  c (in,)

out + in numbers of state for a matrix of out·in, which counts where `full` trains a whole base. As `transformers` keeps it, with the
rate that is given: not relative to the size of a parameter, for an adapter's begin at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.settings import positive, within
from asrpeft.training.optimizers.base import Groups, Kind, register


@register("adafactor")
class Adafactor(Kind):
    @dataclass(frozen=True)
    class Config:
        clip: float = 1.0  # largest root mean square of a parameter's step, in units of the rate
        beta1: float = 0.0  # above 0: first moments too, which cost as much as AdamW's

        def __post_init__(self) -> None:
            positive("adafactor", clip=self.clip)
            within("adafactor", 0, 1, beta1=self.beta1)

    @classmethod
    def make(cls, groups: Groups, config: Config) -> torch.optim.Optimizer:
        from transformers.optimization import Adafactor as Kept

        return Kept(groups, lr=groups[0]["lr"], clip_threshold=config.clip, beta1=config.beta1 or None, relative_step=False, scale_parameter=False)
