"""SURM, structured matrices of unrestricted rank (https://arxiv.org/abs/2406.17740).

    ΔW = s · (Σᵢ C(gᵢ) S(hᵢ))[:out, :in·k]      g, h (rank, n), n = max(out, in·k)   C circulant, S skew-circulant (n, n)   s = alpha / rank

C(g)[a, b] = g[(a − b) mod n], and S has −1 times that above the diagonal: sums of such products are all the matrices of low displacement
rank, of full rank as a rule, and multiplied by fast Fourier transforms. `form="circulant"` is C(g) alone, `form="toeplitz"`
ΔW[a, b] = g[a − b]: constant along diagonals, out + in·k − 1 numbers. What starts at zero is h, or g where it is alone. 2·rank·n numbers train per layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asrpeft.methods.base import LayerAdapter, gaussian, one_of, positive, register, zeros


def differences(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) of a − b."""
    return torch.arange(rows, device=like.device)[:, None] - torch.arange(columns, device=like.device)


@register("surm")
class SURM(LayerAdapter):
    tier = 3
    kinds = ("linear", "conv1d")  # tokens have no order
    lr = 3e-3
    tries = ({"rank": 2}, {"form": "circulant"}, {"form": "toeplitz", "alpha": 2.0})

    @dataclass(frozen=True)
    class Config:
        form: str = "ldr"  # low displacement rank; or circulant, toeplitz
        rank: int = 2  # products that are summed, for `ldr`
        alpha: float = 2.0  # ΔW is scaled by alpha / rank

        def __post_init__(self):
            positive("surm", rank=self.rank, alpha=self.alpha)
            one_of("surm", ("ldr", "circulant", "toeplitz"), form=self.form)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        n = self.numbers(config, layer)
        self.s = config.alpha / config.rank
        self.g = gaussian(config.rank, n, std=n**-0.5) if config.form == "ldr" else zeros(n)
        self.h = zeros(config.rank, n) if config.form == "ldr" else None

    @staticmethod
    def numbers(config, layer) -> int:
        """Those of one vector."""
        return sum(layer.shape) - 1 if config.form == "toeplitz" else max(layer.shape)

    @classmethod
    def size(cls, config, layer):
        return (2 * config.rank if config.form == "ldr" else 1) * cls.numbers(config, layer)

    def delta(self, w):
        out, inp = w.shape
        if self.h is None:
            at = differences(out, inp, w)
            return self.s * self.g[at + inp - 1 if self.config.form == "toeplitz" else at % len(self.g)]
        n = self.g.shape[1]
        at = differences(n, inp, w)
        skew = torch.where(at < 0, -1.0, 1.0).to(self.h) * self.h[:, at % n]  # (rank, n, in·k)
        turned = torch.fft.irfft(torch.fft.rfft(self.g, dim=1)[:, :, None] * torch.fft.rfft(skew, dim=1), n=n, dim=1)
        return self.s * turned[:, :out].sum(dim=0)

    def literal(self, w, b):
        out, inp = w.shape
        s = self.config.alpha / self.config.rank
        if self.config.form != "ldr":
            shift = inp - 1 if self.config.form == "toeplitz" else 0
            change = [[self.g[(row - column + shift) % len(self.g)] for column in range(inp)] for row in range(out)]
            return w + s * torch.stack([torch.stack(row) for row in change]), b
        assert self.h is not None  # this form has both
        n, total = self.g.shape[1], torch.zeros_like(w)
        for g, h in zip(self.g, self.h):
            c = torch.stack([torch.stack([g[(row - column) % n] for column in range(n)]) for row in range(n)])
            k = torch.stack([torch.stack([h[row - column] if row >= column else -h[row - column + n] for column in range(n)]) for row in range(n)])
            total = total + (c @ k)[:out, :inp]
        return w + s * total, b
