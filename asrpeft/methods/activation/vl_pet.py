"""VL-PET, bottlenecks under a control of chosen granularity (https://arxiv.org/abs/2308.09804).

    h ← h + G ⊙ (W_u f(W_d h + b_d) + b_u)      W_d (width, dim), b_d (width,)   W_u (dim, width), b_u (dim,)
        G = g, one number a layer (`layer`);  g (dim,) (`dimension`);  σ(a · h) for each frame or token, a (dim,) (`token`);  both of these (`large`)

h is what a sublayer gives, as with Houlsby's adapters. G says how much of the change is let through, and where; g starts at one. W_u and b_u
start at zero, so the adapted model starts as the base. The paper gives encoder and decoder different light designs; here `--where` chooses. That G is
a sigmoid where it depends on h could not be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from asrpeft.methods.activation.houlsby import ACTIVATIONS, Houlsby, by_vector
from asrpeft.methods.base import gaussian, one_of, register

CONTROLS = ("layer", "dimension", "token", "large")


@register("vl_pet")
class VLPET(Houlsby):
    tier = 3
    tries = ({"width": 3}, {"width": 2, "control": "layer"}, {"width": 2, "control": "token"}, {"width": 3, "control": "dimension", "dropout": 0.5})

    @dataclass(frozen=True)
    class Config(Houlsby.Config):
        of: ClassVar[str] = "vl_pet"
        control: str = "large"  # or "layer", "dimension", "token"

        def __post_init__(self):
            super().__post_init__()
            one_of(self.of, CONTROLS, control=self.control)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        dim = layer.shape[0]
        self.g = nn.Parameter(torch.ones(1 if config.control == "layer" else dim)) if config.control != "token" else None
        self.a = gaussian(dim, std=dim**-0.5) if config.control in ("token", "large") else None

    @classmethod
    def size(cls, config, layer):
        return super().size(config, layer) + {"layer": 1, "dimension": layer.shape[0], "token": layer.shape[0], "large": 2 * layer.shape[0]}[config.control]

    def forward(self, x, y, layer):
        change = self.bottleneck(y)
        if self.g is not None:
            change = change * self.g.to(change.dtype)
        if self.a is not None:
            change = change * (y @ self.a.to(y.dtype)).sigmoid()[..., None]
        return self.added(y, change, layer)

    def literal_edit(self, x, y, layer):
        def edited(h):
            change = self.up.weight @ ACTIVATIONS[self.config.activation](self.down.weight @ h + self.down.bias) + self.up.bias
            control = (1 if self.g is None else self.g) * (1 if self.a is None else 1 / (1 + torch.exp(-(self.a * h).sum())))
            return h + control * change

        return by_vector(y, edited)
