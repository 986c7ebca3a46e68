"""SNNK, a bottleneck as a kernel of random features (https://arxiv.org/abs/2310.13225).

    h ← h + Θ φ(h),   φ(h) = f(G h) / √width      Θ (dim, width)   G (width, dim)

h is what a sublayer gives, as with Houlsby's adapters. The layer's input and its parameters meet in one product alone: G is a frozen
Gaussian, drawn from `seed` and never stored, Θ trains and starts at zero, so the adapted model starts as the base. dim·width numbers train
per place, half of a bottleneck's. The paper passes Θ through a kernel's map of its own, too; training its image, as here, is the form in
which nothing is lost by that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from asrpeft.methods.activation.houlsby import ACTIVATIONS, by_vector
from asrpeft.methods.base import LayerAdapter, one_of, positive, register, within, zeros


@register("snnk")
class SNNK(LayerAdapter):
    tier = 3
    kinds = ("linear",)
    where = "out_proj,fc2"
    lr = 5e-3
    mergeable = False
    tries = ({"width": 4}, {"width": 3, "activation": "tanh", "seed": 2})

    @dataclass(frozen=True)
    class Config:
        width: int = 32  # random features
        activation: str = "gelu"
        seed: int = 0

        def __post_init__(self):
            positive("snnk", width=self.width)
            one_of("snnk", tuple(ACTIVATIONS), activation=self.activation)
            within("snnk", 0, 2**63, seed=self.seed)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.theta, self.path = zeros(layer.shape[0], config.width), layer.path

    @classmethod
    def size(cls, config, layer):
        return layer.shape[0] * config.width

    def features(self, like):
        return self.pool.drawn(f"snnk {self.path}", self.config.width, self.theta.shape[0], seed=self.config.seed, like=like)

    def forward(self, x, y, layer):
        phi = ACTIVATIONS[self.config.activation](F.linear(y, self.features(y))) / self.config.width**0.5
        return y + F.linear(phi, self.theta.to(phi.dtype))

    def literal_edit(self, x, y, layer):
        g, f = self.features(y), ACTIVATIONS[self.config.activation]
        return by_vector(y, lambda h: h + sum(self.theta[:, i] * f((g[i] * h).sum()) for i in range(len(g))) / len(g) ** 0.5)
