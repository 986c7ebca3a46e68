"""GOFT and qGOFT, orthogonal fine-tuning by Givens rotations (https://arxiv.org/abs/2404.04316).

    W' = W Gᵀ,   G = G_log₂n ⋯ G₂ G₁,   G_s: pairs (i, i + 2^s) turned by [cos θ, −sin θ; sin θ, cos θ]      θ (stages, in·k / 2)

Stages pair inputs that are ever further apart, so that every input of a block reaches every other; a block is the largest power of two that
divides in·k. GOFT trains the angles, in·k/2 numbers a stage. qGOFT, `relaxed=True`, trains all four entries of every 2 × 2, which may
then stretch and shear, and holds them near a rotation by a penalty, the mean of ‖GᵀG − I‖² over pairs: 2·in·k numbers a stage.
Angles start at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asrpeft.methods.base import Facts, LayerAdapter, Plan, positive, register, within, zeros


class NearRotation(Plan):
    """Keeps the relaxed 2 × 2 matrices near orthogonal ones."""

    def __init__(self, weight: float):
        self.weight = weight

    def penalty(self, adapter):
        pieces = adapter.pieces_of("qgoft")
        eye = torch.eye(2, device=pieces[0].g.device)
        return self.weight * sum((piece.g @ piece.g.mT - eye).square().sum(dim=(-2, -1)).mean() for piece in pieces) / len(pieces)


@register("qgoft")
class QGOFT(LayerAdapter):
    tier = 3
    kinds = ("linear", "conv1d")
    lr = 5e-3
    tries = ({"relaxed": False}, {"relaxed": True})

    @dataclass(frozen=True)
    class Config:
        relaxed: bool = True  # qGOFT; GOFT where not
        orthogonal: float = 1.0  # weight of the penalty on what is no rotation
        stages: int = 16  # at most

        def __post_init__(self):
            positive("qgoft", stages=self.stages)
            within("qgoft", 0, float("inf"), orthogonal=self.orthogonal)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        stages, pairs = self.stages(config, layer), layer.shape[1] // 2
        if config.relaxed:
            self.g = nn.Parameter(torch.eye(2).expand(stages, pairs, 2, 2).clone())
        else:
            self.theta = zeros(stages, pairs)

    @staticmethod
    def stages(config, layer) -> int:
        inp = layer.shape[1]
        return min(config.stages, (inp & -inp).bit_length() - 1)

    @classmethod
    def fits(cls, layer, config):
        return super().fits(layer, config) and layer.shape[1] % 2 == 0

    @classmethod
    def size(cls, config, layer):
        return cls.stages(config, layer) * layer.shape[1] // 2 * (4 if config.relaxed else 1)

    @classmethod
    def facts(cls, config, name):
        return Facts(decay=0.0)  # zero is no rotation

    @classmethod
    def plan(cls, config):
        return NearRotation(config.orthogonal) if config.relaxed and config.orthogonal else None

    def turns(self) -> Tensor:
        """(stages, pairs, 2, 2)"""
        if self.config.relaxed:
            return self.g
        cos, sin = self.theta.cos(), self.theta.sin()
        return torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))

    def merged(self, w, b):
        shape = w.shape
        for stage, turn in enumerate(self.turns().to(w.dtype)):
            pairs = w.reshape(shape[0], -1, 2, 1 << stage)  # (out, blocks, the two of a pair, pairs of a block)
            turn = turn.view(-1, 1 << stage, 2, 2)
            w = torch.einsum("obis,bsji->objs", pairs, turn).reshape(shape)
        return w, b

    def literal(self, w, b):
        n = w.shape[1]
        for stage, turn in enumerate(self.turns()):
            whole, stride = torch.eye(n, dtype=w.dtype), 1 << stage
            firsts = [i for i in range(n) if not i & stride]
            for i, small in zip(firsts, turn):
                whole[i, i], whole[i, i + stride], whole[i + stride, i], whole[i + stride, i + stride] = small.flatten()
            w = w @ whole.T
        return w, b
