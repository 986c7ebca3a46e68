"""QuanTA, quantum-informed tensor adaptation (https://arxiv.org/abs/2406.00132).

    ΔW = (T − I)[:out, :in·k],   T = Π_{a<b} T_ab      T_ab (d_a·d_b, d_a·d_b) on two axes   n = max(out, in·k) = d₁ · … · d_N

The inputs are seen as a tensor of `axes` axes, and every pair of axes is mixed by a small matrix, as gates act on pairs of qubits: a
product of full rank out of few numbers, Σ (d_a·d_b)² per layer. All T_ab start at the identity, so that ΔW does at zero (the paper starts them
at random, and subtracts what they then are). Axes are as equal as n's divisors let them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from asrpeft.methods.base import Facts, LayerAdapter, positive, register
from asrpeft.methods.map.oft import divisor


def factors(n: int, parts: int) -> tuple[int, ...]:
    """`parts` numbers whose product is n, each at most as large as what an equal split of the rest would be."""
    found = []
    for left in range(parts, 1, -1):
        found.append(divisor(n, max(1, round(n ** (1 / left)))))
        n //= found[-1]
    return (*found, n)


@register("quanta")
class QuanTA(LayerAdapter):
    tier = 3
    kinds = ("linear", "conv1d")
    lr = 3e-3
    tries = ({"axes": 2}, {"axes": 3})

    @dataclass(frozen=True)
    class Config:
        axes: int = 3

        def __post_init__(self):
            positive("quanta", axes=self.axes - 1)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.dims = factors(max(layer.shape), config.axes)
        self.pairs = list(combinations(range(config.axes), 2))
        self.t = nn.ParameterList([torch.eye(self.dims[a] * self.dims[b]) for a, b in self.pairs])

    @classmethod
    def size(cls, config, layer):
        dims = factors(max(layer.shape), config.axes)
        return sum((a * b) ** 2 for a, b in combinations(dims, 2))

    @classmethod
    def facts(cls, config, name):
        return Facts(decay=0.0)  # zero is not the base

    def delta(self, w):
        (out, inp), n = w.shape, max(w.shape)
        state = torch.eye(n, dtype=self.t[0].dtype, device=w.device)[:, :inp].reshape(*self.dims, inp)
        for (a, b), t in zip(self.pairs, self.t):
            d = self.dims[a], self.dims[b]
            mixed = torch.tensordot(t.view(*d, *d), state, dims=([2, 3], [a, b]))  # the two axes come first
            state = mixed.movedim((0, 1), (a, b))
        return state.reshape(n, inp)[:out] - torch.eye(out, inp, dtype=state.dtype, device=w.device)

    def literal(self, w, b):
        n = max(w.shape)
        at = [torch.arange(n) // (n // self._below(axis)) % self.dims[axis] for axis in range(len(self.dims))]
        whole = torch.eye(n, dtype=w.dtype)
        for (x, y), t in zip(self.pairs, self.t):
            index = at[x] * self.dims[y] + at[y]
            others = torch.stack([at[z] for z in range(len(at)) if z not in (x, y)] or [torch.zeros(n)])
            same = (others[:, :, None] == others[:, None, :]).all(dim=0)
            whole = (t[index][:, index] * same) @ whole
        return w + (whole - torch.eye(n, dtype=w.dtype))[: w.shape[0], : w.shape[1]], b

    def _below(self, axis: int) -> int:
        """The product of the axes up to this one: n over it is how many numbers one place of the axis stands for."""
        product = 1
        for dim in self.dims[: axis + 1]:
            product *= dim
        return product
