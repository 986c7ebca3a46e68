"""Audio that was decoded before, from disk: what `decode` gave, to the bit. See `asrpeft.cache`.

Samples that are whole multiples of 2⁻¹⁵, as decoders of 16-bit audio give them, are kept as 16-bit integers, others as float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import av
import numpy as np
import soundfile
import soxr

from asrpeft import cache

KIND = "samples"
WORTH_S = 0.001  # 16-bit WAV at 16 kHz decodes in 0.2 ms for 4 s, Ogg in 1.4 ms, MP3 and Opus in up to 10 ms; reading back takes 0.2 ms
_STEP = np.float32(2.0**-15)
# Another version of a decoder may round otherwise: what it would give is then asked of it.
_DECODERS = (1, np.__version__, soundfile.__libsndfile_version__, soxr.__version__, av.__version__)


def samples(source: Callable[[], str | None], decode: Callable[[], np.ndarray], *, start: float = 0.0, duration: float | None = None) -> np.ndarray:
    """(n,) float32 that `decode` gives, or gave before for the same audio.

    Args:
        source: the name of the encoded audio, by its content; None where it has none.
        start, duration: the part that is decoded.
    Raises: what `source` and `decode` raise.
    """
    held = cache.current()
    name = None if held is None else source()
    if held is None or name is None:
        return decode()
    key = cache.key_of(KIND, *_DECODERS, name, repr(start), repr(duration))
    found = held.get(KIND, key)
    if found is not None and found.ndim == 1:
        return _floats(found)
    started = time.perf_counter()
    made = decode()
    if time.perf_counter() - started >= WORTH_S:
        held.put(KIND, key, _smallest(made))
    return made


def _smallest(made: np.ndarray) -> np.ndarray:
    """The same numbers as int16 where they are such, to the bit (−0.0 is not)."""
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.rint(np.clip(made, -1.0, 1.0) / _STEP).clip(-32_768, 32_767).astype(np.int16)
    return whole if np.array_equal(_floats(whole).view(np.uint32), made.view(np.uint32)) else made


def _floats(found: np.ndarray) -> np.ndarray:
    return found.astype(np.float32) * _STEP if found.dtype == np.int16 else found
