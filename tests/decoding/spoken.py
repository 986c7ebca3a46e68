"""Corpora of sound made on the spot, as WAV bytes."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from asrpeft.corpus import AudioRef, Corpus, Utterance


def wav(seconds: float, seed: int, *, level: float = 0.3) -> bytes:
    """Noise through a slow tremolo: nothing a recognizer knows, and different for every seed."""
    rng = np.random.default_rng(seed)
    n = round(16_000 * seconds)
    x = rng.standard_normal(n) * (0.5 + 0.5 * np.sin(np.arange(n) * rng.uniform(1, 40) / 16_000)) * level
    out = io.BytesIO()
    soundfile.write(out, x.clip(-1, 1), 16_000, format="WAV", subtype="PCM_16")
    return out.getvalue()


def corpus(seconds: list[float], *, langs: tuple[str | None, ...] = ("sw",), speakers: int = 3, broken: tuple[int, ...] = ()) -> Corpus:
    """One utterance for each length; those in `broken` are no audio at all."""
    return Corpus(
        [
            Utterance(
                id=f"u{i}",
                audio=AudioRef(b"not audio" if i in broken else wav(s, i), f"u{i}.wav"),
                text="habari ya asubuhi"[: 6 + 2 * i],
                speaker=f"s{i % speakers}",
                lang=langs[i % len(langs)],
                duration=s,
                extra={"room": "hall" if i % 2 else "yard"},
            )
            for i, s in enumerate(seconds)
        ],
        name="noise",
    )
