"""Word times from the decoder's attention to the audio, for bases without a CTC head.

    A = mean over alignment heads of median₇( standardize( softmax(q kᵀ / √d) ) )      (tokens, frames)
    the path that follows A most closely, by dynamic time warping, says at which frame each token begins

Standardized over the tokens, filtered over the frames. Some heads of a Whisper checkpoint follow the audio closely; its
generation config lists them as `alignment_heads`.
Source: openai/whisper's timing code; Radford et al., 2022, https://arxiv.org/abs/2212.04356.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from asrpeft.adapters import Route
from asrpeft.decoding.start import prompt_rows
from asrpeft.decoding.words import Word
from asrpeft.recognizer import Encoded, Recognizer
from asrpeft.recognizer.context import ENCODER_FRAMES_PER_SECOND

MEDIAN = 7  # frames


@contextmanager
def _watched(recognizer: Recognizer, layers: Sequence[int]) -> Iterator[dict[tuple[int, str], Tensor]]:
    """The queries and keys that the cross attention of some layers computes inside the block, adapters included."""
    seen: dict[tuple[int, str], Tensor] = {}
    handles, mine = [], threading.get_ident()
    for number in layers:
        block = recognizer.base.model.decoder.layers[number].encoder_attn
        for name in ("q_proj", "k_proj"):

            def keep(_module: object, _args: object, output: Tensor, key: tuple[int, str] = (number, name)) -> None:
                if threading.get_ident() == mine:  # other sessions decode with the same layers
                    seen[key] = output

            handles.append(getattr(block, name).register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_to_audio(recognizer: Recognizer, encoded: Encoded, tokens: Sequence[int], *, adapter: str | None, n_frames: int) -> Tensor | None:
    """How much each of `tokens` attends to each of the first `n_frames` frames: (tokens, frames), standardized.

    Args:   encoded: one row.
    Returns: None where the base names no alignment heads.
    """
    heads = getattr(recognizer.generation, "alignment_heads", None)
    if not heads:
        return None
    layers = sorted({layer for layer, _ in heads})
    with _watched(recognizer, layers) as seen, recognizer.route(adapter):
        recognizer.decode(encoded, torch.tensor([list(tokens)], device=encoded.states.device))
    n_heads = recognizer.base.config.decoder_attention_heads
    weights = []
    for layer, head in heads:
        # A prompt adapter's rows come first, so the tokens' own are the last.
        q, k = (seen[layer, name][0].float().unflatten(-1, (n_heads, -1))[:, head] for name in ("q_proj", "k_proj"))
        weights.append((q[-len(tokens) :] @ k[:n_frames].T / q.shape[-1] ** 0.5).softmax(-1))
    a = torch.stack(weights)
    a = (a - a.mean(1, keepdim=True)) / a.std(1, keepdim=True, unbiased=False).clamp(min=1e-9)
    if n_frames > MEDIAN // 2:
        a = torch.nn.functional.pad(a, (MEDIAN // 2, MEDIAN // 2), mode="reflect").unfold(-1, MEDIAN, 1).median(-1).values
    return a.mean(0)


def warp(a: np.ndarray) -> np.ndarray:
    """a (tokens, frames) → the frame at which each token begins, (tokens,): the cheapest monotone path through −a."""
    from librosa.sequence import dtw

    path = dtw(C=-a.astype(np.float64), backtrack=True)[1][::-1]
    return path[np.unique(path[:, 0], return_index=True)[1], 1]


def attend(
    recognizer: Recognizer,
    encoded: Encoded,
    prompt: Sequence[int],
    tokens: Sequence[int],
    *,
    adapter: str | None,
    n_frames: int,
) -> tuple[Word, ...] | None:
    """The words of `tokens`, written after `prompt`, on the first `n_frames` frames of `encoded` (one row).

    Returns: None where the base names no alignment heads, or there is no word.
    """
    starts = word_starts(recognizer, tokens)
    if not starts:
        return None
    whole = [*prompt, *tokens, recognizer.end][: recognizer.max_tokens - prompt_rows(recognizer, Route(adapter))]
    a = attention_to_audio(recognizer, encoded, whole, adapter=adapter, n_frames=n_frames)
    if a is None:
        return None
    # The row before a token is the one that wrote it; the last row wrote the end.
    begins = warp(a[len(prompt) - 1 : -1].cpu().numpy()) / ENCODER_FRAMES_PER_SECOND
    edges = [min(place, len(begins) - 1) for place in (*starts, len(tokens))]
    texts = recognizer.decode_text(list(tokens)).split()
    return tuple(Word(text, float(begins[a]), float(begins[b])) for text, a, b in zip(texts, edges, edges[1:]))


def word_starts(recognizer: Recognizer, tokens: Sequence[int]) -> list[int]:
    """The place of the token that begins each word of the text."""
    starts: list[int] = []
    for place in range(len(tokens)):
        count = len(recognizer.decode_text(list(tokens[: place + 1])).split())
        starts += [place] * (count - len(starts))
    return starts[: len(recognizer.decode_text(list(tokens)).split())]
