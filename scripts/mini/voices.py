"""Who speaks a text: a random synthesizer, voice, rate and pitch for a language, never a voice reserved for the demo."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from scripts.synthesis import FESTIVAL_VOICES, FLITE_VOICES, RESERVED_VARIANTS, SynthesisError, festival, flite, speak, variants

_ESPEAK = {
    "en": ["en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us"],
    "es": ["es", "es-419"],
    "it": ["it"],
    "de": ["de"],
    "pt": ["pt", "pt-br"],
    "pl": ["pl"],
    "cs": ["cs"],
    "fi": ["fi"],
    "ru": ["ru"],
}
_UNHELPFUL = {"fast", "iven4", "kaukovalta"}  # too fast to understand, or singing
# Share of utterances spoken by festival, which needs batches (see `festival_batch`); flite's share of English.
FESTIVAL_SHARE = {"en": 0.15, "it": 0.35, "cs": 0.4, "fi": 0.35, "ru": 0.2}
FLITE_SHARE = 0.45
_FLITE = [*FLITE_VOICES, "slt", "rms", "awb", "kal16"]  # the better voices twice
_MEAN_F0 = {"kal": 105, "kal16": 105, "awb": 120, "rms": 100, "slt": 175}


def usable_variants() -> list[str]:
    return [name for name in variants() if name not in RESERVED_VARIANTS | _UNHELPFUL]


def say(text: str, lang: str, random_: random.Random) -> tuple[np.ndarray, str]:
    """One text by espeak-ng or flite: samples and the name of the voice. Raises SynthesisError."""
    if lang == "en" and random_.random() < FLITE_SHARE:
        voice = random_.choice(_FLITE)
        f0 = _MEAN_F0[voice] * random_.uniform(0.75, 1.35)
        return flite(text, voice=voice, stretch=random_.uniform(0.8, 1.4), f0_hz=f0), f"flite-{voice}"
    voice = random_.choice(_ESPEAK[lang])
    variant = random_.choice(usable_variants()) if random_.random() < 0.85 else None
    samples = speak(
        text,
        voice=voice,
        variant=variant,
        rate_wpm=random_.randint(105, 215),
        pitch=random_.randint(20, 80),
        pitch_range=random_.randint(20, 85),
        word_gap=random_.choice([0, 0, 0, 1, 3]),
    )
    return samples, f"espeak-{voice}+{variant}"


def festival_batch(texts: list[str], lang: str, random_: random.Random) -> Iterator[tuple[str, np.ndarray, str]]:
    """Texts of one language by one festival voice at one pace; those it cannot say are left out."""
    if not texts:
        return
    voice = random_.choice([name for name, (spoken, _) in FESTIVAL_VOICES.items() if spoken == lang])
    try:
        spoken = festival(texts, voice=voice, stretch=random_.uniform(0.8, 1.35))
    except SynthesisError:
        return
    for text, samples in zip(texts, spoken):
        if samples is not None:
            yield text, samples, f"festival-{voice}"
