"""Sound in which nobody speaks, made on the spot: silence, noise, wind, hum, beeps, clicks, sirens, music.

A recognizer that is adapted to speech alone forgets that there is anything else: it writes words for noise where the base
wrote none. A share of the rows it is trained on are such clips, whose transcript is empty: the first token after the prompt
is the end. (The no-speech token after the start is not trained: without the languages of speech beside it, it would be
predicted for everything.) Each clip is a function of a key, so that a run which was killed hears the same ones again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import soundfile
import torch
from torch import Generator, Tensor

from asrpeft.audio.augment import generator, uniform
from asrpeft.audio.features import SAMPLE_RATE
from asrpeft.corpus import AudioRef, Corpus, Utterance

Seconds = float
ID = "nonspeech\x1f"  # begins the names of rows that hold no speech: no corpus has such an id
CLIPS = 16  # that `held_out` has


def _time(n: int) -> Tensor:
    return torch.arange(n) / SAMPLE_RATE


def _colored(n: int, rng: Generator) -> Tensor:
    """Noise of power 1 / f^c, c between 0 (white) and 2 (brown); its largest sample is 1."""
    spectrum = torch.fft.rfft(torch.randn(n, generator=rng))
    spectrum *= torch.arange(len(spectrum)).clamp(min=20.0).pow(-uniform(0.0, 2.0, rng) / 2)
    spectrum[0] = 0.0
    noise = torch.fft.irfft(spectrum, n)
    return noise / noise.abs().max().clamp(min=1e-9)


def silence(n: int, rng: Generator) -> Tensor:
    """Nothing at all, or the last bit of a converter."""
    return torch.zeros(n) if uniform(0, 1, rng) < 0.3 else torch.randn(n, generator=rng) * 2.0**-15


def noise(n: int, rng: Generator) -> Tensor:
    return _colored(n, rng)


def wind(n: int, rng: Generator) -> Tensor:
    """Noise that swells and fades: wind, waves, passing cars, applause."""
    rate, phase = uniform(0.1, 3.0, rng), uniform(0.0, 2 * math.pi, rng)
    return _colored(n, rng) * (0.5 + 0.5 * torch.sin(2 * math.pi * rate * _time(n) + phase)).pow(uniform(1.0, 4.0, rng))


def hum(n: int, rng: Generator) -> Tensor:
    """The mains or a motor, with overtones, over a little noise."""
    base = (50.0, 60.0, uniform(80.0, 300.0, rng))[int(torch.randint(3, (), generator=rng))]
    tones = [uniform(0.2, 1.0, rng) / k * torch.sin(2 * math.pi * k * base * _time(n)) for k in range(1, 8)]
    return sum(tones) + uniform(0.0, 0.1, rng) * _colored(n, rng)


def beeps(n: int, rng: Generator) -> Tensor:
    """One tone or several at once, on and off: telephones, alarms, machines."""
    tones = sum(torch.sin(2 * math.pi * uniform(300.0, 3_000.0, rng) * _time(n)) for _ in range(1 + int(torch.randint(3, (), generator=rng))))
    rate, share = uniform(0.3, 6.0, rng), uniform(0.2, 1.0, rng)
    return tones * ((rate * _time(n)) % 1.0 < share)


def clicks(n: int, rng: Generator) -> Tensor:
    """Short decaying knocks at random times: keys, steps, doors, rain."""
    each = round(uniform(0.005, 0.1, rng) * SAMPLE_RATE)
    knock = torch.randn(each, generator=rng) * torch.exp(-6.0 * torch.arange(each) / each)
    made = torch.zeros(n + each)
    for _ in range(1 + int(uniform(0.5, 12.0, rng) * n / SAMPLE_RATE)):
        start = int(torch.randint(n, (), generator=rng))
        made[start : start + each] += uniform(0.1, 1.0, rng) * knock
    return made[:n]


def siren(n: int, rng: Generator) -> Tensor:
    """A tone that glides up and down."""
    middle, width, rate = uniform(400.0, 1_500.0, rng), uniform(0.1, 0.5, rng), uniform(0.1, 3.0, rng)
    hertz = middle * (1 + width * torch.sin(2 * math.pi * rate * _time(n)))
    return torch.sin(2 * math.pi * torch.cumsum(hertz, 0) / SAMPLE_RATE)


def music(n: int, rng: Generator) -> Tensor:
    """Notes of a scale, plucked one after another, with overtones."""
    made, length = torch.zeros(n), round(uniform(0.12, 0.6, rng) * SAMPLE_RATE)
    root = uniform(110.0, 440.0, rng)
    for start in range(0, n, length):
        step = (0, 2, 4, 5, 7, 9, 11, 12)[int(torch.randint(8, (), generator=rng))]
        t = _time(min(length, n - start))
        note = sum(torch.sin(2 * math.pi * k * root * 2 ** (step / 12) * t) / k for k in range(1, 5))
        made[start : start + len(t)] = note * torch.exp(-uniform(1.0, 6.0, rng) * t)
    return made


KINDS: tuple[Callable[[int, Generator], Tensor], ...] = (silence, noise, wind, hum, beeps, clicks, siren, music)


def clip(seconds: Seconds, *key: object, kind: int | None = None) -> Tensor:
    """(n,) float32 at 16 kHz of the given length: the same for the same key, between 60 and 6 dB below full scale.

    Args:  kind: place in KINDS; None lets the key choose.
    """
    rng = generator("nonspeech", *key)
    n = max(1, round(seconds * SAMPLE_RATE))
    drawn = int(torch.randint(len(KINDS), (), generator=rng))
    made = KINDS[drawn if kind is None else kind](n, rng)
    peak, level = float(made.abs().max()), 10.0 ** (uniform(-60.0, -6.0, rng) / 20.0)
    return (made * (level / peak) if peak > 1e-3 else made).float()  # what is silent stays so


def cut(recordings: Corpus, seconds: Seconds, *key: object) -> Tensor:
    """(n,) float32 at 16 kHz: at most so much of one of the recordings. Raises: BadAudio if it cannot be read."""
    rng = generator("recordings", *key)
    samples = torch.from_numpy(recordings[int(torch.randint(len(recordings), (), generator=rng))].samples())
    n = round(seconds * SAMPLE_RATE)
    start = int(uniform(0.0, max(0, len(samples) - n), rng))
    return samples[start : start + n]


def rounded(count: float, *key: object) -> int:
    """A whole number that is `count` in the mean over many keys."""
    return int(count + uniform(0.0, 1.0, generator("nonspeech count", *key))) if count else 0


def held_out() -> Corpus:
    """Clips that no training hears, two of each kind, 1 to 8 s long: always the same ones."""

    def clip_of(i: int) -> Utterance:
        seconds = 1.0 + 7.0 * i / (CLIPS - 1)

        def made() -> bytes:
            out = io.BytesIO()
            soundfile.write(out, clip(seconds, "held out", i, kind=i % len(KINDS)).numpy(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
            return out.getvalue()

        name = f"{KINDS[i % len(KINDS)].__name__}-{i // len(KINDS) + 1}"
        return Utterance(name, AudioRef(made, name), "", duration=seconds)

    return Corpus([clip_of(i) for i in range(CLIPS)], name="made non-speech")


def length(spoken: Seconds, *key: object) -> Seconds:
    """How long a clip is beside speech of a length: half to four times that; three in ten are 1 to 10 s whatever is spoken."""
    rng = generator("nonspeech length", *key)
    if uniform(0.0, 1.0, rng) < 0.3:
        return uniform(1.0, 10.0, rng)
    return min(30.0, max(0.3, spoken * 2.0 ** uniform(-1.0, 2.0, rng)))
