"""LoRA, low-rank adaptation (https://arxiv.org/abs/2106.09685), with rank-stabilised scaling (https://arxiv.org/abs/2312.03732).

    ΔW = s · B A      A (rank, in·k)   B (out, rank)   s = alpha / rank, or alpha / √rank with `scale="rs"`

B starts at zero, so the adapted model starts as the base; rank·(out + in·k) numbers train per layer. On an Embedding the
zeros are in A (rank, vocabulary), as in the authors' reference code: with `head=False` only the tokens seen in training move.
On a Conv1d the unmerged form is two convolutions: the layer's own kernel into `rank` channels, then a kernel of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from asrpeft.errors import BadInput
from asrpeft.methods.base import LayerAdapter, WeightConfig, gaussian, positive, register, zeros


@register("lora")
class LoRA(LayerAdapter):
    tries = ({"rank": 2}, {"rank": 3, "scale": "rs", "dropout": 0.5})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 8
        alpha: float = 16.0  # ΔW is scaled by alpha / rank
        scale: str = "standard"  # or "rs": alpha / √rank, which keeps high ranks trainable
        dropout: float = 0.0  # on the input of A, in training

        def __post_init__(self):
            positive("lora", rank=self.rank, alpha=self.alpha)
            if self.scale not in ("standard", "rs"):
                raise BadInput(f"lora: scale={self.scale!r} is neither 'standard' nor 'rs'.")
            if not 0 <= self.dropout < 1:
                raise BadInput(f"lora: dropout={self.dropout} is not in [0, 1).")

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out, inp), r = layer.shape, config.rank
        self.s = config.alpha / (math.sqrt(r) if config.scale == "rs" else r)
        if layer.kind == "embedding":
            self.a, self.b = zeros(r, inp), gaussian(out, r)
        else:
            self.a, self.b = nn.Parameter(torch.empty(r, inp)), zeros(out, r)
            nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    @classmethod
    def size(cls, config, layer):
        return config.rank * sum(layer.shape)

    def delta(self, w):
        return self.s * (self.b @ self.a)

    def forward(self, x, y, layer):
        if layer.kind != "embedding" and self.config.dropout and self.training:
            x = F.dropout(x, self.config.dropout)
        if layer.kind == "conv1d" and layer.grouped:  # the ranks mix groups, two thin convolutions cannot
            return super().forward(x, y, layer)
        thin = layer.run(x, self.a)
        up = self.b.to(thin.dtype)
        wide = F.conv1d(thin, up[:, :, None]) if layer.kind == "conv1d" else F.linear(thin, up)
        return y + self.s * wide

    def head(self, h, logits, layer):
        return logits + self.s * F.linear(F.linear(h, self.b.T.to(h.dtype)), self.a.T.to(h.dtype))
