"""LoRETTA's adapters, bottlenecks whose matrices are tensor trains (https://arxiv.org/abs/2402.11417, its adapter form).

    h ← h + W_u f(W_d h + b_d) + b_u,    W[o₁…o_p, i₁…i_q] = G₁[o₁] ⋯ G_p[o_p] G_{p+1}[i₁] ⋯ G_{p+q}[i_q]      W_d (width, dim)   W_u (dim, width)

h is what a sublayer gives, as with Houlsby's adapters. Each matrix is a chain of small cores G_j (rank, d_j, rank) over the factors of its
sides, `axes` on each: about rank² · Σ d_j numbers for each of the two, besides width + dim biases. The first core of W_u starts at zero, so the adapted model
starts as the base. The deviation of the others, one over the root of the rank, and of W_d's first, could not be checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from asrpeft.methods.activation.houlsby import ACTIVATIONS, by_vector
from asrpeft.methods.base import LayerAdapter, gaussian, one_of, positive, register, zeros
from asrpeft.methods.weight.quanta import factors


def shapes(sides: tuple[int, int], rank: int, axes: int) -> list[tuple[int, int, int]]:
    dims = [d for side in sides for d in factors(side, axes)]
    ranks = [1, *[rank] * (len(dims) - 1), 1]
    return list(zip(ranks, dims, ranks[1:]))


def whole(cores, sides: tuple[int, int]):
    """The matrix (out, in) that a chain of cores is."""
    chain = cores[0]
    for core in list(cores)[1:]:
        chain = (chain.flatten(0, 1) @ core.flatten(1)).view(1, -1, core.shape[2])
    return chain.view(sides)


@register("loretta_adp")
class LoRETTAAdapter(LayerAdapter):
    tier = 3
    kinds = ("linear",)
    where = "out_proj,fc2"
    lr = 1e-2
    mergeable = False
    tries = ({"width": 4, "rank": 2, "axes": 2}, {"width": 3, "rank": 1, "axes": 1, "activation": "relu"})

    @dataclass(frozen=True)
    class Config:
        width: int = 64  # of the bottleneck
        rank: int = 5
        axes: int = 3  # that each side is cut into
        activation: str = "gelu"

        def __post_init__(self):
            positive("loretta_adp", width=self.width, rank=self.rank, axes=self.axes)
            one_of("loretta_adp", tuple(ACTIVATIONS), activation=self.activation)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        dim, width = layer.shape[0], config.width
        self.sides = (width, dim), (dim, width)
        down, up = (shapes(sides, config.rank, config.axes) for sides in self.sides)
        self.down = nn.ParameterList([gaussian(*down[0], std=dim**-0.5), *(gaussian(*s, std=config.rank**-0.5) for s in down[1:])])
        self.up = nn.ParameterList([zeros(*up[0]), *(gaussian(*s, std=config.rank**-0.5) for s in up[1:])])
        self.b_down, self.b_up = zeros(width), zeros(dim)

    @classmethod
    def size(cls, config, layer):
        sides = layer.shape[0], config.width
        cores = [*shapes(sides, config.rank, config.axes), *shapes(sides[::-1], config.rank, config.axes)]
        return sum(left * d * right for left, d, right in cores) + sum(sides)

    def forward(self, x, y, layer):
        down, up = (whole(cores, sides).to(y.dtype) for cores, sides in zip((self.down, self.up), self.sides))
        h = ACTIVATIONS[self.config.activation](F.linear(y, down, self.b_down.to(y.dtype)))
        return y + F.linear(h, up.to(h.dtype), self.b_up.to(h.dtype))

    def literal_edit(self, x, y, layer):
        def entry(cores, row, column):
            dims, at = [core.shape[1] for core in cores], []
            for place, own in ((row, dims[: len(dims) // 2]), (column, dims[len(dims) // 2 :])):
                digits: list[int] = []
                for d in reversed(own):
                    place, digit = divmod(place, d)
                    digits.insert(0, digit)
                at += digits
            product = cores[0][:, at[0]]
            for core, i in zip(list(cores)[1:], at[1:]):
                product = product @ core[:, i]
            return product[0, 0]

        down, up = (
            torch.stack([torch.stack([entry(cores, o, i) for i in range(n)]) for o in range(m)]) for cores, (m, n) in zip((self.down, self.up), self.sides)
        )
        f = ACTIVATIONS[self.config.activation]
        return by_vector(y, lambda h: h + up @ f(down @ h + self.b_down) + self.b_up)
