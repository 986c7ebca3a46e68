"""Counting different things, millions of them, in some bytes of each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

FIRST = 1 << 16  # that many are held as they come


class Distinct:
    """How many different values were seen. A value is 8 bytes, its hash (of 64 bits: two of a million values share one in one of
    thirty million corpora); the last ones, at most a quarter of all or 65,536, take some 70."""

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.int64)
        self._new: set[int] = set()

    def add(self, value: Hashable) -> bool:
        """Whether it is seen for the first time."""
        found = hash(value)
        if found in self._new:
            return False
        place = int(np.searchsorted(self._sorted, found)) if self._sorted.size else 0
        if place < self._sorted.size and self._sorted[place] == found:
            return False
        self._new.add(found)
        self._make_room()
        return True

    def update(self, values: Iterable[Hashable]) -> None:
        self._new.update(map(hash, values))
        self._make_room()

    def __len__(self) -> int:
        self._merge()
        return self._sorted.size

    def _make_room(self) -> None:
        if len(self._new) > max(FIRST, self._sorted.size // 4):
            self._merge()

    def _merge(self) -> None:
        if self._new:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._new, np.int64, len(self._new)))
            self._new = set()
