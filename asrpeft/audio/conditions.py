"""The disturbances a recognizer is tested under: each a name and what it does to samples, always the same for a seed.

Augmentation draws how much of what happens; here each is fixed, so that a table of conditions means the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Generator, Tensor

from asrpeft.audio.augment import add_noise, generator, reverberate, room_response, speed, telephone
from asrpeft.errors import BadInput

Change = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Condition:
    """One disturbance. `speed` says how many times as fast the result plays."""

    name: str
    change: Change
    speed: float = 1.0

    def __call__(self, samples: Tensor, *, seed: int, utterance: str) -> Tensor:
        """(n,) float32 at 16 kHz → (about n / speed,). The chance depends on the seed, the condition and the utterance."""
        return self.change(samples, generator(seed, "condition", self.name, utterance))


def _noise(snr_db: float) -> Condition:
    return Condition(f"noise {snr_db:g} dB", lambda samples, rng: add_noise(samples, snr_db, rng))


def _room(rt60_s: float, direct: float) -> Condition:
    return Condition(f"reverb {rt60_s:g} s", lambda samples, rng: reverberate(samples, room_response(rt60_s, direct, rng)))


def _speed(factor: float) -> Condition:
    return Condition(f"speed {factor:g}", lambda samples, _: speed(samples, factor), factor)


CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "noise": tuple(_noise(snr_db) for snr_db in (20.0, 10.0, 5.0)),  # pink: as steep as a room full of people
    "reverb": (_room(0.3, 0.6), _room(0.6, 0.4)),  # a living room; a classroom
    "telephone": (Condition("telephone", lambda samples, _: telephone(samples)),),
    "speed": (_speed(0.9), _speed(1.1)),
}


def conditions(names: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions of these kinds (noise, reverb, telephone, speed; or all), in that order, each once.

    Raises: BadInput for an unknown kind.
    """
    if unknown := [name for name in names if name not in (*CONDITIONS, "all")]:
        raise BadInput(f"There is no condition {unknown[0]!r}; choose among {', '.join(CONDITIONS)}, or all.")
    return tuple(one for kind, made in CONDITIONS.items() if kind in names or "all" in names for one in made)
