"""LoRA-GA, low-rank adaptation with a start approximated from gradients (https://arxiv.org/abs/2407.05000).

    ΔW = s · (B A − B₀A₀),   ∂L/∂W = U S Vᵀ,   A₀ = c · V_{1…r}ᵀ,   B₀ = c · U_{r+1…2r}      A (rank, in·k)   B (out, rank)   s = alpha / √rank

so that LoRA's first step goes where a step of full fine-tuning would. The gradient is that of the frozen weight, over `batches`
batches of the training data, taken once before the first step; c = out^(1/4) / √γ. The base weight stays what it is: the start is
subtracted, and kept in the file, which is twice as large as what trains, rank·(out + in·k) numbers per layer. Before it is
trained, A is Gaussian and B zero. No decay, which would take the start away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import Facts, LayerAdapter, Plan, gaussian, positive, register, zeros


class GradientStart(Plan):
    def __init__(self, config):
        self.config = config

    @torch.no_grad()
    def before(self, adapter, passes):
        gradients, r = passes.gradients(self.config.batches), self.config.rank
        for path, piece in adapter.by_path().items():
            u, _, v = torch.linalg.svd(gradients[path].to(piece.a), full_matrices=False)
            c = len(u) ** 0.25 / self.config.gamma**0.5
            b = u[:, r : 2 * r] if u.shape[1] >= 2 * r else u[:, -r:]  # of a small layer, the last there are
            piece.a.copy_(c * v[:r]), piece.b.copy_(c * b)
            piece.a0.copy_(piece.a), piece.b0.copy_(piece.b)


@register("lora_ga")
class LoRAGA(LayerAdapter):
    tier = 2
    kinds = ("linear", "conv1d")
    tries = ({"rank": 2, "batches": 1},)

    @dataclass(frozen=True)
    class Config:
        rank: int = 8
        alpha: float = 16.0  # ΔW is scaled by alpha / √rank
        gamma: float = 16.0  # the larger, the smaller the start
        batches: int = 8  # of training data, for the gradient

        def __post_init__(self):
            positive("lora_ga", rank=self.rank, alpha=self.alpha, gamma=self.gamma, batches=self.batches)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out, inp), r = layer.shape, config.rank
        self.s = config.alpha / r**0.5
        self.a, self.b = gaussian(r, inp, std=r**-0.5), zeros(out, r)
        self.keep("a0", self.a), self.keep("b0", self.b)

    @classmethod
    def fits(cls, layer, config):
        return super().fits(layer, config) and config.rank <= min(layer.shape)

    @classmethod
    def size(cls, config, layer):
        return config.rank * sum(layer.shape)

    @classmethod
    def stored_size(cls, config, layers):
        return 2 * super().stored_size(config, layers)

    @classmethod
    def facts(cls, config, name):
        return Facts(decay=0.0)

    @classmethod
    def plan(cls, config):
        return GradientStart(config)

    def delta(self, w):
        return self.s * (self.b @ self.a - self.b0 @ self.a0)
