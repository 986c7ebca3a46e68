"""A learned language vector, for a language that the base has no token for.

    E[slot] := v for the adapter's rows      v (dim,), trained

The vocabulary never grows: `transformers` takes ids beyond `<|notimestamps|>` for timestamps. A language token that the
adapter does not need is the slot; every other row of the batch keeps that token's own meaning. dim numbers train. It is a
part of an adapter of any method rather than a method of its own. v starts as the slot's own vector (the proxy language).
Source: token choice hardly matters for Uyghur trained under other languages' tokens (https://github.com/yeyupiaoling/Whisper-Finetune).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from asrpeft.methods.base import LayerAdapter


class LanguageVector(LayerAdapter):
    name = "language"
    kinds = ("embedding",)

    @dataclass(frozen=True)
    class Config:
        slot: int = 0  # token id

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.v = nn.Parameter(layer.matrix[:, config.slot].detach().clone().float())

    @classmethod
    def size(cls, config, layer):
        return layer.shape[0]

    def forward(self, x, y, layer):
        return torch.where((x == self.config.slot)[..., None], self.v.to(y.dtype), y)

    def head(self, h, logits, layer):
        own = (h @ self.v.to(h.dtype))[..., None]
        return torch.cat([logits[..., : self.config.slot], own.to(logits.dtype), logits[..., self.config.slot + 1 :]], dim=-1)

    def merged(self, w, b):
        w = w.clone()
        w[:, self.config.slot] = self.v
        return w, b
