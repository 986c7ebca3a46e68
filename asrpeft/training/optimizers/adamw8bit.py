"""AdamW whose moments are kept in 8 bits, block by block (https://arxiv.org/abs/2110.02861).

    m, v as codes of 8 bits and, for every 256 of them, one scale      codes of w's shape   scales (numbers / 256,)

A quarter of AdamW's state, which counts where `full` trains a whole base; parameters of fewer than 4,096 numbers keep theirs in full.
The code is torchao's, which compiles the step (on a CPU that takes a C++ compiler and, once, some seconds for each shape).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.errors import BadInput
from asrpeft.training.optimizers.base import Groups, Kind, betas, register


@register("adamw8bit")
class AdamW8bit(Kind):
    @dataclass(frozen=True)
    class Config:
        beta1: float = 0.9
        beta2: float = 0.98
        eps: float = 1e-8

        def __post_init__(self) -> None:
            betas("adamw8bit", self.beta1, self.beta2)

    @classmethod
    def make(cls, groups: Groups, config: Config) -> torch.optim.Optimizer:
        try:
            from torchao.optim import AdamW8bit as Kept
        except ImportError:
            raise BadInput(
                "--optimizer adamw8bit needs torchao, which is not installed: pip install 'asrpeft[quantized]'. "
                "Adafactor needs even less memory, and nothing to install: --optimizer adafactor."
            ) from None
        return Kept(groups, lr=groups[0]["lr"], betas=(config.beta1, config.beta2), eps=config.eps)
