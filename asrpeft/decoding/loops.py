"""Loops: a decoder that repeats itself to the end of its positions, Whisper's best-known failure.

Two signs of it. The compression ratio of the text (Whisper's own; above 2.4 it decodes again) sees loops after the
fact. The tail of the tokens sees one while it happens: the same few tokens, several times in a row.

Source: openai/whisper's compression-ratio threshold, https://arxiv.org/abs/2212.04356, section 4.5.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

MOST_PERIOD = 32  # tokens in one turn of a loop
LEAST_TURNS = 4
LEAST_TOKENS = 24  # "no, no, no, no" is speech: a loop is at least this long


def compression_ratio(text: str) -> float:
    """Bytes of UTF-8 over bytes after zlib; about 1.5 for plain sentences, above 2.4 where text repeats itself; 0 for
    none."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data)) if data else 0.0


def loop_period(tokens: Sequence[int]) -> int | None:
    """The period of the loop that `tokens` end in, or None.

    The shortest p ≤ 32 for which the last max(4·p, 24) tokens repeat with period p.
    """
    n = len(tokens)
    if n < LEAST_TOKENS:
        return None
    for period in range(1, MOST_PERIOD + 1):
        length = max(LEAST_TURNS * period, LEAST_TOKENS)
        if n < length:
            return None
        if tokens[-1] == tokens[-1 - period] and all(tokens[-i] == tokens[-i - period] for i in range(1, length - period + 1)):
            return period
    return None


def without_loop(tokens: Sequence[int], period: int) -> list[int]:
    """`tokens` with the loop at their end cut to its first turn."""
    kept = list(tokens)
    while len(kept) >= 2 * period and kept[-period:] == kept[-2 * period : -period]:
        kept = kept[:-period]
    # The loop may have begun in the middle of a turn.
    extra = 0
    while extra < period and len(kept) > period + extra and kept[-1 - extra] == kept[-1 - extra - period]:
        extra += 1
    return kept[: len(kept) - extra] if extra else kept
