"""A corpus of tones: sound that is read in a millisecond, with transcripts that a tiny base can be trained on."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from asrpeft.corpus import AudioRef, Corpus, Utterance
from asrpeft.options import TrainingOptions

WORDS = ("ab", "cde", "fg", "hij", "kl")


def tone(hertz: float, seconds: float) -> bytes:
    t = np.arange(int(16_000 * seconds)) / 16_000
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * hertz * t), 16_000, format="WAV")
    return file.getvalue()


def utterance(
    i: int,
    *,
    speaker: str = "s0",
    seconds: float | None = None,
    audio: bytes | None = None,
    text: str | None = None,
    **extra,
) -> Utterance:
    seconds = 0.3 + 0.1 * (i % 4) if seconds is None else seconds
    source = tone(200 + 60 * (i % 5), seconds) if audio is None else audio
    text = f"{WORDS[i % 5]} {WORDS[i // 5 % 5]} {i}" if text is None else text
    return Utterance(f"u{i:03d}", AudioRef(source, f"u{i:03d}.wav"), text, speaker=speaker, duration=seconds, extra=extra)


def tones(n: int = 12, *, speakers: int = 1) -> Corpus:
    return Corpus([utterance(i, speaker=f"s{i % speakers}") for i in range(n)], name="tones")


def options(**changes) -> TrainingOptions:
    """Quick, plain and exact: float32, no augmentation, no further processes, one look at the development data."""
    length = {} if {"epochs", "steps", "minutes"} & changes.keys() else {"steps": 4}
    plain = dict(precision="no", augment="none", workers=0, batch_seconds=8.0, dev_every=1000, nonspeech_share=0.0, budget_seconds=1e6)
    return TrainingOptions(**(plain | length | changes))
