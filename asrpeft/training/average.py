"""The average of the weights in a run, for what is evaluated and kept; see `asrpeft.training.averaging` for what is averaged how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from asrpeft.adapters import Adapter
from asrpeft.training.averaging import Averaging
from asrpeft.training.checkpoints import Checkpoint, State


class Average:
    """The average of an adapter's weights in a run. Tensors that are no floats (masks) are those of the last step.

    What it counts stands in the run's `state.averaged`: of an ema how many steps it has seen, of last=n the steps of its sets.
    """

    def __init__(self, averaging: Averaging, adapter: Adapter, state: State):
        self.averaging, self.adapter, self.state = averaging, adapter, state
        self._sets: list[dict[str, Tensor]] = []  # of an ema the one, of last=n those at the evaluations, oldest first

    @property
    def of_evaluations(self) -> bool:
        """Whether weights are gathered at evaluations, be there development data or not."""
        return self.averaging.kind == "last"

    def after_step(self) -> None:
        """A step was taken."""
        if self.averaging.kind != "ema":
            return
        now, seen = _copy(self.adapter), sum(self.state.averaged)
        if not self._sets:
            self._sets = [now]
        decay = min(self.averaging.decay, (1 + seen) / (10 + seen))
        for name, held in self._sets[0].items():
            held.copy_(held.lerp(now[name], 1 - decay) if held.is_floating_point() else now[name])
        self.state.averaged = [seen + 1]

    def at_evaluation(self) -> None:
        """The weights are about to be evaluated, or would be if there were development data."""
        if self.of_evaluations and self.state.step not in self.state.averaged:  # an interrupted evaluation is taken again
            self._sets = [*self._sets, _copy(self.adapter)][-self.averaging.count :]
            self.state.averaged = [*self.state.averaged, self.state.step][-self.averaging.count :]

    def weights(self) -> dict[str, Tensor] | None:
        """The average; None where the weights are what they are."""
        if not self._sets:
            return None
        newest = self._sets[-1]
        return {name: torch.stack([one[name] for one in self._sets]).mean(0) if t.is_floating_point() else t for name, t in newest.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the adapter has the average for its weights."""
        average = self.weights()
        if average is None:
            yield
            return
        plain = _copy(self.adapter)
        self.adapter.load_state_dict(average)
        try:
            yield
        finally:
            self.adapter.load_state_dict(plain)

    # -- interruption --------------------------------------------------------------------------------------------------
    def parts(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint holds of it."""
        return {f"average{number}": held for number, held in enumerate(self._sets)}

    def restore(self, found: Checkpoint) -> None:
        """Go on with what a checkpoint holds."""
        device = next(iter(self.adapter.state_dict().values())).device
        names = sorted({name.partition(".")[0] for name in found.tensors if name.startswith("average")}, key=lambda name: int(name[len("average") :]))
        self._sets = [{name: t.to(device) for name, t in found.part(f"{one}.").items()} for one in names]


def _copy(adapter: Adapter) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in adapter.state_dict().items()}
