"""What a method does around the training steps: data-driven starts, penalties, ranks, masks, proximal steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from asrpeft.adapters.adapter import Adapter


class Plan:
    """The default does nothing. For each step the loop calls, in this order:

        forward, backward  →  sum over processes  →  `penalty`'s gradient  →  clip  →  optimiser  →  `after_step`

    A plan's state that must survive an interruption lives in the adapter: `piece.remember(…)`, `adapter.pool.remember(…)`.
    All that it decides by is the same in every process, so decisions do not diverge.
    """

    def penalty(self, adapter: Adapter) -> Tensor | None:
        """A scalar to add to the loss, or None."""
        return None

    def after_step(self, adapter: Adapter, *, step: int, total_steps: int, lr: float) -> None:
        """Called after optimiser step `step` (from 0) of `total_steps`, taken with learning rate `lr`."""

    def finish(self, adapter: Adapter) -> None:
        """Called after the last step, for the weights of that step and for those that the development data chose."""
