"""Full fine-tuning, the reference that every method is compared with (for Whisper: https://arxiv.org/abs/2212.04356).

    W' = W + ΔW,   b' = b + Δb      ΔW (out, in·k), Δb (out,), both trained without any constraint

Kept as a difference, so that it attaches, routes, merges and is saved as every other method is, and the base stays itself.
Positional tables do not train unless `where` names them. out·in·k + out numbers per layer: as large as the base.
"""

from __future__ import annotations

from dataclasses import dataclass

from asrpeft.methods.base import WEIGHTS, LayerAdapter, WeightConfig, register, zeros


@register("full")
class Full(LayerAdapter):
    tier = 1
    kinds = (*WEIGHTS, "norm")
    where = "all"
    lr = 1e-4

    @dataclass(frozen=True)
    class Config(WeightConfig):
        pass

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.dw = zeros(*layer.shape)
        self.db = None if layer.bias is None else zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        out, inp = layer.shape
        return out * inp + (0 if layer.bias is None else out)

    def delta(self, w):
        return self.dw

    def delta_bias(self):
        return self.db
