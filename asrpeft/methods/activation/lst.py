"""LST, ladder side-tuning: a narrow network beside the frozen one reads its layers (https://arxiv.org/abs/2206.06522).

    s₀ = D₀ h₀,   s_l = σ(g_l) D_l h_l + (1 − σ(g_l)) s_{l−1},   s_l ← s_l + P_l f(Q_l s̄_l),   y ← y + U s_L
        D_l (width, dim)   Q_l (2·width, width)   P_l (width, 2·width)   U (dim, width)

h₀ is what the first layer of the encoder (or decoder) reads, h_l what layer l gives, s̄ is s normalized; y is the last hidden state, before
the final norm. No gradient goes into the h_l: the encoder, most of the work in speech, is not passed backward at all. The
decoder is, where the encoder has a ladder, for that ladder is heard through it; `--where decoder.layers` trains without. U starts at zero, so
the adapted model starts as the base. The paper's side layers are small Transformer layers started from a pruned base; here they are
feed-forward layers, for what a token needs of the others is in the h_l, and a step with a key-value cache has only its own. On a base
in four or eight bits this is what quantized side tuning does (https://arxiv.org/abs/2401.07004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from asrpeft.methods.base import LayerAdapter, positive, register, zeros


@register("lst")
class LST(LayerAdapter):
    tier = 2
    kinds = ("stack",)
    where = "stack"
    lr = 5e-3
    mergeable = False
    tries = ({"width": 4},)

    @dataclass(frozen=True)
    class Config:
        width: int = 32  # of the side network

        def __post_init__(self):
            positive("lst", width=self.width)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (dim, _), width, n = layer.shape, config.width, layer.depth
        self.down = nn.ModuleList(nn.Linear(dim, width) for _ in range(n + 1))
        self.q = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(n))
        self.p = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(n))
        self.gate, self.up = zeros(n), zeros(dim, width)

    @classmethod
    def size(cls, config, layer):
        (dim, _), width, n = layer.shape, config.width, layer.depth
        return (n + 1) * (dim + 1) * width + n * (4 * width * width + 3 * width + 1) + dim * width

    def forward(self, x, y, layer):
        x = [h.detach() for h in x]
        downs = _linears(self.down)
        s = _apply(downs[0], x[0])
        for h, down, q, p, gate in zip(x[1:], downs[1:], _linears(self.q), _linears(self.p), self.gate.sigmoid()):
            gate = gate.to(y.dtype)
            s = gate * _apply(down, h) + (1 - gate) * s
            s = s + _apply(p, F.gelu(_apply(q, F.layer_norm(s, s.shape[-1:]))))
        return y + F.linear(s, self.up.to(s.dtype)).to(y.dtype)

    def literal_edit(self, x, y, layer):
        downs, qs, ps = _linears(self.down), _linears(self.q), _linears(self.p)
        s = x[0] @ downs[0].weight.T + downs[0].bias
        for number in range(1, len(x)):
            g = 1 / (1 + torch.exp(-self.gate[number - 1]))
            s = g * (x[number] @ downs[number].weight.T + downs[number].bias) + (1 - g) * s
            centered = s - s.mean(-1, keepdim=True)
            normal = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            q, p = qs[number - 1], ps[number - 1]
            s = s + F.gelu(normal @ q.weight.T + q.bias) @ p.weight.T + p.bias
        return y + s @ self.up.T


def _linears(held: nn.ModuleList) -> list[nn.Linear]:
    return cast(list[nn.Linear], list(held))  # a `ModuleList` does not say of what


def _apply(linear: nn.Linear, h: torch.Tensor) -> torch.Tensor:
    return F.linear(h, linear.weight.to(h.dtype), linear.bias.to(h.dtype))
