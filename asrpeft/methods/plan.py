"""What a method does around the training steps: data-driven starts, penalties, ranks, masks, proximal steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from asrpeft.methods.layers import Layer

if TYPE_CHECKING:
    from asrpeft.adapters.adapter import Adapter


class Passes(Protocol):
    """Passes of training data through the base alone, for a start that is made from data: all processes' data, in all of them
    the same result. The data are those of the run's first steps."""

    def moments(self, batches: int) -> dict[str, Tensor]:
        """By path, the uncentered covariance of a layer's inputs, mean of x xᵀ (in·k, in·k), over frames and tokens that are real."""

    def gradients(self, batches: int) -> dict[str, Tensor]:
        """By path, the gradient of an utterance's summed loss with respect to the frozen weight as a matrix (out, in·k)."""

    def visit(self, see: Callable[[Layer, Tensor, Tensor, Tensor | None], None], batches: int, *, gradients: bool = False) -> int:
        """Call `see(layer, x, y, g)` for every layer of the adapter and every batch of this process: what the layer read and gave,
        and dL/dy where `gradients` are asked for. Use `sum` on what is gathered. Returns how many utterances this process passed."""

    def sum(self, tensor: Tensor) -> Tensor:
        """A tensor summed over the processes."""


class Plan:
    """The default does nothing. Before the first step the loop calls `before`, and for each step, in this order:

        forward, backward  →  sum over processes  →  `see_gradients`, if wanted  →  `penalty`'s gradient  →  `before_step`  →  clip
                           →  optimizer  →  `after_step`

    A plan's state that must survive an interruption lives in the adapter: `piece.remember(…)`, `adapter.pool.remember(…)`. What
    it decides by, gradients included, is the same in every process, so that ranks and masks do not diverge. Shapes of
    parameters stay as they are while training: a rank that falls is a mask, and `LayerAdapter.compact` cuts it out at the end.
    """

    optimizer: torch.optim.Optimizer | None = None  # the run's, given by the loop
    parts: tuple[float, ...] = (1.0,)  # shares of the utterances, where a step is to be of one part of them alone: the same ones in every epoch
    part: int = 0  # which of them the step at hand is of, given by the loop

    def before(self, adapter: Adapter, passes: Passes) -> None:
        """Called once, before the first step of a fresh adapter's run: not when it is resumed, nor for one that was trained before. What it
        leaves in parameters and kept tensors is the start."""

    def penalty(self, adapter: Adapter) -> Tensor | None:
        """A scalar to add to the loss, or None. (For penalties on activations see `LayerAdapter.add_loss`.)"""
        return None

    def wants_gradients(self, adapter: Adapter, *, step: int, progress: float) -> bool:
        """Whether `see_gradients` is to be called in optimizer step `step`. Asked before its passes; every process must say the same."""
        return False

    def see_gradients(self, adapter: Adapter, gradients: dict[str, Tensor], *, step: int, progress: float) -> None:
        """Called where it is wanted, with the dense gradients of this step, summed over processes.

        Args:   gradients: by path of a layer, that of the weight which acts there, frozen one and change together, as a matrix (out, in·k).
        """

    def before_step(self, adapter: Adapter, *, step: int, progress: float) -> None:
        """Called before optimizer step `step` (from 0), with every `parameter.grad` in place, to read or to change.

        Args:   progress: the share of the run that is done, 0 … 1, whether steps, epochs or minutes were planned.
        """

    def after_step(self, adapter: Adapter, *, step: int, progress: float, lr: float) -> None:
        """Called after optimizer step `step` (from 0), taken with learning rate `lr`; gradients are still there."""

    def forget(self, parameter: nn.Parameter, entries: Tensor) -> None:
        """Set to zero what the optimizer keeps of single numbers, where they now stand for something else.

        Args:   entries: indices, or a mask, into the parameter's first dimension.
        Note:   what is kept in another shape than the parameter's (Adafactor's rows and columns, 8-bit codes) stays.
        """
        for kept in self.optimizer.state.get(parameter, {}).values() if self.optimizer is not None else ():
            if type(kept) is Tensor and kept.shape == parameter.shape:
                kept[entries] = 0

    def finish(self, adapter: Adapter) -> None:
        """Called after the last step, for the weights of that step and for those that the development data chose."""


def passed(progress: float, warmup: float, final: float) -> float:
    """How much of the time between a run's first `warmup` and its last `final` has gone by, 0 … 1; all three are shares of the run, `progress` of what
    is done."""
    return min(1.0, max(0.0, (progress - warmup) / (1 - final - warmup)))


# -- losses that a forward pass leaves ------------------------------------------------------------------------------------
_LOSSES: ContextVar[list[Tensor] | None] = ContextVar("asrpeft_losses", default=None)


def collect_loss(piece: nn.Module, value: Tensor) -> None:
    losses = _LOSSES.get()
    if losses is not None and piece.training and torch.is_grad_enabled():
        losses.append(value)


@contextmanager
def collected() -> Iterator[list[Tensor]]:
    """Within the block (a forward pass), what pieces `add_loss`. What a checkpointed layer adds when it is computed again in the
    backward pass comes after the block and is not counted twice."""
    losses: list[Tensor] = []
    token = _LOSSES.set(losses)
    try:
        yield losses
    finally:
        _LOSSES.reset(token)
