"""FourierFT, fine-tuning by a few Fourier coefficients (https://arxiv.org/abs/2405.03003).

    ΔW = scale · Re(IDFT₂(F)),   F[rowₑ, columnₑ] = cₑ, else 0      F (out, in·k)   c (coefficients,) trains

The positions are drawn from `seed` once for each shape of layer and stored nowhere; c starts at zero (the paper starts it Gaussian).
`coefficients` numbers train per layer, however wide it is. IDFT₂ divides by out·in·k, hence the large scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from asrpeft.methods.base import LayerAdapter, positive, register, zeros
from asrpeft.methods.pool import draw


@register("fourierft")
class FourierFT(LayerAdapter):
    tier = 2
    kinds = ("linear", "conv1d")  # tokens have no order that a wave could follow
    lr = 5e-2
    tries: ClassVar[tuple[dict[str, Any], ...]] = ({"coefficients": 12},)

    @dataclass(frozen=True)
    class Config:
        coefficients: int = 1000  # of each layer, or all where it has fewer
        scale: float = 150.0
        seed: int = 0  # of the positions

        def __post_init__(self):
            positive("fourierft", coefficients=self.coefficients, scale=self.scale, seed=self.seed + 1)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        n = self.size(config, layer)
        noise = draw(config.seed, self.name, layer.shape, "uniform").flatten()
        self.register_buffer("at", noise.argsort(stable=True)[:n], persistent=False)
        self.c = zeros(n)

    @classmethod
    def size(cls, config, layer):
        return min(config.coefficients, layer.shape[0] * layer.shape[1])

    def spectrum(self, w):
        """The coefficients at their places, zero elsewhere: of the shape of w."""
        return self.c.new_zeros(w.numel()).index_copy(0, self.at, self.c).view(w.shape)

    def delta(self, w):
        return self.config.scale * torch.fft.ifft2(self.spectrum(w)).real

    def literal(self, w, b):
        out, inp = w.shape
        i, j = torch.arange(out, dtype=w.dtype)[:, None], torch.arange(inp, dtype=w.dtype)
        waves = (c * torch.cos(2 * math.pi * (i * (at // inp) / out + j * (at % inp) / inp)) for c, at in zip(self.c, self.at.tolist()))
        return w + self.config.scale / (out * inp) * sum(waves), b
