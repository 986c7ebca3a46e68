"""The optimizer of a run: decay on matrices only, and a rate of its own for a CTC head. Which one: `asrpeft.training.optimizers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from asrpeft.errors import BadInput
from asrpeft.methods import Facts, LayerAdapter
from asrpeft.options import TrainingOptions
from asrpeft.training.optimizers import parse

HEAD_LR = 1e-3


def learning_rate(cls: type[LayerAdapter], options: TrainingOptions, *, config: Any, width: int) -> float:
    """The peak rate: what was asked for, or the method's own for its settings and the width of the base.

    Raises: BadInput where none was asked for and the optimizer's steps are not such as methods' rates are meant for.
    """
    kind, _ = parse(options.optimizer)
    if options.lr is None and kind.needs_rate:
        raise BadInput(f"--optimizer {kind.name} takes steps as long as gradients are, for which {cls.name}'s own rate is not meant: give --lr.")
    return options.lr if options.lr is not None else cls.rate(config, width)


def head_rate(options: TrainingOptions, *, lr: float) -> float:
    """The peak rate of a CTC head beside an adapter that trains with `lr`: what was asked for, exactly. Where nothing was, a
    fresh head learns at least at `HEAD_LR`, and no slower than the adapter whose states it reads."""
    return options.head_lr if options.head_lr is not None else max(lr, HEAD_LR)


def optimizer_for(
    trained: Mapping[str, nn.Parameter], options: TrainingOptions, *, lr: float, facts: Callable[[str], Facts] = lambda name: Facts()
) -> torch.optim.Optimizer:
    """The optimizer of a run, with each parameter's own rate and decay.

    Args:   trained: by name in the adapter; those below `ctc.` are the head's.
            facts: what the method says of a parameter, by that name (see `Adapter.facts`).
    Note:   no decay on vectors unless the method says otherwise: s2lora's coefficients have a penalty of their own, ia3's
            scales rest at one, biases at any value.
    Raises: BadInput where the optimizer needs a package that is not installed.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        head = name.startswith("ctc.")
        own = Facts() if head else facts(name)
        peak = head_rate(options, lr=lr) if head else lr * own.rate
        decay = options.weight_decay * (float(parameter.ndim > 1) if own.decay is None else own.decay)
        groups.setdefault((peak, decay), []).append(parameter)
    kind, settings = parse(options.optimizer)
    return kind.make([{"params": held, "lr": peak, "peak": peak, "weight_decay": decay} for (peak, decay), held in groups.items()], settings)


def set_rate(optimizer: torch.optim.Optimizer, share: float, momentum: float | None = None) -> None:
    """Set every group to `share` of its peak rate and, if one is given, to that momentum (the first beta, where an optimizer has two)."""
    for group in optimizer.param_groups:
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None and "momentum" in group:
            group["momentum"] = momentum
        if isinstance(group["lr"], torch.Tensor):  # where a compiled step reads it
            group["lr"].fill_(share * group["peak"])
        else:
            group["lr"] = share * group["peak"]
