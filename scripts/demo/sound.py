"""What happens to a voice in an unusual body and on its way to the microphone: (n,) float32 in and out, at 16 kHz."""

from __future__ import annotations

import librosa
import numpy as np
import soxr
from scipy import signal

SAMPLE_RATE = 16_000
Samples = np.ndarray


def trim(samples: Samples, *, below_db: float = 45.0, margin_s: float = 0.12) -> Samples:
    """The synthesizer's own silence at both ends replaced by `margin_s` seconds of it."""
    kept, _ = librosa.effects.trim(samples, top_db=below_db, frame_length=512, hop_length=128)
    return np.pad(kept, int(margin_s * SAMPLE_RATE))


def resize(samples: Samples, factor: float) -> Samples:
    """A smaller (`factor` > 1) or larger vocal tract: frequencies times `factor`, durations divided by it."""
    return soxr.resample(samples, factor * SAMPLE_RATE, SAMPLE_RATE).astype(np.float32) if factor != 1 else samples


def stretch(samples: Samples, factor: float) -> Samples:
    """`factor` times as long at the same pitch (a phase vocoder, whose smear is part of what slurring sounds like)."""
    return librosa.effects.time_stretch(samples, rate=1 / factor).astype(np.float32)


def low_pass(samples: Samples, hz: float, *, order: int = 4) -> Samples:
    return _filter(signal.butter(order, hz, fs=SAMPLE_RATE, output="sos"), samples)


def band(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """What a small microphone lets through."""
    return _filter(signal.butter(2, (low_hz, high_hz), "bandpass", fs=SAMPLE_RATE, output="sos"), samples)


def nasal(samples: Samples) -> Samples:
    """A nasal tract in parallel: a murmur near 260 Hz is raised, and a zero near 900 Hz weakens the first formants."""
    murmur = _filter(signal.butter(2, (180, 340), "bandpass", fs=SAMPLE_RATE, output="sos"), samples)
    b, a = signal.iirnotch(900, 1.4, fs=SAMPLE_RATE)
    return (signal.lfilter(b, a, samples) + 1.2 * murmur).astype(np.float32)


def tremor(samples: Samples, hz: float, depth: float, rng: np.random.Generator) -> Samples:
    """Loudness that shakes `hz` times a second by up to `depth` (0 to 1), and pitch that shakes a little with it."""
    seconds = np.arange(len(samples)) / SAMPLE_RATE
    phase = 2 * np.pi * hz * seconds + rng.uniform(0, 2 * np.pi)
    shaken = np.interp(np.arange(len(samples)) + 8 * np.sin(phase), np.arange(len(samples)), samples)
    return (shaken * (1 - depth * (0.5 + 0.5 * np.sin(phase)))).astype(np.float32)


def room(samples: Samples, rt60_s: float, wet: float, seed: int) -> Samples:
    """Reverberation by an exponentially decaying noise tail of `wet` times the direct amplitude, fixed by `seed`."""
    if wet <= 0:
        return samples
    tail = np.random.default_rng(seed).standard_normal(int(rt60_s * SAMPLE_RATE))
    tail *= 10 ** (-3 * np.arange(len(tail)) / len(tail))
    tail[: SAMPLE_RATE // 200] = 0  # the first reflections take 5 ms
    response = np.concatenate([[1.0], wet * tail / np.sqrt(np.sum(tail**2))])
    return signal.fftconvolve(samples, response)[: len(samples) + SAMPLE_RATE // 10].astype(np.float32)


def noise(samples: Samples, snr_db: float, rng: np.random.Generator, *, tilt: float = 0.7) -> Samples:
    """Steady background `snr_db` below the speech; its power falls as frequency to the power -2·`tilt` (0: white)."""
    count = len(samples)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 60.0) ** tilt
    background = np.fft.irfft(spectrum, count)
    background *= rms(samples) / rms(background) * 10 ** (-snr_db / 20)
    return (samples + background).astype(np.float32)


def level(samples: Samples, dbfs: float = -23.0, *, ceiling: float = 0.89) -> Samples:
    """Scaled to `dbfs` of RMS, or less where a peak would pass `ceiling`."""
    scaled = samples * (10 ** (dbfs / 20) / rms(samples))
    return (scaled * min(1.0, ceiling / np.max(np.abs(scaled)))).astype(np.float32)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1e-9


def _filter(sections: np.ndarray, samples: Samples) -> Samples:
    return signal.sosfilt(sections, samples).astype(np.float32)
