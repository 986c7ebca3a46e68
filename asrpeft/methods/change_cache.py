"""ΔW (or, in half precision, the whole W + ΔW, rounded once) made once: kept while no gradient is wanted and nothing that it is made of has changed.

A piece of an adapter asks here for the change it makes to its layer. In training ΔW is part of the graph and made at every
pass; in evaluation it is kept, so that a hundred decoding steps make it once. What it is made of (the piece's tensors, the
adapter's shared ones, the frozen weight) is recognized by address and version counter; `parameter.data.copy_(…)` moves
neither, so call `CHANGES.forget(piece)` after it (going into training mode does too).

At most `limit` bytes are kept (1 GiB unless set otherwise: `CHANGES.limit = …`). When they are full, a change gives way only to
one that was asked for twice since it was last used itself: a model whose changes do not all fit keeps as many as do, where
throwing out the oldest would keep none.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Change = tuple[Tensor, Tensor | None]  # ΔW (out, in·k) and Δb (out,), or W' and b'
Key = tuple[tuple[int, ...], torch.dtype, Hashable]  # of the pieces that it is made by, what it is


@dataclass
class _Entry:
    change: Change
    state: tuple[Any, ...]
    alive: list[Tensor]  # what it was made of, so that no other tensor can come to lie at the same address
    bytes: int
    used: int


class ChangeCache:
    """Changes by piece and dtype, at most `limit` bytes of them."""

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self._entries: dict[Key, _Entry] = {}
        self._asked: dict[Key, int] = {}  # when each was asked for last, kept or not
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._clock = 0
        self._lock = threading.RLock()  # a piece may be collected, and forgotten, while another is admitted

    def get(
        self, pieces: nn.Module | Sequence[nn.Module], of: list[Tensor], dtype: torch.dtype, make: Callable[[], Change], *, what: Hashable = None
    ) -> Change:
        """`make()`, or what it gave before if every tensor in `of` is as it was.

        Args:
            pieces: what makes the change; one, or several that do so together.
            what: tells apart what the same pieces make in the same dtype.
        """
        makers = (pieces,) if isinstance(pieces, nn.Module) else tuple(pieces)
        key = (tuple(map(id, makers)), dtype, what)
        try:
            state = tuple((t.data_ptr(), t._version) for t in of)
        except (RuntimeError, NotImplementedError):  # made in inference mode, or of a kind that has no address
            return make()
        self._clock += 1
        entry = self._entries.get(key)
        if entry is not None and entry.state == state:
            entry.used = self._asked[key] = self._clock
            return entry.change
        with torch.inference_mode(False), torch.no_grad():
            change = make()
        own = {t.data_ptr() for t in of}
        size = sum(t.nbytes for t in change if t is not None and t.data_ptr() not in own)
        with self._lock:
            self._drop(key)
            before, self._asked[key] = self._asked.get(key), self._clock
            for piece in makers:
                if id(piece) not in self._alive:
                    self._alive[id(piece)] = weakref.ref(piece, functools.partial(self._collected, id(piece)))
            if self._make_room(size, before):
                self._entries[key] = _Entry(change, state, [t.detach() for t in of], size, self._clock)
                self.bytes += size
        return change

    def _make_room(self, size: int, before: int | None) -> bool:
        """Whether `size` bytes can be had, for a change that was asked for last at `before`."""
        if size > self.limit:
            return False
        if self.bytes + size > self.limit and before is not None:
            for key in sorted((k for k, e in self._entries.items() if e.used < before), key=lambda k: self._entries[k].used):
                if self.bytes + size <= self.limit:
                    break
                self._drop(key)
        return self.bytes + size <= self.limit

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.bytes

    def _forget(self, piece: int) -> None:
        with self._lock:
            self._alive.pop(piece, None)
            for key in [key for key in self._asked if piece in key[0]]:
                del self._asked[key]
                self._drop(key)

    def _collected(self, piece: int, _: weakref.ref[Any]) -> None:
        self._forget(piece)

    def forget(self, piece: nn.Module) -> None:
        """Throw away what is kept of a piece."""
        if id(piece) in self._alive:
            self._forget(id(piece))


CHANGES = ChangeCache(limit=1 << 30)


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers of a module and of all below it. (`nn.Module.parameters` takes five times as long.)"""
    for held in (module._parameters, module._buffers):
        for tensor in held.values():
            if tensor is not None:
                yield tensor
    for child in module._modules.values():
        if child is not None:
            yield from tensors_of(child)
