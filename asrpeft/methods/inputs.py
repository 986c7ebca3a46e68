"""What a piece can be told of the batch at hand, for its own rows: where each frame or token stands, and which of them are real.

A method whose edit depends on more than the numbers it edits says `reads_inputs = True` and asks `self.inputs` in `forward` (or
`edit_input`). It holds in training, in search step by step with a key-value cache, and where layers are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """The frames or tokens of some rows.

    Attributes:
        positions: (rows, n) the place of each in its row, from 0: with a cache, a step's one token has the place it has in the text.
            Virtual tokens have negative ones: −1 is the last before the text.
        mask: (rows, n) true where there is a real frame or token; None: everywhere. Text that training pads at its end counts as
            real: no earlier token sees it.
        tokens: (rows, n) ids of the decoder's tokens, −1 for virtual ones; None in the encoder, and where only embeddings were given.
    """

    positions: Tensor
    mask: Tensor | None = None
    tokens: Tensor | None = None

    @classmethod
    def plain(cls, n_rows: int, n: int, device: torch.device, mask: Tensor | None = None) -> Inputs:
        """n frames a row, from the first on."""
        return cls(torch.arange(n, device=device).expand(n_rows, n), mask)

    @property
    def lengths(self) -> Tensor:
        """(rows,) how many are real."""
        if self.mask is None:
            return torch.full((len(self.positions),), self.positions.shape[1], device=self.positions.device)
        return self.mask.sum(dim=1)

    def take(self, rows: Tensor | None) -> Inputs:
        """Those of some rows."""
        if rows is None:
            return self
        mask, tokens = (None if part is None else part[rows] for part in (self.mask, self.tokens))
        return Inputs(self.positions[rows], mask, tokens)

    def after(self, n: int, real: Tensor | None = None) -> Inputs:
        """With n virtual tokens before the first, of which `real` (rows, n) stand for more than padding."""
        if not n:
            return self
        front = torch.arange(-n, 0, device=self.positions.device).expand(len(self.positions), n)
        mask = self.mask
        if real is not None or mask is not None:
            own = self.positions >= 0 if mask is None else mask
            mask = torch.cat([torch.ones_like(front, dtype=torch.bool) if real is None else real, own], dim=1)
        tokens = None if self.tokens is None else F.pad(self.tokens, (n, 0), value=-1)
        return Inputs(torch.cat([front, self.positions], dim=1), mask, tokens)

    def up_to(self, n: int) -> Inputs:
        """The first n, or with as many virtual ones after the last as make n."""
        more = n - self.positions.shape[1]
        if not more:
            return self
        if more < 0:
            first, tokens = (None if part is None else part[:, :n] for part in (self.mask, self.tokens))
            return Inputs(self.positions[:, :n], first, tokens)
        mask = self.positions >= 0 if self.mask is None else self.mask
        tokens = None if self.tokens is None else F.pad(self.tokens, (0, more), value=-1)
        return Inputs(F.pad(self.positions, (0, more), value=-1), F.pad(mask, (0, more)), tokens)


CURRENT: ContextVar[Inputs | None] = ContextVar("asrpeft_inputs", default=None)  # of the piece that is at work


@contextmanager
def current(inputs: Inputs) -> Iterator[None]:
    """Within the block, what `LayerAdapter.inputs` is."""
    token = CURRENT.set(inputs)
    try:
        yield
    finally:
        CURRENT.reset(token)
