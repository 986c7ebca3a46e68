"""Sounds for the tests, made on the spot, and the files they go into."""

from __future__ import annotations

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile


def chirp(seconds: float = 1.0, rate: int = 16_000, low: float = 200.0, high: float = 2_000.0) -> np.ndarray:
    """A tone that rises: (n,) float32, at most 0.3; every moment of it differs from every other."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (low * t + (high - low) / (2 * max(seconds, 1e-9)) * t * t)
    return (0.3 * np.sin(phase)).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def muxed(samples: np.ndarray, rate: int, container: str, codec: str) -> bytes:
    """(n,) or (channels, n) samples in a container that libsndfile does not know."""
    samples = np.atleast_2d(samples)
    layout = "mono" if len(samples) == 1 else "stereo"
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


def real_speech(name: str) -> Path:
    """A file of the real corpora beside the checkout; the test is skipped where they are not."""
    root = Path(os.environ.get("ASRPEFT_SPEECH", Path(__file__).parents[2].parent / "shared" / "speech"))
    if not (root / name).is_file():
        pytest.skip(f"real speech is not here: {root / name} (set ASRPEFT_SPEECH)")
    return root / name
