"""Houlsby adapters, bottlenecks after attention and after feed-forward (https://arxiv.org/abs/1902.00751).

    h ← h + W_u f(W_d h + b_d) + b_u      W_d (width, dim), b_d (width,)   W_u (dim, width), b_u (dim,)

h is what a sublayer's last projection gives, before it is added to the residual stream: `out_proj` of each attention block
and `fc2`. W_u and b_u start at zero, so the adapted model starts as the base; 2·dim·width + width + dim numbers train per place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from asrpeft.methods.base import LayerAdapter, one_of, positive, register, within

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": F.tanh}


@register("houlsby")
class Houlsby(LayerAdapter):
    kinds = ("linear",)
    where = "out_proj,fc2"
    mergeable = False
    tries = ({"width": 3}, {"width": 4, "activation": "relu", "dropout": 0.5})

    @dataclass(frozen=True)
    class Config:
        of: ClassVar[str] = "houlsby"
        width: int = 32  # of the bottleneck
        activation: str = "gelu"
        dropout: float = 0.0  # inside the bottleneck, in training

        def __post_init__(self):
            positive(self.of, width=self.width)
            one_of(self.of, tuple(ACTIVATIONS), activation=self.activation)
            within(self.of, 0, 1, dropout=self.dropout)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        dim = layer.shape[0]
        self.down, self.up = nn.Linear(dim, config.width), nn.Linear(config.width, dim)
        nn.init.zeros_(self.up.weight), nn.init.zeros_(self.up.bias)

    @classmethod
    def size(cls, config, layer):
        dim = layer.shape[0]
        return 2 * dim * config.width + config.width + dim

    def forward(self, x, y, layer):
        h = ACTIVATIONS[self.config.activation](F.linear(y, self.down.weight.to(y.dtype), self.down.bias.to(y.dtype)))
        h = F.dropout(h, self.config.dropout, self.training)
        return y + F.linear(h, self.up.weight.to(h.dtype), self.up.bias.to(h.dtype))
