"""Sites at places that are no module of their own: a whole feed-forward, the encoder's frames before its first layer, all hidden states.

Each puts hooks on the frozen layers around it. What they carry from one hook to the next lives for one pass on one thread; layers
that checkpointing computes again in the backward pass find nothing there and leave nothing.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from asrpeft.adapters.routing import Ambient
from asrpeft.adapters.sites import AttentionSite, DecoderSite, EditSite, Hook, Site, WeightSite, edit
from asrpeft.methods.layers import EncoderInput, FeedForward, Layer, Stack


class SpanSite(EditSite):
    """A feed-forward, from what its first matrix reads to what its second gives."""

    layer: FeedForward

    def _hook(self) -> None:
        block: Any = self.layer.module
        self._read = threading.local()  # what the span read, in the call in progress
        # Before the input edits of other adapters at `fc1`: the span reads what the norm gives.
        self._hooks = [block.fc1.register_forward_pre_hook(Hook(self._enter), prepend=True), block.fc2.register_forward_hook(Hook(self._leave))]

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._read.x = args[0]

    def _leave(self, module: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        x = self._read.__dict__.pop("x")
        return self._apply(x, y, edit)


class EncoderSite(EditSite):
    """The frames before the encoder's first layer: edited there, and followed by virtual frames, which leave before the final norm.

    Rows with fewer of them are filled up with masked ones. Virtual frames stand last, so that every real frame keeps its place;
    attention in the encoder knows no order but that of the positions which frames carry.
    """

    layer: EncoderInput

    def _hook(self) -> None:
        encoder: Any = self.layer.module
        self._hooks = [
            layer.register_forward_pre_hook(Hook(functools.partial(self._before, number)), with_kwargs=True) for number, layer in enumerate(encoder.layers)
        ]
        self._hooks.append(encoder.layer_norm.register_forward_pre_hook(Hook(self._strip), prepend=True))

    def _frames(self) -> int:
        """How many real frames the pass has."""
        known = self.ambient.call.frames
        return cast(int, self.layer.module.max_source_positions) if known is None else known.positions.shape[1]

    def _before(self, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x, n = args[0], self._frames()
        fresh = x.shape[1] == n  # the first layer, or the first that LayerDrop leaves
        if number == 0:
            x = self._apply(x, x, edit)
        found = [
            ([piece.rows() for pieces, _ in terms for piece in pieces if piece.n_rows], rows)
            for terms, rows in self._here(self.ambient.call.route, len(x), x.device)
        ]
        extra = max((_length(prompts) for prompts, _ in found), default=0)
        if not extra:
            return (x, *args[1:]), kwargs
        behind = x.new_zeros(len(x), extra, x.shape[2]) if fresh else x[:, n:]
        real = torch.zeros(len(x), extra, dtype=torch.bool, device=x.device)
        for prompts, rows in found:
            index = torch.arange(len(x), device=x.device) if rows is None else rows
            at = 0
            for prompt in prompts:
                here = slice(at, at + len(prompt[0]))
                if fresh or len(prompt) > 1:  # shallow prompts go on as the layers have made them
                    p = prompt[min(number, len(prompt) - 1)].to(x.dtype).expand(len(index), -1, -1)
                    behind = torch.cat([behind[:, : here.start], behind[:, here].index_copy(0, index, p), behind[:, here.stop :]], dim=1)
                at = here.stop
            real[index, :at] = True
        mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
        if mask is not None or not _everywhere(found, extra, len(x)):
            mask = torch.ones(len(x), 1, 1, n, dtype=torch.bool, device=x.device) if mask is None else mask
            mask = torch.cat([mask.expand(len(x), 1, 1, n), real[:, None, None]], dim=-1)
        kwargs = {key: value for key, value in kwargs.items() if key != "attention_mask"}
        return (torch.cat([x[:, :n], behind], dim=1), mask, *args[2:]), kwargs

    def _strip(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][:, : self._frames()], *args[1:])


Prompts = Sequence[tuple[Tensor, ...]]  # of each piece: one prompt, or one for each layer


def _length(prompts: Prompts) -> int:
    return sum(len(prompt[0]) for prompt in prompts)


def _everywhere(found: Sequence[tuple[Prompts, Tensor | None]], extra: int, n_rows: int) -> bool:
    """Whether every row has `extra` virtual frames."""
    return n_rows == sum(n_rows if rows is None else len(rows) for prompts, rows in found if _length(prompts) == extra)


class StackSite(EditSite):
    """All hidden states of the encoder or the decoder: what the first layer reads, and what each one gives."""

    layer: Stack

    def _hook(self) -> None:
        stack: Any = self.layer.module
        self._seen = threading.local()  # what the layers read, by number, in the call in progress
        self._hooks = [layer.register_forward_pre_hook(Hook(functools.partial(self._see, number))) for number, layer in enumerate(stack.layers)]
        self._hooks.append(stack.layer_norm.register_forward_pre_hook(Hook(self._give)))

    def _see(self, number: int, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self.ambient.call.recomputing or self.ambient.call.route.names is None:
            return
        if number == 0 or not hasattr(self._seen, "states"):
            self._seen.states = {}
        self._seen.states[number] = args[0]

    def _give(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        y, seen = args[0], self._seen.__dict__.pop("states", None)
        if seen is None:
            return args
        states = [y]
        for number in reversed(range(self.layer.depth)):
            states.insert(0, seen.get(number, states[0]))  # a layer that LayerDrop left out gave what it would have read
        # Without virtual frames, which have left already.
        return (self._apply(tuple(state[:, : y.shape[1]] for state in states), y, edit), *args[1:])


_SITES: dict[str, type[Site]] = {
    "attention": AttentionSite,
    "decoder": DecoderSite,
    "encoder": EncoderSite,
    "feedforward": SpanSite,
    "stack": StackSite,
}


def site_for(layer: Layer, ambient: Ambient) -> Site:
    """The site that acts on a layer of its kind."""
    return _SITES.get(layer.kind, WeightSite)(layer, ambient)
