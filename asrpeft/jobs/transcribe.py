"""Audio of any length → segments of text.

Up to 30 s is read as it is. Longer audio goes through voice activity detection: only speech reaches the recogniser, so
that silence, which Whisper fills with inventions, gives nothing. With the full audio context, where every call costs 30
s however short the speech, neighbouring stretches are packed into one; with `auto` each is read on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from asrpeft.audio import MAX_SECONDS, SAMPLE_RATE, decode
from asrpeft.audio.vad import speech_segments
from asrpeft.decoding.batch import Row, by_budget, decode_aligned, make_row
from asrpeft.decoding.corpus import BATCH_FRAMES
from asrpeft.decoding.hypothesis import Hypothesis, Options
from asrpeft.decoding.timestamps import stretches
from asrpeft.decoding.words import Word
from asrpeft.decoding.writers import Segment
from asrpeft.errors import BadAudio, BadInput
from asrpeft.recognizer import Recognizer

OPTIONS = Options(stop_loops=True)
Span = tuple[float, float]  # start, end in seconds


def transcribe(
    recognizer: Recognizer,
    source: str | Path | bytes | np.ndarray,
    *,
    adapter: str | None = None,
    lang: str | None = None,
    task: str | None = None,
    context: str | None = None,
    vad: bool = False,
    word_times: bool = False,
    options: Options = OPTIONS,
    prompt: str | None = None,
    batch_frames: int = BATCH_FRAMES,
    autocast: bool = False,
    progress: Callable[[float, float], None] | None = None,
) -> Iterator[Segment]:
    """Transcribe one recording, segment by segment, in time order.

    Args:
        source: a file, its bytes, or (n,) float samples at 16 kHz.
        lang, task, context: default: the adapter's own.
        vad: look for speech in short audio too.
        word_times: say when each word was said; see `asrpeft.decoding.words`.
        options: how to decode; with `timestamps`, segments follow the timestamps that the model writes.
        prompt: text told to have come before.
        progress: called with (seconds done, seconds of the whole).
    Raises: BadAudio for audio that cannot be read; BadInput, BadRoute as `asrpeft.decoding.make_row`.
    """
    samples = source if isinstance(source, np.ndarray) else decode(source)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise BadInput(f"Samples are (n,) floats at 16 kHz, mono; got {samples.dtype} of shape {samples.shape}.")
    if not len(samples):
        raise BadAudio("The audio holds no samples.")
    samples = samples.astype(np.float32, copy=False)
    total = len(samples) / SAMPLE_RATE
    context = recognizer.context_for(adapter) if context is None else context
    language = recognizer.language_for(adapter) if lang is None else lang

    def row(span: Span) -> tuple[Span, Row]:
        piece = samples[round(span[0] * SAMPLE_RATE) : round(span[1] * SAMPLE_RATE)][: int(MAX_SECONDS * SAMPLE_RATE)]
        return span, make_row(
            recognizer,
            piece,
            adapter=adapter,
            lang=lang,
            task=task,
            context=context,
            timestamps=options.timestamps,
            text_prompt=prompt,
        )

    spans = spans_of(samples, context=context, vad=vad)
    for batch in by_budget(map(row, spans), lambda pair: pair[1].frames, batch_frames=batch_frames):
        found = decode_aligned(
            recognizer, [one for _, one in batch], options=options, autocast=autocast, word_times=word_times
        )
        for (span, _), (hypothesis, words) in zip(batch, found):
            yield from _segments(recognizer, hypothesis, words, span, language, options)
        if progress:
            progress(batch[-1][0][1], total)


def spans_of(samples: np.ndarray, *, context: str, vad: bool) -> list[Span]:
    """The stretches to transcribe, each at most 30 s: the whole of short audio, else where speech is."""
    seconds = len(samples) / SAMPLE_RATE
    if seconds <= MAX_SECONDS and not vad:
        return [(0.0, seconds)]
    speech = speech_segments(samples, max_s=MAX_SECONDS)
    return pack(speech, MAX_SECONDS) if context == "full" else speech


def pack(spans: list[Span], most_s: float) -> list[Span]:
    """Join neighbours, with the silence between them, while they last at most `most_s`."""
    packed: list[Span] = []
    for start, end in spans:
        if packed and end - packed[-1][0] <= most_s:
            packed[-1] = (packed[-1][0], end)
        else:
            packed.append((start, end))
    return packed


def _segments(
    recognizer: Recognizer,
    found: Hypothesis,
    words: tuple[Word, ...],
    span: Span,
    language: str | None,
    options: Options,
) -> Iterator[Segment]:
    offset, length = span[0], span[1] - span[0]
    parts = [(0.0, length, found.text)]
    if options.timestamps:
        first = recognizer.no_timestamps + 1
        parts = [
            (one.start, one.end, recognizer.decode_text(one.tokens))
            for one in stretches(found.tokens, first=first, seconds=length)
        ]
    rest = [word.later(offset) for word in words]
    for start, end, text in parts:
        text = text.strip()
        if not text:
            continue
        own, rest = rest[: len(text.split())], rest[len(text.split()) :]
        yield Segment(
            offset + start,
            offset + end,
            text,
            tuple(own),
            language,
            found.adapter,
            found.logprob,
            found.no_speech_prob,
            found.compression_ratio,
            found.temperature,
            found.looped,
        )
