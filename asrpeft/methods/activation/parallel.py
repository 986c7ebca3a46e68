"""Scaled parallel adapters (https://arxiv.org/abs/2110.04366, He et al.; https://arxiv.org/abs/2304.01933 calls them parallel).

    y ← y + s · (W_u f(W_d x + b_d) + b_u)      W_d (width, dim), b_d (width,)   W_u (dim, width), b_u (dim,)

x is what a feed-forward reads (Whisper normalizes before it, so x is normalized), y what it gives, before the residual sum: the
bottleneck stands beside the feed-forward where Houlsby's stands behind it. s is fixed (the paper found 4 best), or trained with
`train_scale`. W_u and b_u start at zero, so the adapted model starts as the base; 2·dim·width + width + dim numbers train per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from asrpeft.methods.activation.houlsby import Houlsby
from asrpeft.methods.base import positive, register


@register("parallel")
class Parallel(Houlsby):
    tier = 2
    kinds = ("feedforward",)
    where = "feedforward"
    lr = 3e-3
    tries = ({"width": 3}, {"width": 4, "activation": "relu", "dropout": 0.5, "train_scale": True})

    @dataclass(frozen=True)
    class Config(Houlsby.Config):
        of: ClassVar[str] = "parallel"
        scale: float = 4.0
        train_scale: bool = False  # one number a layer, from `scale` on

        def __post_init__(self):
            super().__post_init__()
            positive(self.of, scale=self.scale)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.scale = nn.Parameter(torch.tensor(config.scale)) if config.train_scale else config.scale

    @classmethod
    def size(cls, config, layer):
        return super().size(config, layer) + config.train_scale

    def forward(self, x, y, layer):
        return self.added(y, self.scale * self.bottleneck(x), layer)

    def literal_edit(self, x, y, layer):
        return y + (super().literal_edit(x, x, layer) - x) * self.scale
