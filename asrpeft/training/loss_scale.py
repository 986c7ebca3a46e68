"""The scale of the loss where gradients are computed in float16."""

from __future__ import annotations

import torch

from asrpeft.training.checkpoints import State

FIRST_SCALE, GROWS_AFTER = 2.0**14, 1_000


class LossScale:
    """What the loss is multiplied by before the backward pass, so that gradients in float16 do not become zero: doubled after
    `GROWS_AFTER` steps that were fine, halved after one that was not, which is left out. 1 where nothing is computed in float16.

    It stands in the run's `state.loss_scale`. Source: Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740, section 3.2.
    """

    def __init__(self, state: State, dtype: torch.dtype | None):
        self.state, self.used = state, dtype == torch.float16
        if self.used and state.loss_scale is None:
            state.loss_scale = FIRST_SCALE

    @property
    def value(self) -> float:
        return self.state.loss_scale or 1.0

    def update(self, finite: bool) -> None:
        """A step's gradient was, or was not, finite."""
        if not self.used:
            return
        self.state.fine_steps = self.state.fine_steps + 1 if finite else 0
        if not finite:
            self.state.loss_scale = max(1.0, self.value / 2)
        elif self.state.fine_steps >= GROWS_AFTER:
            self.state.loss_scale, self.state.fine_steps = min(2.0**24, self.value * 2), 0
