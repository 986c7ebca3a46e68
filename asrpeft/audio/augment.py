"""Speech made different: speed, noise, rooms, telephones, loudness, clipping, and masks on log-mel features.

Every function takes its chance from a generator that the caller gives; `Augmentation` makes one from (seed, utterance, epoch), so
that what happens to an utterance depends on nothing else: not on its batch, its worker, nor on a resumed run.

Sources: speed perturbation, Ko et al., 2015 (torchaudio.functional.speed); SpecAugment, Park et al., 2019,
https://arxiv.org/abs/1904.08779 (torchaudio.functional.mask_along_axis).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import torch
import torchaudio.functional
from scipy.fft import next_fast_len
from torch import Generator, Tensor

from asrpeft.audio.features import MAX_SECONDS, SAMPLE_RATE
from asrpeft.errors import BadInput

Seconds = float


def generator(*key: object) -> Generator:
    """A generator of its own for each key: generator(seed, utterance.id, epoch). The same on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def uniform(low: float, high: float, rng: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def speed(samples: Tensor, factor: float) -> Tensor:
    """Play (n,) samples `factor` times as fast: pitch and tempo together. Gives about n / factor samples."""
    hundredths = round(100 * factor)  # 113 : 100 is a filter of 100 phases; 1.1301 would be one of 16,000
    if hundredths < 1:
        raise BadInput(f"speech cannot be played {factor} times as fast; give a factor between about 0.5 and 2.")
    # torchaudio cuts factor · 16,000 to an integer, and 1.13 · 16,000 is 18,079.999…: stay on the upper side.
    return samples if hundredths == 100 else torchaudio.functional.speed(samples, SAMPLE_RATE, (hundredths + 1e-6) / 100)[0]


def add_noise(samples: Tensor, snr_db: float, rng: Generator, *, color: float = 1.0) -> Tensor:
    """Add noise of power 1 / f^color (0 white, 1 pink, 2 brown) at `snr_db` below the speech's power."""
    n = next_fast_len(samples.shape[-1], real=True)
    spectrum = torch.fft.rfft(torch.randn(n, generator=rng))
    spectrum *= torch.arange(len(spectrum)).clamp(min=1).pow(-color / 2)
    spectrum[0] = 0.0
    noise = torch.fft.irfft(spectrum, n)[: samples.shape[-1]]
    if not samples.any() or not noise.any():
        return samples  # nothing has a ratio to silence
    return torchaudio.functional.add_noise(samples, noise, torch.tensor(float(snr_db)))


def room_response(rt60: Seconds, direct: float, rng: Generator) -> Tensor:
    """A synthetic room's impulse response: the direct sound, then noise that decays by 60 dB in `rt60` seconds.

    Args:    direct: share of the energy that arrives directly, over 0 and at most 1.
    Returns: (n,), energy 1. Source: Moorer, 1979, for noise with exponential decay as the sound of a room.
    """
    n = max(2, round(rt60 * SAMPLE_RATE))
    tail = torch.randn(n, generator=rng) * torch.exp(-math.log(1000.0) * torch.arange(n) / n)
    tail[: round(0.002 * SAMPLE_RATE)] = 0.0  # the first wall is some 70 cm of detour away
    tail *= math.sqrt((1 - direct) / float(tail.square().sum().clamp(min=1e-12)))
    tail[0] = math.sqrt(direct)
    return tail


def reverberate(samples: Tensor, response: Tensor) -> Tensor:
    """Sound in a room, cut to the length it had, so that the transcript's times stay."""
    full = samples.shape[-1] + response.shape[-1] - 1
    padding = next_fast_len(full, real=True) - full  # a transform of an unlucky length takes twenty times as long
    padded = torch.nn.functional.pad(samples, (0, padding))
    return torchaudio.functional.fftconvolve(padded, response)[: samples.shape[-1]]


def telephone(samples: Tensor) -> Tensor:
    """300 to 3,400 Hz, by way of 8 kHz and μ-law with 8 bits, as G.711 does."""
    narrow = torchaudio.functional.resample(samples, SAMPLE_RATE, 8_000)
    narrow = torchaudio.functional.highpass_biquad(narrow, 8_000, 300.0)
    narrow = torchaudio.functional.lowpass_biquad(narrow, 8_000, 3_400.0)
    peak = float(narrow.abs().max().clamp(min=1e-9)) if narrow.numel() else 1.0
    scale = max(1.0, peak)
    coded = torchaudio.functional.mu_law_encoding(narrow / scale, 256)
    narrow = torchaudio.functional.mu_law_decoding(coded, 256) * scale
    return torchaudio.functional.resample(narrow, 8_000, SAMPLE_RATE)[: samples.shape[-1]]


def lowpass(samples: Tensor, hertz: float) -> Tensor:
    """Nothing above `hertz`, as if it had been recorded at twice as many samples a second."""
    n = next_fast_len(max(1, samples.shape[-1]), real=True)
    spectrum = torch.fft.rfft(samples, n)
    spectrum[torch.arange(len(spectrum)) * SAMPLE_RATE > hertz * n] = 0.0
    return torch.fft.irfft(spectrum, n)[: samples.shape[-1]]


def gain(samples: Tensor, db: float) -> Tensor:
    """Louder or softer. Whisper's features change little by it (they are scaled by the loudest frame) until it clips."""
    return samples * 10.0 ** (db / 20.0)


def clip(samples: Tensor, level: float) -> Tensor:
    """An overdriven microphone: everything over `level` times the peak is cut off flat."""
    peak = float(samples.abs().max()) if samples.numel() else 0.0
    return samples.clamp(-level * peak, level * peak)


def spec_augment(
    features: Tensor,
    n_frames: int,
    rng: Generator,
    *,
    time_masks: int = 2,
    time_width: int = 50,
    freq_masks: int = 2,
    freq_width: int = 27,
    time_share: float = 0.2,
) -> Tensor:
    """SpecAugment on the frames that hold speech; the silence after them stays as it is.

    Args:
        features: (n_mels, frames) log-mel.
        n_frames: how many of them hold speech.
        time_masks, time_width: how many stretches of time, and the widest, in frames (100 a second); one stretch is never
            wider than `time_share` of the speech.
        freq_masks, freq_width: how many bands of mel channels, and the widest, of 80 (scaled for 128).
    Returns: (n_mels, frames), a copy; masked cells hold the mean of the speech, which is what an ignorant model would expect.
    """
    n_frames = min(n_frames, features.shape[-1])
    if n_frames < 1:
        return features.clone()
    masked = features[:, :n_frames]
    mean, freq_width = float(masked.mean()), round(freq_width * features.shape[0] / 80)
    # torchaudio draws from torch's global generator: it is lent our seed, and given back as it was. Not by torch.manual_seed, which formats a trace
    # of its callers each time, for devices that are not there.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        for _ in range(time_masks):
            masked = torchaudio.functional.mask_along_axis(masked, time_width, mean, axis=1, p=time_share)
        for _ in range(freq_masks):
            masked = torchaudio.functional.mask_along_axis(masked, freq_width, mean, axis=0)
    return torch.cat([masked, features[:, n_frames:]], dim=1)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an utterance in training, and how probably. As constructed, nothing does.

    Each kind of change has a stream of chance of its own, keyed by (seed, utterance, epoch): switching one on does not
    change another. Probabilities are between 0 and 1.
    """

    seed: int = 0
    speeds: tuple[float, ...] = (1.0,)  # one of them, each as probable
    reverb: float = 0.0  # probability
    rt60_s: tuple[Seconds, Seconds] = (0.1, 0.6)
    noise: float = 0.0  # probability
    snr_db: tuple[float, float] = (5.0, 25.0)
    loudness: float = 0.0  # probability
    gain_db: tuple[float, float] = (-12.0, 6.0)
    clipping: float = 0.0  # probability
    clip_level: tuple[float, float] = (0.2, 0.8)
    telephone: float = 0.0  # probability
    masking: float = 0.0  # probability of SpecAugment
    time_masks: int = 2
    time_width: int = 50
    freq_masks: int = 2
    freq_width: int = 27

    def __post_init__(self) -> None:
        for name in ("reverb", "noise", "loudness", "clipping", "telephone", "masking"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadInput(f"augmentation: {name}={getattr(self, name)} is no probability; give one between 0 and 1.")
        for name in ("rt60_s", "snr_db", "gain_db", "clip_level"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise BadInput(f"augmentation: {name}={'/'.join(map(str, bounds))} must be the least and the most, as in {name}=5/20.")
        if not self.speeds or min(self.speeds) < 0.5 or max(self.speeds) > 2.0:
            raise BadInput(f"augmentation: speeds={self.speeds} must be factors between 0.5 and 2, for instance (0.9, 1.0, 1.1).")

    def speed_of(self, n_samples: int, utterance: str, epoch: int) -> float:
        """The factor that `samples` plays this utterance by; 1 where a slow speed would make it longer than 30 s."""
        if self.speeds == (1.0,):
            return 1.0
        rng = generator(self.seed, utterance, epoch, "speed")
        factor = self.speeds[int(torch.randint(len(self.speeds), (), generator=rng))]
        return factor if n_samples / factor + 1 <= MAX_SECONDS * SAMPLE_RATE else 1.0

    def samples(self, samples: Tensor, utterance: str, epoch: int) -> Tensor:
        """(n,) float32 at 16 kHz → (m,), at most 30 s if n was."""

        def drawn(kind: str, probability: float) -> Generator | None:
            """This kind's own chance if it happens this time."""
            if probability == 0.0:
                return None
            rng = generator(self.seed, utterance, epoch, kind)
            return rng if float(torch.rand((), generator=rng)) < probability else None

        samples = speed(samples, self.speed_of(samples.shape[-1], utterance, epoch))
        if rng := drawn("reverb", self.reverb):
            response = room_response(uniform(*self.rt60_s, rng), uniform(0.3, 0.9, rng), rng)
            samples = reverberate(samples, response)
        if rng := drawn("noise", self.noise):
            samples = add_noise(samples, uniform(*self.snr_db, rng), rng, color=uniform(0.0, 2.0, rng))
        if rng := drawn("loudness", self.loudness):
            samples = gain(samples, uniform(*self.gain_db, rng))
        if rng := drawn("clipping", self.clipping):
            samples = clip(samples, uniform(*self.clip_level, rng))
        if drawn("telephone", self.telephone):
            samples = telephone(samples)
        return samples

    def features(self, features: Tensor, n_frames: int, utterance: str, epoch: int) -> Tensor:
        """(n_mels, frames) log-mel, of which `n_frames` hold speech → the same shape, perhaps with masks."""
        if self.masking == 0.0:
            return features
        rng = generator(self.seed, utterance, epoch, "masking")
        if float(torch.rand((), generator=rng)) >= self.masking:
            return features
        return spec_augment(
            features, n_frames, rng, time_masks=self.time_masks, time_width=self.time_width, freq_masks=self.freq_masks, freq_width=self.freq_width
        )


def augmentation(name: str, *, seed: int = 0) -> Augmentation:
    """A named choice: "none"; "standard" (speed and SpecAugment); "strong" (also rooms, noise, loudness, clipping, telephone)."""
    if name not in PRESETS:
        raise BadInput(f"there is no augmentation {name!r}; choose one of {', '.join(PRESETS)}.")
    return replace(PRESETS[name], seed=seed)


_STANDARD = Augmentation(speeds=(0.9, 1.0, 1.1), masking=1.0)
PRESETS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "standard": _STANDARD,
    "strong": replace(_STANDARD, reverb=0.3, noise=0.5, loudness=0.5, clipping=0.05, telephone=0.1),
}
