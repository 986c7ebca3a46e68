"""Samples → log-mel frames, with the numbers of `transformers.WhisperFeatureExtractor`, but only for the frames that hold sound.

    log_mel:  S = |STFT(x; 400-sample Hann, hop 160)|²;   m = log10(max(F·S, 1e-10));   out = (max(m, max(m) − 8) + 4) / 4

Frames that lie wholly in the zero padding have a known value (the floor of the formula), so padding to 30 s costs a fill
and no STFT: a 3 s utterance is ten times cheaper than through the stock extractor.

Source: Radford et al., 2022, https://arxiv.org/abs/2212.04356, section 2.2, and the extractor in `transformers`.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: a corpus is read, counted and divided by the constants alone
    from torch import Tensor

from asrpeft.errors import BadInput

SAMPLE_RATE = 16_000
HOP = 160  # samples between frames: 100 frames a second
N_FFT = 400
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
MAX_SECONDS = 30.0
MAX_FRAMES = 3_000


@lru_cache(maxsize=4)
def mel_filters(n_mels: int) -> Tensor:
    """Whisper's Slaney mel filter bank, (n_mels, 201), from the function that the stock extractor takes it from."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there are many filters, the lowest may hold nothing
        bank = mel_filter_bank(
            num_frequency_bins=N_FFT // 2 + 1,
            num_mel_filters=n_mels,
            min_frequency=0.0,
            max_frequency=8_000.0,
            sampling_rate=SAMPLE_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
    return torch.from_numpy(bank.T.astype("float32"))


@lru_cache(maxsize=1)
def _window() -> Tensor:
    import torch

    return torch.hann_window(N_FFT)


def log_mel(samples: Tensor, *, n_mels: int = 80, n_frames: int | None = None) -> Tensor:
    """Log-mel features of one utterance, followed by as much silence as `n_frames` asks for.

    Args:
        samples: (n,) float32 in [-1, 1], mono, 16 kHz.
        n_mels: 80, or 128 for the large-v3 family.
        n_frames: frames to return, 100 a second; samples beyond them are cut. Default: as many as the samples fill.
    Returns: (n_mels, n_frames) float32. Any prefix of it equals the same prefix of the features of the same samples
        padded to 30 s, so that short and full contexts see the same numbers.
    Raises: BadInput for no frames, or samples of another shape.
    """
    import torch

    n_frames = -(-samples.shape[-1] // HOP) if n_frames is None else n_frames
    if samples.ndim != 1 or n_frames < 1:
        raise BadInput(f"Features are made of (n,) samples, one frame at least; got shape {tuple(samples.shape)} and {n_frames} frames.")
    samples = samples[: n_frames * HOP].to(torch.float32)
    # A frame is centered on its first sample and reaches 200 samples either way; one hop more settles the last of them.
    sounding = min(n_frames, samples.shape[-1] // HOP + 3)
    needed = (sounding - 1) * HOP + N_FFT // 2 + 1
    if n_frames <= MAX_FRAMES:
        needed = min(needed, MAX_FRAMES * HOP)  # the stock extractor's very last frame sees its samples mirrored, not zeros
    padded = torch.nn.functional.pad(samples, (0, max(0, needed - samples.shape[-1])))
    stft = torch.stft(padded, N_FFT, HOP, window=_window(), return_complex=True)[:, :sounding]
    mel = (mel_filters(n_mels) @ stft.abs().square()).clamp(min=1e-10).log10()
    floor = mel.max() - 8.0
    mel = torch.maximum(mel, floor)
    if n_frames > sounding:
        silence = torch.maximum(torch.tensor(-10.0), floor)
        mel = torch.cat([mel, silence.expand(n_mels, n_frames - sounding)], dim=1)
    return (mel + 4.0) / 4.0
