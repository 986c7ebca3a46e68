"""What happens to sound on its way to a recognizer: speed, rooms, noise, bands, codecs, gain, clipping. All seeded numpy."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

RATE = 16_000
Random = np.random.Generator


def colored_noise(n: int, random: Random) -> np.ndarray:
    """Noise whose spectrum falls as 1/f^e, e drawn from 0 (white) to 2 (brown); unit variance."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / RATE), 30.0) ** (-random.uniform(0, 2) / 2)
    noise = np.fft.irfft(spectrum, n)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def tones(n: int, random: Random) -> np.ndarray:
    """Music-like sound: a few voices of notes with harmonics and decays, unit variance."""
    out, t = np.zeros(n, np.float32), np.arange(n) / RATE
    for _ in range(random.integers(1, 4)):
        step = int(RATE * random.uniform(0.12, 0.8))
        for start in range(0, n, step):
            f = 110.0 * 2 ** (random.integers(0, 36) / 12)
            span = t[start : start + step] - t[start]
            note = sum(np.sin(2 * np.pi * f * h * span) / h ** random.uniform(0.8, 2) for h in range(1, random.integers(2, 6)))
            out[start : start + step] += (note * np.exp(-span * random.uniform(0.5, 8))).astype(np.float32)
    return out / (out.std() + 1e-9)


def speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Resampled: `factor` times as fast, pitch and formants with it."""
    return soxr.resample(samples, RATE * factor, RATE, quality="MQ").astype(np.float32)


def room(samples: np.ndarray, random: Random) -> np.ndarray:
    """A room: decaying noise of 0.08 to 0.6 s after the direct sound."""
    decay = random.uniform(0.08, 0.6)
    n = int(decay * RATE)
    tail = random.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: int(0.003 * RATE)] = 0
    tail *= random.uniform(0.1, 1.0) / (np.sqrt((tail**2).sum()) + 1e-9)
    tail[0] = 1.0
    return fftconvolve(samples, tail)[: len(samples)].astype(np.float32)


def band(samples: np.ndarray, random: Random) -> np.ndarray:
    """A telephone (300–3400 Hz), a dull microphone (low-pass) or a thin one (high-pass)."""
    kind = random.integers(3)
    if kind == 0:
        sos = butter(4, [random.uniform(150, 350), random.uniform(3000, 3800)], "bandpass", fs=RATE, output="sos")
    elif kind == 1:
        sos = butter(2, random.uniform(2000, 6500), "lowpass", fs=RATE, output="sos")
    else:
        sos = butter(1, random.uniform(100, 900), "highpass", fs=RATE, output="sos")
    return sosfilt(sos, samples).astype(np.float32)


def color(samples: np.ndarray, random: Random) -> np.ndarray:
    """A random smooth frequency response within about ±9 dB: another microphone, another vocal tract."""
    n = len(samples)
    knots = np.cumsum(random.normal(0, 2.5, 9))
    knots = np.clip(knots - knots.mean(), -9, 9)
    gain = 10 ** (np.interp(np.fft.rfftfreq(n, 1 / RATE), np.linspace(0, 8000, 9), knots) / 20)
    return np.fft.irfft(np.fft.rfft(samples) * gain, n).astype(np.float32)


def opus(samples: np.ndarray) -> np.ndarray:
    """Through the Opus codec and back, as much real speech has been."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), RATE, format="OGG", subtype="OPUS")
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.resize(decoded, len(samples)) if len(decoded) < len(samples) else decoded[: len(samples)]


def mu_law(samples: np.ndarray) -> np.ndarray:
    """8-bit μ-law, as on a telephone line."""
    scaled = np.sign(samples) * np.log1p(255 * np.minimum(np.abs(samples), 1)) / np.log(256)
    scaled = np.round(scaled * 127) / 127
    return (np.sign(scaled) * np.expm1(np.abs(scaled) * np.log(256)) / 255).astype(np.float32)


def degrade(samples: np.ndarray, random: Random, babble: list[np.ndarray], strength: float = 1.0) -> np.ndarray:
    """Each change with its own chance times `strength`, in the order nature has: throat, room, noise, microphone, line."""
    peak = np.abs(samples).max() + 1e-9
    out = samples / peak * 0.5
    if random.random() < 0.7 * strength:
        out = color(out, random)
    if random.random() < 0.4 * strength:
        out = room(out, random)
    level = np.sqrt((out**2).mean()) + 1e-9
    if random.random() < 0.6 * strength:
        noise = colored_noise(len(out), random) if random.random() < 0.85 else tones(len(out), random)
        out = out + noise * level * 10 ** (-random.uniform(5, 35) / 20)
    if babble and random.random() < 0.15 * strength:
        other = np.resize(babble[random.integers(len(babble))], len(out))
        out = out + other / (other.std() + 1e-9) * level * 10 ** (-random.uniform(10, 25) / 20)
    if random.random() < 0.2 * strength:
        out = band(out, random)
    if random.random() < 0.08 * strength:
        out = np.clip(out, -0.3 * random.uniform(0.4, 1), 0.3 * random.uniform(0.4, 1))
    if random.random() < 0.1 * strength:
        out = mu_law(out)
    if random.random() < 0.15 * strength:
        out = opus(out.astype(np.float32))
    gain = 10 ** (random.uniform(-24, 3) / 20)
    return np.clip(out * gain, -1, 1).astype(np.float32)
