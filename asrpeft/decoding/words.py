"""When each word was said.

`align`   places the characters of a known text on the encoder's frames, by the Viterbi path through a CTC head:
              argmax_π Σ_t log p(π_t | h_t)    over the paths π that spell the text
`spread`  where nothing better can be had, gives each word its share of the segment by its letters

Between them stands `asrpeft.decoding.attention`, for bases without a CTC head. Two things mend where words begin (what either gains:
`scripts/bench/word_times.py`):

`from_onsets`     a CTC head names a character some 60 ms after its sound began
`without_pauses`  attention gives a pause to the word that follows it; the word begins where it gets loud

Source: Graves et al., 2006, https://doi.org/10.1145/1143844.1143891.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from asrpeft.adapters.ctc import SPACE, CTCHead, frames_needed
from asrpeft.audio.samples import frame_power
from asrpeft.recognizer.context import ENCODER_FRAMES_PER_SECOND, FRAME

Seconds = float
ONSET_S = 0.06  # of three heads on two encoders: 0.060, 0.070 and 0.104 s late (`scripts/bench/word_times.py`)
QUIET = 5  # the percentile of a recording's levels that is its quiet
UNEVEN_DB = 10.0  # a word's frames may be so far apart where nothing in the recording is quiet


@dataclass(frozen=True)
class Word:
    """`start` and `end` in seconds since the audio began. `probability` is what the recognizer gave the word it wrote (see
    `asrpeft.decoding.confidence`), wherever the times come from; None where a text was given and not recognized."""

    text: str
    start: Seconds
    end: Seconds
    probability: float | None = None

    def later(self, seconds: Seconds) -> Word:
        return replace(self, start=self.start + seconds, end=self.end + seconds)

    def to_json(self) -> dict[str, Any]:
        return {
            "word": self.text,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "probability": None if self.probability is None else round(self.probability, 4),
        }


def spread(text: str, start: Seconds, end: Seconds) -> tuple[Word, ...]:
    """Words that share [start, end] by their letters, each with the space that follows it."""
    words = text.split()
    edges = [0, *accumulate(len(word) + 1 for word in words)]
    rate = (end - start) / edges[-1] if words else 0.0
    return tuple(Word(word, start + a * rate, start + b * rate) for word, a, b in zip(words, edges, edges[1:]))


def from_onsets(words: Sequence[Word]) -> tuple[Word, ...]:
    """Words by a CTC head, begun `ONSET_S` earlier, but not before the word before has ended."""
    ends = [0.0, *(word.end for word in words)]
    return tuple(replace(word, start=min(word.start, max(before, word.start - ONSET_S))) for before, word in zip(ends, words))


def without_pauses(words: Sequence[Word], samples: np.ndarray) -> tuple[Word, ...]:
    """Words that begin no earlier than the sound in them: where it first is louder than half way, in decibels, between the recording's quiet and the
    loudest of the word. Where noise leaves less between the two, words stay as they are.

    Args:    words: on `samples`, (n,) at 16 kHz.
    """
    if not len(samples):
        return tuple(words)
    levels = 10 * np.log10(frame_power(np.pad(samples, (0, -len(samples) % FRAME)), FRAME) + 1e-10)
    quiet, placed = float(np.percentile(levels, QUIET)), []
    for word in words:
        own = levels[round(word.start * ENCODER_FRAMES_PER_SECOND) : round(word.end * ENCODER_FRAMES_PER_SECOND)]
        silent = int(np.argmax(own >= min((quiet + own.max()) / 2, own.max() - UNEVEN_DB))) if len(own) else 0
        placed.append(replace(word, start=word.start + silent / ENCODER_FRAMES_PER_SECOND))
    return tuple(placed)


@torch.no_grad()
def align(head: CTCHead, states: Tensor, text: str) -> tuple[Word, ...] | None:
    """The words of `text` on the encoder's frames.

    Args:    states: (frames, dim), the frames that hold sound.
    Returns: words with times from the first frame; None where the head cannot spell the text on so few frames. How well
        the head spells them is not their probability: the decoder wrote them.
    """
    words = text.split()
    spelled = [_spell(head, word) for word in words]
    space = [head.index[SPACE]] if SPACE in head.index else []
    labels: list[int] = []
    owner: list[int | None] = []  # the word that each label belongs to
    for number, letters in enumerate(spelled):
        between = space if labels and letters else []
        labels += [*between, *letters]
        owner += [*(None for _ in between), *(number for _ in letters)]
    if not labels or frames_needed(labels) > len(states):
        return None
    logprobs = head(states[None]).cpu()
    path, scores = forced_align(logprobs, torch.tensor([labels], dtype=torch.int32), blank=0)
    spans = merge_tokens(path[0], scores[0].exp(), blank=0)
    step = 1 / ENCODER_FRAMES_PER_SECOND
    found: list[Word | None] = [None] * len(words)
    for number in range(len(words)):
        own = [span for span, whose in zip(spans, owner) if whose == number]
        if own:
            found[number] = Word(words[number], own[0].start * step, own[-1].end * step)
    return tuple(_placed(words, found, len(states) * step))


def _spell(head: CTCHead, word: str) -> list[int]:
    """A word's characters as the head knows them, in lower case where it knows no other."""
    return [label for c in word for label in (head.labels(c) or head.labels(c.lower()))]


def _placed(words: Sequence[str], found: Sequence[Word | None], length: Seconds) -> list[Word]:
    """Words that the head cannot spell (digits, another script) fill the gap between their neighbors."""
    placed: list[Word] = []
    for number, word in enumerate(found):
        if word is None:
            start = placed[-1].end if placed else 0.0
            later = next((one for one in found[number + 1 :] if one is not None), None)
            waiting = 1 + sum(1 for one in found[number + 1 : found.index(later, number)] if one is None) if later else len(found) - number
            end = length if later is None else later.start
            word = Word(words[number], start, start + max(0.0, end - start) / waiting)
        placed.append(word)
    return placed
