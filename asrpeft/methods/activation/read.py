"""READ, a small recurrent network over the depth of the frozen one (https://arxiv.org/abs/2305.15348).

    r₀ = 0,   r_l = tanh(W h_l + V r_{l−1} + b),   y ← y + U r_L      W (width, dim)   V (width, width)   b (width,)   U (dim, width)

h_l is what layer l of the encoder (or decoder) gives, l = 1 … L, and y is the last of them. The same W, V and b serve all layers, and no
gradient goes into the h_l: memory and time of a backward pass through the frozen layers are spared (see `lst` for when the decoder is
passed all the same). U starts at zero, so the adapted model starts as the base; 2·dim·width + width² + width numbers train for each
stack of layers. The paper joins h_l to the states of its own first layers and corrects sublayers of several kinds; that was simplified here, and
its recurrent cell (an Elman network, as here, or a GRU) could not be checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from asrpeft.methods.base import LayerAdapter, gaussian, positive, register, zeros


@register("read")
class READ(LayerAdapter):
    tier = 3
    kinds = ("stack",)
    where = "stack"
    lr = 5e-3
    mergeable = False
    tries = ({"width": 4},)

    @dataclass(frozen=True)
    class Config:
        width: int = 64  # of the recurrent state

        def __post_init__(self):
            positive("read", width=self.width)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (dim, _), width = layer.shape, config.width
        self.w, self.v = gaussian(width, dim, std=dim**-0.5), gaussian(width, width, std=width**-0.5)
        self.b, self.up = zeros(width), zeros(dim, width)

    @classmethod
    def size(cls, config, layer):
        return 2 * layer.shape[0] * config.width + config.width**2 + config.width

    def forward(self, x, y, layer):
        w, v, b = (part.to(y.dtype) for part in (self.w, self.v, self.b))
        r = torch.tanh(F.linear(x[1].detach(), w, b))
        for h in x[2:]:
            r = torch.tanh(F.linear(h.detach(), w, b) + F.linear(r, v))
        return y + F.linear(r, self.up.to(r.dtype)).to(y.dtype)

    def literal_edit(self, x, y, layer):
        out = []
        for place in zip(*(h.flatten(0, -2) for h in x[1:])):
            r = torch.zeros_like(self.b)
            for h in place:
                r = torch.tanh(self.w @ h + self.v @ r + self.b)
            out.append(place[-1] + self.up @ r)
        return torch.stack(out).view_as(y)
