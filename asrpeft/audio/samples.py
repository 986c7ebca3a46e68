"""Samples that a caller hands over: whatever holds numbers becomes what the recognizer wants, or is refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from asrpeft.audio.decode import LOUDEST
from asrpeft.errors import BadAudio, BadInput


def as_samples(samples: Any, *, empty: bool = False) -> np.ndarray:
    """(n,) float32 of an array, a tensor on any device or a list of floats, mono, at 16 kHz.

    Args:   empty: no samples at all are allowed.
    Raises: BadInput for another shape or kind, such as 16-bit integers; BadAudio for none, NaN, infinity, or numbers beyond sound.
    """
    if isinstance(samples, torch.Tensor):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    try:
        found = np.asarray(samples)
    except (TypeError, ValueError):  # a ragged list
        found = np.asarray(None)
    if isinstance(samples, list | tuple) and found.dtype.kind == "i" and not found.any():
        found = found.astype(np.float32)  # [0, 0, 0] is silence in any unit
    if found.ndim != 1 or found.dtype.kind != "f":
        what = type(samples).__name__ if found.dtype.kind == "O" else f"{found.dtype} of shape {found.shape}"
        raise BadInput(f"Sound is (n,) float samples at 16 kHz, mono; got {what}. {_remedy(found)}".rstrip())
    if not found.size and not empty:
        raise BadAudio("The audio holds no samples.")
    with np.errstate(over="ignore"):  # told below
        found = found.astype(np.float32, copy=False)
    if not np.isfinite(found).all() or (found.size and np.abs(found).max() > LOUDEST):
        raise BadAudio(f"The samples hold NaN, infinity or numbers over {LOUDEST:.0e}. Look at what records or decodes them.")
    return np.ascontiguousarray(found)


def frame_power(samples: np.ndarray, size: int) -> np.ndarray:
    """The mean square of each whole frame of `size` samples: (n // size,) float64 of (n,)."""
    n = len(samples) // size
    return np.square(samples[: n * size].reshape(n, size), dtype=np.float64).mean(axis=1)


def _remedy(found: np.ndarray) -> str:
    if found.dtype.kind in "iu":
        return "Divide 16-bit PCM by 32,768."
    if found.dtype.kind != "f" or found.ndim == 1:
        return ""
    return "Average the channels." if found.ndim == 2 else "Give one array of them."
