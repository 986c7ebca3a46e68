"""Samples → hypotheses, for a batch whose rows may differ in adapter, language and audio context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from asrpeft.audio import SAMPLE_RATE, log_mel
from asrpeft.audio.samples import as_samples
from asrpeft.decoding.attention import attend
from asrpeft.decoding.beam import beam_search
from asrpeft.decoding.confidence import word_confidences
from asrpeft.decoding.ctc import ctc_search
from asrpeft.decoding.facts import listened
from asrpeft.decoding.fallback import with_fallback
from asrpeft.decoding.greedy import greedy
from asrpeft.decoding.hypothesis import GREEDY, Hypothesis
from asrpeft.decoding.start import as_route, names_of
from asrpeft.decoding.words import Word, align, from_onsets, spread, without_pauses
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Encoded, Recognizer, context_frames, speech_frames


@dataclass(frozen=True)
class Row:
    """One utterance, ready to be decoded.

    Attributes:
        samples: (n,) at 16 kHz, at most 30 s.
        frames: its audio context, in encoder frames.
        prompt: the tokens before its transcript.
        adapter: which adapter it uses; None is the base.
    """

    samples: np.ndarray = field(repr=False)
    frames: int
    prompt: tuple[int, ...]
    adapter: str | None = None
    committed: str = ""  # words that the prompt ends with: the beginning of this very audio's text
    committed_tokens: int = 0  # how many of the prompt's tokens say them, or their end


def make_row(
    recognizer: Recognizer,
    samples: np.ndarray,
    *,
    adapter: str | None = None,
    lang: str | None = None,
    task: str | None = None,
    context: str | None = None,
    timestamps: bool = False,
    text_prompt: str | None = None,
) -> Row:
    """Settle what one utterance is decoded with.

    Args:
        lang, task, context: None takes the adapter's own; without an adapter, what the base, or the adapter merged into
            it, was trained for.
            English-only bases need no language.
        text_prompt: text that is told to have come before (names, spellings, the sentence before).
    Raises: BadAudio for more than 30 s, none, or what is no number; BadInput for samples of another kind, and for a language,
        task or context that the base and adapter do not have.
    """
    samples = as_samples(samples)
    if context is None:
        context = recognizer.context_for(adapter)
    recognizer.check_context(context, adapter)
    if task is None:
        task = recognizer.task_for(adapter)
    prompt = recognizer.prompt(lang=lang, task=task, adapter=adapter, timestamps=timestamps)
    return Row(samples, context_frames(len(samples), context), (*earlier_text(recognizer, text_prompt), *prompt), listened(recognizer, adapter, samples))


def earlier_text(recognizer: Recognizer, text: str | None) -> list[int]:
    """`<|startofprev|>` and the last tokens of `text`, as many as the base can be told."""
    if not text or not text.strip():
        return []
    return [recognizer.token("<|startofprev|>"), *recognizer.encode_text(" " + text.strip())[-recognizer.earlier_room :]]


def text_prefix(recognizer: Recognizer, row: Row, committed: str) -> Row:
    """The row, to be continued after the words `committed` of its own audio.

    The decoder's positions are finite: of a long `committed` it is told the end, and then not what had come before the audio.
    """
    committed = committed.strip()
    if not committed:
        return row
    tokens, prompt = recognizer.encode_text(" " + committed)[-(recognizer.max_tokens // 2) :], row.prompt
    if len(prompt) + len(tokens) > recognizer.max_tokens * 3 // 4:
        prompt = prompt[prompt.index(recognizer.start) :]
    return replace(row, prompt=(*prompt, *tokens), committed=committed, committed_tokens=len(tokens))


def features_of(recognizer: Recognizer, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """(rows, mels, 2·T) and contexts (rows,), T being the longest context."""
    longest = 2 * max(row.frames for row in rows)
    features = torch.stack([log_mel(torch.from_numpy(row.samples), n_mels=recognizer.n_mels, n_frames=longest) for row in rows])
    return features, torch.tensor([row.frames for row in rows])


@torch.no_grad()
def encode_rows(recognizer: Recognizer, rows: Sequence[Row], *, autocast: bool = False) -> Encoded:
    """Encoder states of the rows, each under its own adapter and context.

    In half precision, rows of one context are encoded together and others apart: the same sum, taken over another padding, is
    rounded another way, and layer upon layer makes another text of it.

    Args: autocast: compute in bfloat16 where PyTorch thinks it safe (twice as fast on CPUs that have it, and on GPUs).
    """
    half = autocast or recognizer.dtype != torch.float32
    contexts = [row.frames for row in rows]
    places = [[i for i, n in enumerate(contexts) if n == one] for one in sorted(set(contexts))] if half else [list(range(len(rows)))]
    parts = [_encode_together(recognizer, [rows[i] for i in own], autocast=autocast) for own in places]
    encoded = parts[0] if len(parts) == 1 else _padded(parts, places)
    return replace(encoded, speech=torch.tensor([speech_frames(len(row.samples)) for row in rows]))


def _encode_together(recognizer: Recognizer, rows: Sequence[Row], *, autocast: bool) -> Encoded:
    features, frames = features_of(recognizer, rows)
    with (
        recognizer.route([row.adapter for row in rows]),
        torch.autocast(recognizer.device.type, torch.bfloat16, enabled=autocast),
    ):
        return recognizer.encode(features, frames)


def _padded(parts: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Encoded:
    """One batch of several: those of `parts[i]`, each without a mask, at the rows `places[i]`."""
    states, n_rows = [part.states for part in parts], sum(map(len, places))
    longest = max(one.shape[1] for one in states)
    whole = states[0].new_zeros(n_rows, longest, states[0].shape[2])
    frames = torch.zeros(n_rows, dtype=parts[0].frames.dtype, device=parts[0].frames.device)
    for part, own in zip(parts, places):
        index = torch.tensor(own, device=whole.device)
        whole[index, : part.states.shape[1]], frames[index] = part.states, part.frames
    return Encoded(whole, frames, torch.arange(longest, device=whole.device) < frames[:, None])


def search(
    recognizer: Recognizer,
    encoded: Encoded,
    prompts: Sequence[Sequence[int]],
    *,
    adapters: Sequence[str | None] | str | None,
    options: DecodingOptions,
) -> list[Hypothesis]:
    """The search that the options ask for: greedy or sampled, by beams, with the CTC head's opinion, with fallback; by the head
    alone in rows whose adapter was trained so."""

    def once(
        encoded: Encoded,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[str | None] | str | None,
        options: DecodingOptions,
    ) -> list[Hypothesis]:
        kind = beam_search if options.beams > 1 or options.ctc_weight else greedy
        return kind(recognizer, encoded, prompts, adapters=adapters, options=options)

    def by_decoder(encoded: Encoded, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None] | str | None) -> list[Hypothesis]:
        return with_fallback(once, encoded, prompts, adapters, options) if options.fallback else once(encoded, prompts, adapters, options)

    names = names_of(as_route(adapters, len(encoded.states)), len(encoded.states))
    ctc = [options.ctc_weight == 1 or not options.ctc_weight and recognizer.decode_by(name) == "ctc" for name in names]
    if not any(ctc):
        return by_decoder(encoded, prompts, adapters)
    found: dict[int, Hypothesis] = {}
    for alone in (True, False):
        places = [row for row, one in enumerate(ctc) if one == alone]
        if places:
            some, own_prompts, own = encoded.take(torch.tensor(places)), [prompts[row] for row in places], [names[row] for row in places]
            written = ctc_search(recognizer, some, own_prompts, names=own, options=options) if alone else by_decoder(some, own_prompts, own)
            found |= dict(zip(places, written))
    return [found[row] for row in range(len(names))]


def decode_rows(recognizer: Recognizer, rows: Sequence[Row], *, options: DecodingOptions = GREEDY, autocast: bool = False) -> list[Hypothesis]:
    """Transcribe rows together; each is written as it would be alone, whatever adapters the others use.

    That holds up to the order of sums. In float32 it changes a text only where two tokens are equally likely to six digits.
    In bfloat16 (`autocast`, or a base of that dtype), rounded 65,000 times coarser, it could change many; therefore rows of
    other contexts are encoded apart, and the decoder sums in float32. `scripts/bench/mixed_precision.py` counts what is left:
    on data/mini, none of 100 texts of batches mixed from a base and eight adapters, at either precision.

    Args: autocast: encode in bfloat16; the decoder keeps the precision of its weights.
    """
    return [found for found, _ in decode_aligned(recognizer, rows, options=options, autocast=autocast, word_times=False)]


def decode_aligned(
    recognizer: Recognizer,
    rows: Sequence[Row],
    *,
    options: DecodingOptions = GREEDY,
    autocast: bool = False,
    word_times: bool = True,
) -> list[tuple[Hypothesis, tuple[Word, ...]]]:
    """As `decode_rows`, with each row's words, timed from the beginning of its audio and each with the probability that the
    search gave it (no words unless `word_times`).

    Rows whose prompts have different lengths are decoded one length after another.
    """
    found: dict[int, tuple[Hypothesis, tuple[Word, ...]]] = {}
    for length in sorted({len(row.prompt) for row in rows}):
        places = [i for i, row in enumerate(rows) if len(row.prompt) == length]
        some = [rows[i] for i in places]
        encoded = encode_rows(recognizer, some, autocast=autocast)
        # Not under autocast: the decoder's sums are few, and they decide between words.
        written = search(recognizer, encoded, [row.prompt for row in some], adapters=[row.adapter for row in some], options=options)
        for number, (place, one) in enumerate(zip(places, written)):
            alone = torch.tensor([number])
            found[place] = one, words_of(recognizer, rows[place], encoded.take(alone), one) if word_times else ()
    return [found[i] for i in range(len(rows))]


def words_of(recognizer: Recognizer, row: Row, encoded: Encoded, found: Hypothesis) -> tuple[Word, ...]:
    """The words of a row (the only one of `encoded`), with times and probabilities."""
    times = word_times_of(recognizer, row, encoded, found)
    sure = word_confidences(recognizer, found)
    return tuple(replace(word, probability=one) for word, one in zip(times, sure, strict=True))


def word_times_of(recognizer: Recognizer, row: Row, encoded: Encoded, found: Hypothesis) -> tuple[Word, ...]:
    """When the words of a row (the only one of `encoded`) were said: by the CTC head that goes with its adapter, else
    by the base's alignment heads, else spread over the audio."""
    head, n_frames, seconds = (
        recognizer.ctc_head(row.adapter),
        speech_frames(len(row.samples)),
        len(row.samples) / SAMPLE_RATE,
    )
    before = len(row.committed.split())
    words = None if head is None else align(head, encoded.states[0, :n_frames], f"{row.committed} {found.text}")
    if words is not None:
        return from_onsets(words)[before:]
    # What was committed was said in this audio too: without its tokens, the first new word would begin with the audio.
    said = len(row.prompt) - row.committed_tokens
    words = attend(recognizer, encoded, row.prompt[:said], [*row.prompt[said:], *found.tokens], adapter=row.adapter, n_frames=n_frames)
    if words is None:
        return spread(f"{row.committed} {found.text}", 0.0, seconds)[before:]
    n = len(found.text.split())
    return without_pauses(words[-n:] if n else (), row.samples)
