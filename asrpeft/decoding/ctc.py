"""Decoding by the CTC head alone, without a decoder: what an adapter trained with `--loss ctc` needs, and `--ctc-weight 1` asks for.

    greedy   argmax_π Σ_t log p(π_t | h_t), repeats joined, blanks dropped: the best path
    beams    argmax_y Σ_{π spells y} Π_t p(π_t | h_t) among the strings that prefix beam search keeps: the best text

Prefix beam search holds for each string g the probabilities p_b(g), p_c(g) of the paths so far that spell it and end in a blank or
in a character; a character equal to g's last only makes a new one after a blank. A text's probability is a sum over paths,
which is why the best path may spell another one.

Source: Graves et al., 2006, https://doi.org/10.1145/1143844.1143891 (best path, section 3.2); Graves and Jaitly, 2014,
https://proceedings.mlr.press/v32/graves14.html, and Hannun et al., 2014, https://arxiv.org/abs/1408.2873 (prefix beam search).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from asrpeft.adapters.ctc import SPACE, CTCHead
from asrpeft.decoding.hypothesis import Hypothesis
from asrpeft.decoding.joint import head_of, said_by
from asrpeft.decoding.loops import compression_ratio
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Encoded, Recognizer

NEVER = -math.inf
UNLIKELY = math.log(1e-4)  # characters below it on a frame begin no new string: two or three are left of thirty
Labels = tuple[int, ...]


@torch.no_grad()
def ctc_search(
    recognizer: Recognizer, encoded: Encoded, prompts: Sequence[Sequence[int]], *, names: Sequence[str | None], options: DecodingOptions
) -> list[Hypothesis]:
    """The text of each row by the CTC head that goes with its adapter, greedily or by `options.beams`.

    Where a prompt ends in words of this very audio (a stream's committed text), the hypothesis is what follows them.
    Raises: BadInput if a row's adapter (or the base) has no CTC head.
    """
    n_frames = (encoded.frames if encoded.speech is None else encoded.speech).tolist()
    found = []
    for row, name in enumerate(names):
        head = head_of(recognizer, name)
        logprobs = head(encoded.states[row : row + 1, : n_frames[row]])[0].cpu()
        labels = best_path(logprobs) if options.beams == 1 else prefix_beam_search(logprobs, options.beams)[0][0]
        words = head.spell(labels).split()
        sure = dict(enumerate(_character_logprobs(head, logprobs, " ".join(words))))
        first = _words_said(words, recognizer.decode_text(said_by(recognizer, prompts[row])))
        skipped = sum(len(word) + 1 for word in words[:first])
        text = " ".join(words[first:])
        tokens = recognizer.encode_text(SPACE + text) if text else []
        logs = _token_logprobs(recognizer, tokens, text, [sure.get(skipped + n, 0.0) for n in range(len(text))])
        found.append(
            Hypothesis(
                tokens=tuple(tokens),
                text=SPACE + text if text else "",
                logprob=sum(logs) / max(1, len(logs)),
                token_logprobs=tuple(logs),
                no_speech_prob=float(logprobs[:, 0].sum().exp()),  # of the one path that spells nothing
                compression_ratio=compression_ratio(text),
                finished=True,
                adapter=name,
            )
        )
    return found


def best_path(logprobs: Tensor) -> Labels:
    """logprobs (frames, characters), the blank first → the labels of the likeliest path."""
    best = torch.unique_consecutive(logprobs.argmax(-1))
    return tuple(best[best != 0].tolist())


def prefix_beam_search(logprobs: Tensor, beams: int) -> list[tuple[Labels, float]]:
    """The likeliest strings with log p, best first; exact while no more than `beams` strings have any probability.

    Args: logprobs: (frames, characters), the blank first.
    """
    table = logprobs.double().numpy()
    kept: dict[Labels, tuple[float, float]] = {(): (0.0, NEVER)}  # string → log p_b, log p_c
    for frame in table:
        likely = [int(c) for c in np.flatnonzero(frame > UNLIKELY) if c] or [int(frame[1:].argmax()) + 1 if len(frame) > 1 else 0]
        after: dict[Labels, list[float]] = {}

        def add(string: Labels, place: int, value: float) -> None:
            found = after.setdefault(string, [NEVER, NEVER])  # noqa: B023 - called in this turn alone
            found[place] = _sum(found[place], value)

        for string, (blank, character) in kept.items():
            both = _sum(blank, character)
            add(string, 0, both + frame[0])
            if string:
                add(string, 1, character + frame[string[-1]])
            for c in likely:
                if c:
                    add((*string, c), 1, (blank if string and string[-1] == c else both) + frame[c])
        best = sorted(after.items(), key=lambda pair: -_sum(*pair[1]))[:beams]
        kept = {string: (blank, character) for string, (blank, character) in best}
    return [(string, _sum(*sums)) for string, sums in kept.items()]


def _sum(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))


def _character_logprobs(head: CTCHead, logprobs: Tensor, text: str) -> list[float]:
    """For each character the mean of its log-probability over the frames that the text's best path gives it."""
    labels = head.labels(text)
    if not labels:
        return []
    path, scores = forced_align(logprobs[None], torch.tensor([labels], dtype=torch.int32), blank=0)
    return [span.score for span in merge_tokens(path[0], scores[0], blank=0)]


def _token_logprobs(recognizer: Recognizer, tokens: Sequence[int], text: str, characters: Sequence[float]) -> list[float]:
    """Of each token the mean over the characters that it holds a byte of (the space before a word is nobody's doubt)."""
    owner = [None, *(n for n, c in enumerate(text) for _ in c.encode())]  # of each byte
    pieces = [recognizer.text_bytes([token]) for token in tokens]
    if sum(map(len, pieces)) != len(owner):  # a tokenizer that writes something else than it was given
        return [sum(characters) / len(characters)] * len(tokens) if characters else [0.0] * len(tokens)
    found, at = [], 0
    for piece in pieces:
        own = {n for n in owner[at : at + len(piece)] if n is not None}
        found.append(sum(characters[n] for n in own) / len(own) if own else 0.0)
        at += len(piece)
    return found


def _words_said(words: Sequence[str], committed: str) -> int:
    """How many words the beginning of a text takes that comes nearest to what was committed before."""
    wanted = " ".join(committed.lower().split())
    beginnings = [" ".join(words[:n]).lower() for n in range(len(words) + 1)] if wanted else [""]
    return min(range(len(beginnings)), key=lambda n: Levenshtein.distance(beginnings[n], wanted))
