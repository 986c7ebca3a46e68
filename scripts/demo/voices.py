"""Who speaks in `data/demo`: the voices of the Swahili part, and the unusual speakers of English.

All are espeak-ng's variants that `scripts.synthesis` reserves for the demo. A Swahili voice is a variant with its own
pitch, speed, size of vocal tract, room and background; no variant is used by both parts. An unusual speaker also
changes sounds in ways of their own, always the same ones (`habits`), and passes through a body of their own (`body`).
They imitate, roughly, what makes whispered, creaky, slurred, young, nasal and electrolarynx speech hard for
recognizers; they are no model of any illness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scripts import synthesis
from scripts.demo import sound

Words = list[list[str]]  # phonemes in espeak-ng's names, word by word
Body = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Voice:
    """One speaker. `size`: frequencies times this; `rate_wpm` as heard, after resizing; pitches from 0 to 99."""

    name: str
    variant: str
    pitch: int
    rate_wpm: int
    size: float = 1.0
    pitch_range: int = 50
    rt60_s: float = 0.2
    wet: float = 0.0
    snr_db: float = 30.0
    noise_tilt: float = 0.7
    word_gap: int = 0
    rate_varies: float = 0.07
    habits: dict[str, str] = field(default_factory=dict)
    drop_final: frozenset[str] = frozenset()
    body: Body | None = None

    def say(self, text: str, *, language: str, rng: np.random.Generator) -> np.ndarray:
        """(n,) float32 at 16 kHz; rate, pitch and noise vary a little between utterances, as `chance` says."""
        if self.habits or self.drop_final:
            words = changed(synthesis.phonemes(text, voice=language), self.habits, self.drop_final)
            text = "[[" + " ".join("|".join(word) for word in words) + "]]"
        samples = synthesis.speak(
            text,
            voice=language,
            variant=self.variant,
            rate_wpm=round(self.rate_wpm / self.size * rng.uniform(1 - self.rate_varies, 1 + self.rate_varies)),
            pitch=int(np.clip(self.pitch + rng.integers(-4, 5), 0, 99)),
            pitch_range=self.pitch_range,
            word_gap=self.word_gap,
            seed=int(rng.integers(1 << 31)),
        )
        samples = sound.resize(sound.trim(samples), self.size)
        if self.body is not None:
            samples = self.body(samples, rng)
        samples = sound.room(samples, self.rt60_s, self.wet, seed=sum(self.name.encode()))
        samples = sound.noise(samples, self.snr_db + rng.uniform(-2, 2), rng, tilt=self.noise_tilt)
        return sound.level(samples, -23 + rng.uniform(-3, 3))


def changed(words: Words, habits: dict[str, str], drop_final: frozenset[str]) -> Words:
    """Phonemes by their substitutes ("" drops one), then the last one gone if in `drop_final`; no word left empty."""
    result = []
    for word in words:
        said = [habits.get(phoneme, phoneme) for phoneme in word]
        said = [phoneme for phoneme in said if phoneme] or word
        result.append(said[:-1] if len(said) > 1 and said[-1] in drop_final else said)
    return result


SWAHILI_TRAIN = (
    Voice("amani", "m7", 45, 165),
    Voice("bahati", "m7", 62, 185, size=1.09, wet=0.35),
    Voice("chausiku", "f5", 50, 160, wet=0.2),
    Voice("dalila", "f5", 38, 175, size=0.94, snr_db=22),
    Voice("elimu", "grandpa", 40, 150, snr_db=25),
    Voice("faraja", "grandpa", 58, 170, size=1.07),
    Voice("goma", "Mario", 50, 165, size=0.95),
    Voice("hekima", "Mario", 66, 180, size=1.12, wet=0.3),
    Voice("imani", "klatt4", 48, 160, snr_db=24),
    Voice("jabali", "klatt4", 30, 170, size=1.08),
    Voice("kito", "Michael", 50, 175, wet=0.25),
    Voice("lulu", "Michael", 64, 165, size=1.16),
    Voice("maua", "belinda", 48, 160),
    Voice("nuru", "belinda", 60, 175, size=1.06, rt60_s=0.3, wet=0.4),
    Voice("olewa", "steph3", 50, 165, snr_db=26),
    Voice("pendo", "steph3", 36, 155, size=0.93),
    Voice("radhi", "Alicia", 46, 165, size=0.92),
    Voice("sifa", "croak", 50, 160, snr_db=28),
    Voice("tumaini", "robosoft4", 50, 140, wet=0.2),
    Voice("upendo", "whisper", 50, 155),
)
SWAHILI_TEST = (
    Voice("ayubu", "m8", 44, 160, size=0.92),
    Voice("binti", "m8", 68, 180, size=1.13, wet=0.3),
    Voice("chama", "grandma", 50, 160, snr_db=24),
    Voice("dunia", "grandma", 40, 170, size=0.93),
    Voice("esha", "grandma", 62, 180, size=1.1, wet=0.3),
    Voice("farisi", "klatt2", 50, 165, snr_db=26),
    Voice("gita", "klatt2", 66, 160, size=1.15),
    Voice("huda", "Tweaky", 46, 165),
    Voice("issa", "Tweaky", 62, 175, size=1.08, rt60_s=0.3, wet=0.35),
    Voice("jamila", "AnxiousAndy", 45, 205, snr_db=25),
    Voice("kasim", "AnxiousAndy", 60, 220, size=1.1),
    Voice("latifa", "AnxiousAndy", 34, 200, size=0.94, wet=0.2),
    Voice("musa", "UniRobot", 50, 135, snr_db=28),
    Voice("nyota", "UniRobot", 36, 145, size=0.94, wet=0.25),
)
EXAMPLE = SWAHILI_TEST[4]  # an ordinary voice of the test, for the recording that `asrpeft transcribe` is shown on

_STOPS_AND_FRICATIVES = frozenset("t d k p b g s z f v T D S Z t# t2 tS dZ".split())


def _whispered(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    breath = sound.noise(samples, 13.0, rng, tilt=0.2)  # the breath that a whisper is made of, over everything
    return sound.band(breath, 500, 5_500)


def _creaky(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sound.tremor(sound.stretch(samples, 1.12), 23.0, 0.75, rng)  # about the rate of vocal fry


def _slurred(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sound.low_pass(sound.stretch(samples, 1.25), 1_900)


def _shaking_nasal(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sound.nasal(sound.tremor(samples, 5.5, 0.6, rng))


def _buzzing(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    seconds = np.arange(len(samples)) / sound.SAMPLE_RATE
    buzz = ((seconds * 82) % 1.0 - 0.5) * 0.5 * sound.rms(samples)  # the device itself, never silent
    return sound.band(samples + buzz.astype(np.float32), 250, 4_500)


UNUSUAL = (
    Voice("whispering", "whisper", 50, 165, snr_db=26, noise_tilt=0.3, body=_whispered),
    Voice(
        "creaking",
        "croak",
        8,
        135,
        size=0.9,
        pitch_range=15,
        body=_creaky,
        habits={"d": "t", "z": "s", "v": "f", "b": "p", "g": "k", "dZ": "tS", "Z": "S", "D": "T"},
    ),
    Voice(
        "slurring",
        "grandpa",
        30,
        165,
        size=0.88,
        pitch_range=20,
        word_gap=9,
        rate_varies=0.15,
        body=_slurred,
        habits={"s": "S", "z": "Z", "T": "S", "D": "d", "tS": "S", "dZ": "Z", "r": "w", "t#": "d"},
    ),
    Voice(
        "childlike",
        "Alicia",
        85,
        150,
        size=1.24,
        pitch_range=75,
        rate_varies=0.12,
        wet=0.2,
        habits={"r": "w", "l": "w", "@L": "U", "T": "f", "D": "d", "S": "s", "tS": "t", "dZ": "d", "v": "b"},
        drop_final=frozenset({"z", "N"}),
    ),
    Voice(
        "nasal",
        "m7",
        55,
        130,
        size=1.06,
        rate_varies=0.2,
        word_gap=2,
        body=_shaking_nasal,
        habits={"b": "m", "d": "n", "g": "N", "p": "b", "t": "d", "k": "g", "s": "h", "T": "h", "tS": "h", "l": "n"},
    ),
    Voice(
        "electric",
        "klatt4",
        40,
        160,
        size=1.02,
        pitch_range=0,
        body=_buzzing,
        habits={"t": "d", "k": "g", "p": "b", "s": "z", "f": "v", "T": "D", "S": "Z", "tS": "dZ", "h": ""},
        drop_final=_STOPS_AND_FRICATIVES,
    ),
)

# The ordinary voices of the two long recordings.
NARRATORS = (Voice("narrator-a", "belinda", 48, 155, wet=0.15), Voice("narrator-b", "Michael", 50, 160, wet=0.15))
