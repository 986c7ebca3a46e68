"""UniPT, every layer's output attended to from the last one's (https://arxiv.org/abs/2308.14316).

    c_l = softmax_l(⟨D h_l, D y⟩ / √width),   y ← y + U Σ_l c_l f(D_l h_l)      D, D_l (width, dim)   U (dim, width)

h_l is what layer l gives (h₀ what the first reads), y the last of them: each frame or token decides how far each layer's view of it is to be
trusted. No gradient goes into the h_l (see `lst`). U starts at zero, so the adapted model starts as the base; (L + 3)·dim·width numbers
train for each stack of L layers. The paper lets layers interact with the last one before they are weighted, in a form that could
not be checked; here the weights are that interaction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from asrpeft.methods.base import LayerAdapter, gaussian, positive, register, zeros


@register("unipt")
class UniPT(LayerAdapter):
    tier = 3
    kinds = ("stack",)
    where = "stack"
    lr = 5e-3
    mergeable = False
    tries = ({"width": 4},)

    @dataclass(frozen=True)
    class Config:
        width: int = 32

        def __post_init__(self):
            positive("unipt", width=self.width)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (dim, _), width = layer.shape, config.width
        self.common = gaussian(width, dim, std=dim**-0.5)
        self.down, self.up = gaussian(layer.depth + 1, width, dim, std=dim**-0.5), zeros(dim, width)

    @classmethod
    def size(cls, config, layer):
        return (layer.depth + 3) * layer.shape[0] * config.width

    def forward(self, x, y, layer):
        h = torch.stack([one.detach() for one in x], dim=-2)  # (rows, n, layers, dim)
        common, down = self.common.to(h.dtype), self.down.to(h.dtype)
        alike = (F.linear(h, common) * F.linear(h[..., -1:, :], common)).sum(-1) / self.config.width**0.5
        seen = F.gelu(torch.einsum("...ld,lwd->...lw", h, down))
        joined = (alike.softmax(-1)[..., None].to(seen.dtype) * seen).sum(-2)
        return y + F.linear(joined, self.up.to(joined.dtype)).to(y.dtype)

    def literal_edit(self, x, y, layer):
        out = []
        for place in zip(*(h.flatten(0, -2) for h in x)):
            alike = torch.stack([(self.common @ h) @ (self.common @ place[-1]) for h in place]) / self.config.width**0.5
            trust = alike.exp() / alike.exp().sum()
            out.append(place[-1] + self.up @ sum(c * F.gelu(d @ h) for c, d, h in zip(trust, self.down, place)))
        return torch.stack(out).view_as(y)
