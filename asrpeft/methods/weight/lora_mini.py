"""LoRA-Mini, each factor split into a frozen outer and a trained inner one (https://arxiv.org/abs/2411.15804).

    ΔW = s · (B₁ B₂) (A₂ A₁)      A₁ (mid, in·k), B₁ (out, mid) frozen, random   A₂ (rank, mid), B₂ (mid, rank)   s = alpha / rank

2·rank·mid numbers train per layer, whatever its width. The outer ones are drawn from `seed` and stored nowhere: one pair as large as the
adapter's largest layer serves all. B₂ starts at zero. How the paper draws the outer ones could not be checked: here of variance 1 / columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.methods.base import LayerAdapter, WeightConfig, gaussian, positive, register, zeros


@register("lora_mini")
class LoRAMini(LayerAdapter):
    tier = 3
    lr = 5e-3
    tries = ({"rank": 2, "mid": 3}, {"rank": 3, "mid": 4, "alpha": 6.0, "seed": 1})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 8
        mid: int = 64  # width between the outer and the inner factors
        alpha: float = 16.0  # ΔW is scaled by alpha / rank
        seed: int = 0  # of the outer factors

        def __post_init__(self):
            positive("lora_mini", rank=self.rank, mid=self.mid, alpha=self.alpha, seed=self.seed + 1)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.s = config.alpha / config.rank
        self.a, self.b = gaussian(config.rank, config.mid, std=config.mid**-0.5), zeros(config.mid, config.rank)

    @classmethod
    def size(cls, config, layer):
        return 2 * config.rank * config.mid

    def outer(self, w) -> tuple[torch.Tensor, torch.Tensor]:
        """A₁ and B₁."""
        (out, inp), mid, seed = self.pool.largest(), self.config.mid, self.config.seed
        a = self.pool.drawn("lora_mini A", mid, inp, seed=seed, like=self.a)[:, : w.shape[1]]
        b = self.pool.drawn("lora_mini B", out, mid, seed=seed, like=self.a)[: w.shape[0]]
        return a / inp**0.5, b / mid**0.5

    def delta(self, w):
        a, b = self.outer(w)
        return self.s * ((b @ self.b) @ (self.a @ a))

    def literal(self, w, b):
        outer_a, outer_b = self.outer(w)
        return w + self.config.alpha / self.config.rank * outer_b @ self.b @ self.a @ outer_a, b
