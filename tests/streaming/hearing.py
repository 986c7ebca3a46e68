"""A recognizer of the tests' own: it hears a word in every 0.4 s, named after the very samples."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from asrpeft.decoding.words import Word
from asrpeft.streaming import Event, Session

WORD_S = 0.4


class Hearing:
    """`unsteady`: the last word changes with every call, as a half-heard one does."""

    def __init__(self, *, unsteady: bool = False):
        self.unsteady = unsteady
        self.calls: list[tuple[float, str]] = []  # seconds of audio, and what was committed before

    def __call__(self, samples: np.ndarray, committed: str = "") -> list[Word]:
        self.calls.append((len(samples) / 16_000, committed))
        size = round(WORD_S * 16_000)
        words = [
            Word(f"w{crc32(samples[at : at + size].tobytes()) % 10_000}", at / 16_000, (at + size) / 16_000) for at in range(0, len(samples) - size + 1, size)
        ]
        if self.unsteady and words:
            words[-1] = Word(f"{words[-1].text}?{len(samples)}", words[-1].start, words[-1].end)
        return words[len(committed.split()) :]


def run(samples: np.ndarray, sizes=None, *, decode=None, clock=lambda: 0.0, **session) -> list[Event]:
    """All events of a stream that comes in chunks of `sizes`, the rest at once."""
    opened, events, at = Session(decode or Hearing(), clock=clock, **session), [], 0
    for size in sizes or []:
        events += opened.feed(samples[at : at + size])
        at += size
    return [*events, *opened.feed(samples[at:]), *opened.close()]
