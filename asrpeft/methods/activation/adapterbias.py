"""AdapterBias, a shift whose strength depends on the token (https://arxiv.org/abs/2205.00305).

    h ← h + (a · h) v      a (dim,)   v (dim,)

h is what the feed-forward gives; one vector v is added everywhere, weighted by one number for each frame or token. v starts at zero, so
the adapted model starts as the base; 2·dim numbers train per layer. Whether the paper's linear layer for the weight has a bias
could not be checked; this one has none.
"""

from __future__ import annotations

import torch

from asrpeft.methods.base import LayerAdapter, gaussian, register, zeros


@register("adapterbias")
class AdapterBias(LayerAdapter):
    tier = 2
    kinds = ("linear",)
    where = "fc2"
    lr = 1e-2
    mergeable = False

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.a, self.v = gaussian(layer.shape[0], std=layer.shape[0] ** -0.5), zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return 2 * layer.shape[0]

    def forward(self, x, y, layer):
        return y + (y @ self.a.to(y.dtype))[..., None] * self.v.to(y.dtype)

    def literal_edit(self, x, y, layer):
        edited = [h + float(sum(p * q for p, q in zip(self.a, h))) * self.v for h in y.flatten(0, -2)]
        return torch.stack(edited).view_as(y)
