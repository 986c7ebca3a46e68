"""Temperature fallback: what looks wrong is decoded again, warmer and warmer, and the first that looks right is kept.

    wrong   compression ratio > 2.4, or mean log-probability < −1.0, or a loop (cut or not)
    silent  no-speech probability > 0.6 and mean log-probability < −1.0: not tried again, its text is dropped

Temperatures 0, 0.2, … 1.0. Above 0 a draw depends on the row and `DecodingOptions.seed` alone. Where none looks right the last
is kept.
Source: Radford et al., 2022, https://arxiv.org/abs/2212.04356, section 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from asrpeft.decoding.hypothesis import Hypothesis
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Encoded

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MOST_COMPRESSION = 2.4
LEAST_LOGPROB = -1.0
NO_SPEECH = 0.6

Search = Callable[[Encoded, Sequence[Sequence[int]], Sequence[str | None] | str | None, DecodingOptions], list[Hypothesis]]


def silent(found: Hypothesis) -> bool:
    """The decoder was unsure of its text and sure that nobody spoke."""
    return found.no_speech_prob > NO_SPEECH and found.logprob < LEAST_LOGPROB


def wrong(found: Hypothesis) -> bool:
    doubtful = found.looped or found.compression_ratio > MOST_COMPRESSION or found.logprob < LEAST_LOGPROB
    return doubtful and not silent(found)


def with_fallback(
    once: Search,
    encoded: Encoded,
    prompts: Sequence[Sequence[int]],
    adapters: Sequence[str | None] | str | None,
    options: DecodingOptions,
) -> list[Hypothesis]:
    """Run `once` on all rows, then again, warmer, on those that look wrong. Silent rows get an empty text."""
    rows = list(range(len(prompts)))
    found: dict[int, Hypothesis] = {}
    for temperature in TEMPERATURES:
        here = torch.tensor(rows, device=encoded.states.device)
        names = adapters if adapters is None or isinstance(adapters, str) else [adapters[row] for row in rows]
        changed = replace(options, temperature=temperature, beams=1 if temperature else options.beams, ctc_weight=0.0 if temperature else options.ctc_weight)
        found |= dict(zip(rows, once(encoded.take(here), [prompts[row] for row in rows], names, changed)))
        rows = [row for row in rows if wrong(found[row])]
        if not rows:
            break
    kept = [found[row] for row in range(len(prompts))]
    return [replace(one, text="", tokens=(), token_logprobs=(), joint_logprobs=()) if silent(one) else one for one in kept]
