"""Segments from the timestamp tokens that Whisper writes between its sentences.

<|0.00|> text <|2.40|><|2.40|> text <|4.10|>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEP_S = 0.02  # between timestamp tokens


@dataclass(frozen=True)
class Stretch:
    """Tokens of text between two timestamps; seconds since the row's audio began."""

    start: float
    end: float
    tokens: tuple[int, ...]


def stretches(tokens: Sequence[int], *, first: int, seconds: float) -> list[Stretch]:
    """Cut tokens at their timestamps.

    Args:
        first: id of `<|0.00|>`.
        seconds: length of the audio: where text without a closing timestamp ends, and no time is later.
    Returns: stretches in time order, without empty ones.
    """
    found: list[Stretch] = []
    start, text = 0.0, []
    for token in [*tokens, None]:
        if token is not None and token < first:
            text.append(token)
            continue
        time = seconds if token is None else min(seconds, (token - first) * STEP_S)
        if text:
            found.append(Stretch(start, max(start, time), tuple(text)))
        start, text = max(start, time), []
    return found
