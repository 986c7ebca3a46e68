"""How sure the recognizer was of each word it wrote: the one meaning of a word's probability, in transcripts, streams and
evaluations alike.

    c(word) = exp( mean of log p(token | before) over the word's tokens )

p is what the search chose by, of what the rules left: the decoder's own distribution; in joint decoding that of the vote
with the CTC head, exp(score) over its sum for the tokens that were looked at. It is never that of the CTC head alone, which
says when a word was said. Such probabilities are no promise: `asrpeft evaluate` says what they are worth (`calibration`).

Measured on 161 sentences of data/demo/sw-test.parquet with a LoRA adapter (three epochs, WER 30 % greedily, 19 % jointly),
the difference between a word's probability and how often such words are right (ECE), and NIST's NCE: greedily 0.09 and
0.31, where the product over tokens has 0.16 and 0.20; jointly, the vote 0.04 and 0.22, the decoder alone 0.05 and 0.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from asrpeft.decoding.attention import word_starts
from asrpeft.decoding.hypothesis import Hypothesis
from asrpeft.recognizer import Recognizer


def word_confidences(recognizer: Recognizer, found: Hypothesis) -> list[float]:
    """One number in (0, 1] for each word of `found.text.split()`."""
    starts, logprobs = word_starts(recognizer, found.tokens), _logprobs(found)
    edges = [*starts, len(found.tokens)]
    return [
        _mean([logprob for token, logprob in zip(found.tokens[a : max(b, a + 1)], logprobs[a : max(b, a + 1)]) if token < recognizer.no_timestamps])
        for a, b in zip(edges, edges[1:])
    ]


def utterance_confidence(found: Hypothesis) -> float:
    """The same over all tokens of the utterance, the end token included."""
    return _mean(_logprobs(found))


def _logprobs(found: Hypothesis) -> Sequence[float]:
    return found.joint_logprobs or found.token_logprobs


def _mean(logprobs: Sequence[float]) -> float:
    return min(1.0, exp(sum(logprobs) / len(logprobs))) if logprobs else 1.0
