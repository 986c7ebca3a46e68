"""What an adapter holds besides a layer's own parameters, in three classes of storage, and the pool that its layers share.

trained     an `nn.Parameter`            in the file, counted, moved by the optimizer
kept        `keep(name, tensor)`         in the file, of any dtype, not counted: masks, indices, a start to subtract
remembered  `remember(name, tensor)`     in checkpoints, so that a resumed run goes on bit for bit; never in the file
drawn       `pool.drawn(key, …)`         nowhere: made again from a seed and a name, the same on every machine
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from asrpeft.methods.layers import Layer


class Holder(nn.Module):
    """A module that knows what of it belongs in an adapter's file."""

    def __init__(self):
        super().__init__()
        self._remembered: set[str] = set()

    if TYPE_CHECKING:  # torch says `Tensor | Module`; what a class does not assign by name itself was kept or remembered, and is a tensor

        def __getattr__(self, name: str) -> Tensor: ...

    def keep(self, name: str, tensor: Tensor) -> Tensor:
        """Hold a tensor that does not train and belongs in the file."""
        self.register_buffer(name, tensor.detach().clone())
        return getattr(self, name)

    def remember(self, name: str, tensor: Tensor) -> Tensor:
        """Hold the state of a training run: averages, scores. It is in checkpoints and not in the file."""
        self.register_buffer(name, tensor.detach().clone())
        self._remembered.add(name)
        return getattr(self, name)

    def stored(self) -> dict[str, Tensor]:
        """What belongs in the file, by name: the tensors themselves, to be read or filled."""
        return {name: tensor for name, tensor in self.state_dict(keep_vars=True).items() if name not in self._remembered}


class Pool(Holder):
    """Tensors that belong to a whole adapter rather than to one layer. Made once, stored once, counted once.

    Attributes:
        layers: all the layers that the adapter acts on, known before its first piece is made.
        conditions: what the adapter is told of each row (`asrpeft.adapters.conditions`), or None.
    """

    def __init__(self, layers: Sequence[Layer] = ()):
        super().__init__()
        self.layers = tuple(layers)
        self.conditions: Any = None
        self.tensors = nn.ParameterDict()
        self._held: dict[tuple[Any, ...], Tensor] = {}

    def share(self, key: str, make: Callable[[], Tensor], *, trained: bool = True) -> nn.Parameter:
        """The parameter `key`; `make()` gives its start when it is asked for the first time. Untrained ones are stored too."""
        if key not in self.tensors:
            self.tensors[key] = nn.Parameter(make(), requires_grad=trained)
        return self.tensors[key]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key] if key in self.tensors else self.get_buffer(key)

    def __contains__(self, key: str) -> bool:
        return key in self.tensors or key in self._buffers

    def largest(self) -> tuple[int, int]:
        """(out, in·k): the largest of each among the adapter's layers that have a matrix."""
        shapes = [layer.shape for layer in self.layers if layer.shape[1]]
        return max(out for out, _ in shapes), max(inp for _, inp in shapes)

    def stored(self):
        return {name.removeprefix("tensors."): tensor for name, tensor in super().stored().items()}

    def drawn(self, key: str, *shape: int, seed: int, how: str = "normal", like: Tensor) -> Tensor:
        """A frozen random tensor that is never stored, on the device and in the dtype of `like`. See `draw`."""
        where = (seed, key, shape, how, like.device, like.dtype)
        found = _DRAWN.get(where)
        if found is None:
            with torch.inference_mode(False):
                found = _DRAWN[where] = draw(seed, key, shape, how).to(like)
        self._held[where[:4]] = found  # alive as long as an adapter uses it
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}}


_DRAWN: WeakValueDictionary[tuple[Any, ...], Tensor] = WeakValueDictionary()  # adapters of one seed have one tensor


def draw(seed: int, key: str, shape: Sequence[int], how: str = "normal") -> Tensor:
    """A tensor (float32, on the CPU) that is a function of (seed, key) alone, to the last bit on every machine.

    Each row has a stream of its own: a draw of fewer rows or columns is a part of the larger draw, so that one large matrix
    serves layers of all shapes. The bits are Philox's, and all that follows is exact: no machine's logarithm is in it.

    Args:
        how: `normal` (mean 0, variance 1: the sum of four uniform numbers, none beyond ±3.47), `uniform` in [−1, 1), `signs` (±1),
            `ternary` (±√3 with probability 1/6 each, else 0: variance 1).
    """
    rows, columns = (1, *shape) if len(shape) == 1 else (shape[0], int(np.prod(shape[1:])))
    name = int.from_bytes(hashlib.blake2b(f"{seed}\x1f{key}".encode(), digest_size=16).digest(), "little")
    words = np.stack([np.random.Philox(key=name, counter=[0, 0, row, 0]).random_raw(columns) for row in range(rows)])
    return torch.from_numpy(_HOW[how](words)).view(*shape)


def _normal(words: np.ndarray) -> np.ndarray:
    total = words.view(np.uint16).reshape(*words.shape, 4).sum(axis=-1, dtype=np.int64) - 2 * 65_535
    return total.astype(np.float32) * np.float32(1 / 37_837.2271)  # the standard deviation: √(4·(65536² − 1)/12)


def _ternary(words: np.ndarray) -> np.ndarray:
    sixth = (words >> np.uint64(32)) % np.uint64(6)
    return ((sixth == 0).astype(np.float32) - (sixth == 1).astype(np.float32)) * np.float32(3**0.5)


_HOW: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": _normal,
    "uniform": lambda words: (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1.0),
    "signs": lambda words: (words >> np.uint64(63)).astype(np.float32) * np.float32(2) - np.float32(1),
    "ternary": _ternary,
}
