"""Cutting a sequence into batches by what they cost: rows times the longest, since all are padded to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def by_budget(rows: Iterable[T], frames: Callable[[T], int], *, batch_frames: int, batch_size: int | None = None) -> Iterator[list[T]]:
    """Cut a sequence into batches of at most `batch_frames` encoder frames after padding (a single row may have more),
    and at most `batch_size` rows."""
    batch: list[T] = []
    longest = 0
    for row in rows:
        widest = max(longest, frames(row))
        if batch and (widest * (len(batch) + 1) > batch_frames or len(batch) == batch_size):
            yield batch
            batch, widest = [], frames(row)
        batch.append(row)
        longest = widest
    if batch:
        yield batch
