"""An optimizer's state of one parameter as plain tensors by name, and back: what a checkpoint holds of it.

Whatever an optimizer keeps (numbers, tensors of any shape, kinds of tensors of their own such as 8-bit codes with their scales) is
written as tensors. It is read back into the state that the same optimizer makes for the same parameter in a first step, which says
what must be there and of which shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def flat(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """State by name (`exp_avg`, `exp_avg.codes`), as plain tensors that share its memory; numbers as float64."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and type(value) not in (Tensor, nn.Parameter):
            parts, _ = value.__tensor_flatten__()  # type: ignore[attr-defined]
            found |= {f"{key}.{part}": getattr(value, part) for part in parts}
        elif value is not None:
            found[key] = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    return found


def blank(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    """What `optimizer` keeps of `parameter` after a first step with a gradient of zeros, taken with copies of both."""
    group = next(group for group in optimizer.param_groups if any(one is parameter for one in group["params"]))
    copy = nn.Parameter(parameter.detach().clone())
    copy.grad = torch.zeros_like(copy)
    twin = object.__new__(type(optimizer))
    twin.__dict__ = dict(optimizer.__dict__)
    twin.param_groups, twin.state = [group | {"params": [copy]}], defaultdict(dict)
    twin.step()
    return twin.state[copy]


def fill(state: dict[str, Any], held: Mapping[str, Tensor]) -> list[str]:
    """Put `held` tensors, as `flat` named them, in place of what `state` has. Returns the names that do not fit, of either; then
    nothing was changed."""
    own = flat(state)
    alien = [name for name in own.keys() | held.keys() if name not in own or name not in held or own[name].shape != held[name].shape]
    if alien:
        return sorted(alien)
    with torch.no_grad():
        for name, tensor in own.items():
            if isinstance(state.get(name), (bool, int, float)):
                state[name] = type(state[name])(held[name].item())
            else:
                tensor.copy_(held[name])
    return []
