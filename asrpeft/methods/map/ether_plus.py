"""ETHER+, relaxed hyperplane reflections on both sides (https://arxiv.org/abs/2405.20271).

    W' = G W H,   H = I − ûûᵀ + v̂v̂ᵀ,   G = I − p̂p̂ᵀ + q̂q̂ᵀ      u, v (blocks, in·k / blocks)   p, q (blocks, out / blocks)

All vectors are used at unit length, block by block of the inputs and of the outputs. u = v and p = q at the start, where W' is W; how far
it can go is bounded, as with `ether`, so large learning rates are safe. 2·(in·k + out) numbers train per layer; the bias stays, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from asrpeft.methods.base import Facts, LayerAdapter, gaussian, positive, register
from asrpeft.methods.map.ether import projected, whole
from asrpeft.methods.map.oft import divisor


@register("ether_plus")
class ETHERPlus(LayerAdapter):
    tier = 2
    kinds = ("linear", "conv1d")
    lr = 5e-2
    tries = ({"blocks": 2},)

    @dataclass(frozen=True)
    class Config:
        blocks: int = 4  # on each side, or what divides it

        def __post_init__(self):
            positive("ether_plus", blocks=self.blocks)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        for (minus, plus), n in zip((("u", "v"), ("p", "q")), reversed(layer.shape)):
            blocks = divisor(n, config.blocks)
            setattr(self, minus, gaussian(blocks, n // blocks))
            setattr(self, plus, nn.Parameter(getattr(self, minus).detach().clone()))

    @classmethod
    def fits(cls, layer, config):
        return super().fits(layer, config) and all(n > divisor(n, config.blocks) for n in layer.shape)

    @classmethod
    def size(cls, config, layer):
        return 2 * sum(layer.shape)

    @classmethod
    def facts(cls, config, name):
        return Facts(decay=0.0)  # the length of a vector does nothing

    def merged(self, w, b):
        w = w - projected(w, self.u) + projected(w, self.v)
        return (w.T - projected(w.T, self.p) + projected(w.T, self.q)).T, b

    def literal(self, w, b):
        right, left = (torch.eye(n, dtype=w.dtype) for n in reversed(w.shape))
        return (left - whole(self.p) + whole(self.q)) @ w @ (right - whole(self.u) + whole(self.v)), b
