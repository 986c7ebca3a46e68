"""Prompt tuning (Lester et al., 2021, https://arxiv.org/abs/2104.08691), on the decoder's input.

    decoder input = [P ; E(y)]      P (tokens, dim), trained

tokens·dim numbers train. The rows take decoder positions 0 … tokens−1, so they count against Whisper's 448.
P starts as embeddings of sampled vocabulary tokens (`start="vocabulary"`, the paper's better start), or uniform in
[−0.5, 0.5] (`start="random"`). A fresh prompt is read by the network, so it does change the output: a declared exception.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from asrpeft.errors import BadInput
from asrpeft.methods.base import LayerAdapter, positive, register


@register("prompt")
class Prompt(LayerAdapter):
    kinds = ("decoder",)
    where = "decoder"
    lr = 1e-2
    neutral = False
    mergeable = False
    tries = ({"tokens": 3}, {"tokens": 2, "start": "random"})

    @dataclass(frozen=True)
    class Config:
        tokens: int = 16
        start: str = "vocabulary"  # or "random"

        def __post_init__(self):
            positive("prompt", tokens=self.tokens)
            if self.start not in ("vocabulary", "random"):
                raise BadInput(f"prompt: start={self.start!r} is neither 'vocabulary' nor 'random'.")

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        limit = layer.module.max_target_positions
        if config.tokens >= limit // 2:
            raise BadInput(f"prompt: {config.tokens} tokens leave too few of the decoder's {limit} positions for text; "
                           f"use fewer than {limit // 2}.")  # fmt: skip
        if config.start == "vocabulary":
            vocabulary = layer.vocabulary
            rows = vocabulary[torch.randint(len(vocabulary), (config.tokens,))].detach().clone().float()
        else:
            rows = torch.rand(config.tokens, layer.shape[0]) - 0.5
        self.p = nn.Parameter(rows)

    @classmethod
    def size(cls, config, layer):
        return config.tokens * layer.shape[0]

    def rows(self):
        return (self.p,)
