"""Which utterances are computed together: alike in length, filled by encoder frames rather than by rows.

A batch costs rows · (longest context). Sorting by length keeps padding low; utterances of one length are mixed anew each
epoch, and so is the order of the batches. All of it is a function of the chance it is given, so that a run that was killed
finds its place again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from asrpeft.batching import by_budget


def length_batches(frames: Sequence[int], *, budget: int, key: str) -> list[list[int]]:
    """Divide utterances into batches.

    Args:
        frames: what each utterance costs, in encoder frames (50 a second).
        budget: rows · longest is at most this, except where a single utterance exceeds it and makes a batch alone.
        chance: a text that fixes the order: the seed and the epoch.
    Returns: lists of positions in `frames`; every position occurs once.
    """
    dice = random.Random(f"batches-{key}")
    order = sorted(range(len(frames)), key=lambda i: (frames[i], dice.random()))
    batches = list(by_budget(order, lambda i: frames[i], batch_frames=budget))
    dice.shuffle(batches)
    return batches


def share(rows: Sequence[int], *, rank: int, of: int) -> list[int]:
    """The rows of a batch that process `rank` of `of` computes; every row goes to one of them, perhaps none to some."""
    return list(rows[rank::of])
