"""Spectral adapters, the leading singular vectors moved or turned (https://arxiv.org/abs/2405.13952).

    W' = (Uᵣ + ΔU) Σᵣ (Vᵣ + ΔV)ᵀ + rest,   or   (Uᵣ R) Σᵣ (Vᵣ Q)ᵀ + rest      U (out, rank), V (in·k, rank) frozen   ΔU, ΔV like them, or R, Q (rank, rank)

`mode="add"` trains ΔU and ΔV from zero: rank·(out + in·k) numbers a layer, and twice LoRA's rank for them. `mode="rotate"` trains the
orthogonal R and Q, by Cayley from skew matrices that start at zero: rank·(rank − 1) numbers. `rest` is W less its leading part, and frozen.
U, Σ and V are in the file, for those of a base in half precision are others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import LayerAdapter, WeightConfig, one_of, positive, register, zeros
from asrpeft.methods.map.oft import cayley
from asrpeft.methods.weight.lora_xs import leading, rank_at


@register("spectral")
class Spectral(LayerAdapter):
    tier = 3
    tries = ({"rank": 2}, {"rank": 3, "mode": "rotate"})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 16
        mode: str = "add"  # or rotate

        def __post_init__(self):
            positive("spectral", rank=self.rank)
            one_of("spectral", ("add", "rotate"), mode=self.mode)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        u, sigma, v = leading(layer, config.rank)
        self.keep("u", u), self.keep("sigma", sigma), self.keep("v", v)
        r = len(sigma)
        skew = (1, r * (r - 1) // 2)
        self.left, self.right = (zeros(*u.shape), zeros(*v.shape)) if config.mode == "add" else (zeros(*skew), zeros(*skew))

    @classmethod
    def fits(cls, layer, config):
        return super().fits(layer, config) and (config.mode == "add" or rank_at(layer, config.rank) > 1)

    @classmethod
    def rate(cls, config, width):
        return 1e-3 if config.mode == "add" else 1e-2

    @classmethod
    def size(cls, config, layer):
        r = rank_at(layer, config.rank)
        return r * sum(layer.shape) if config.mode == "add" else r * (r - 1)

    @classmethod
    def stored_size(cls, config, layers):
        return sum(cls.size(config, layer) + rank_at(layer, config.rank) * (1 + sum(layer.shape)) for layer in layers)

    def delta(self, w):
        if self.config.mode == "add":
            return (self.left * self.sigma) @ (self.v + self.right) + (self.u * self.sigma) @ self.right
        (left,), (right,) = cayley(self.left, len(self.sigma)), cayley(self.right, len(self.sigma))
        return self.u @ ((left * self.sigma) @ right.T - torch.diag(self.sigma)) @ self.v

    def literal(self, w, b):
        if self.config.mode == "add":
            u, v = self.u + self.left, (self.v + self.right).T
        else:
            u, v = self.u @ cayley(self.left, len(self.sigma))[0], self.v.T @ cayley(self.right, len(self.sigma))[0]
        s = torch.diag(self.sigma)
        return w - self.u @ s @ self.v + u @ s @ v.T, b
