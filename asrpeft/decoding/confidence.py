"""How sure the decoder was of each word it wrote.

    c(word) = exp( mean of log p(token | before) over the word's tokens )

A decoder's own probabilities are no promise: `asrpeft.scoring.calibration` says what they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from asrpeft.decoding.attention import word_starts
from asrpeft.decoding.hypothesis import Hypothesis
from asrpeft.recognizer import Recognizer


def word_confidences(recognizer: Recognizer, found: Hypothesis) -> list[float]:
    """One number in (0, 1] for each word of `found.text.split()`."""
    starts = word_starts(recognizer, found.tokens)
    edges = [*starts, len(found.tokens)]
    return [
        _mean(
            [
                logprob
                for token, logprob in zip(found.tokens[a : max(b, a + 1)], found.token_logprobs[a : max(b, a + 1)])
                if token < recognizer.no_timestamps
            ]
        )
        for a, b in zip(edges, edges[1:])
    ]


def utterance_confidence(found: Hypothesis) -> float:
    """The same over all tokens of the utterance, the end token included."""
    return _mean(found.token_logprobs)


def _mean(logprobs: Sequence[float]) -> float:
    return min(1.0, exp(sum(logprobs) / len(logprobs))) if logprobs else 1.0
