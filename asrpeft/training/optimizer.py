"""AdamW over an adapter: decay on matrices only, and a rate of its own for a CTC head.

Source: Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from asrpeft.methods import LayerAdapter
from asrpeft.training.options import TrainingOptions

HEAD_LR = 1e-3


def learning_rate(cls: type[LayerAdapter], options: TrainingOptions) -> float:
    """The peak rate: what was asked for, or the method's own."""
    return options.lr if options.lr is not None else cls.lr


def head_rate(options: TrainingOptions, *, lr: float) -> float:
    """The peak rate of a CTC head beside an adapter that trains with `lr`: what was asked for, exactly. Where nothing was, a
    fresh head learns at least at `HEAD_LR`, and no slower than the adapter whose states it reads."""
    return options.head_lr if options.head_lr is not None else max(lr, HEAD_LR)


def adamw(trained: Mapping[str, nn.Parameter], options: TrainingOptions, *, lr: float) -> torch.optim.AdamW:
    """
    Args:   trained: by name in the adapter; those below `ctc.` are the head's.
    Note:   no decay on vectors: s2lora's coefficients have a penalty of their own, ia3's scales rest at one, biases at any value.
    """

    def group(head: bool, matrices: bool) -> dict:
        chosen = [p for name, p in trained.items() if name.startswith("ctc.") == head and (p.ndim > 1) == matrices]
        peak = head_rate(options, lr=lr) if head else lr
        return {"params": chosen, "lr": peak, "peak": peak, "weight_decay": options.weight_decay if matrices else 0.0}

    groups = [group(head, matrices) for head in (False, True) for matrices in (True, False)]
    return torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.98))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group to `share` of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak"]
