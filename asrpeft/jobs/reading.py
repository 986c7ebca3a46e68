"""Whether a recording is of use to learn a voice from: loud enough, not overdriven, long enough for its sentence, and that sentence.

The first three are measured. The last is judged by what the base writes, and against what it makes of the other recordings: a base that
understands nothing of this voice cannot tell one sentence from another, and is then not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from asrpeft.audio import MAX_SECONDS, SAMPLE_RATE
from asrpeft.audio.samples import frame_power
from asrpeft.corpus.doubts import CLIPPED
from asrpeft.scoring.normalize import DEFAULT, normalizer

FRAME = 480  # samples whose loudness is one number: 30 ms
QUIET_DB = -45.0  # of the loudest twentieth: a voice near a microphone has −30 to −10
SHORTEST_S = 0.4
FASTEST = 28.0  # letters a second: twice as fast as reading aloud, and faster than anybody reads
UNDERSTOOD = 0.6  # CER over all recordings, up to which the base's opinion on one is worth something
UNLIKE = 0.85  # CER from which a recording is of something else
NEARER = 0.2  # so much nearer to another sentence, it is that one
FULL_SCALE = 0.999


@dataclass(frozen=True)
class Recorded:
    """A recording of a sentence.

    Attributes:
        number: of the sentence, from 1.
        seconds, level_db, clipped: how long, how loud (full scale is 0), which share of it at full scale.
        heard, cer: what the base writes, and how far that is from the sentence; None where it was not asked.
        problem: why it is of no use, in a sentence; None if it is.
    """

    number: int
    text: str
    file: Path
    seconds: float = 0.0
    level_db: float = float("-inf")
    clipped: float = 0.0
    heard: str | None = None
    cer: float | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        level = None if self.level_db == float("-inf") else self.level_db
        return {
            "number": self.number,
            "text": self.text,
            "file": str(self.file),
            "seconds": self.seconds,
            "level_db": level,
            "clipped": self.clipped,
            "heard": self.heard,
            "cer": self.cer,
            "problem": self.problem,
        }


def measured(number: int, text: str, file: Path, samples: np.ndarray) -> Recorded:
    """A recording with what its sound alone says. Args: samples: (n,) at 16 kHz."""
    seconds = len(samples) / SAMPLE_RATE
    power = frame_power(samples, FRAME)
    level = 10 * np.log10(max(float(np.quantile(power, 0.95)) if len(power) else 0.0, 1e-12))
    clipped = float((np.abs(samples) >= FULL_SCALE).mean()) if len(samples) else 0.0
    return replace(Recorded(number, text, file, seconds, level if level > -119 else float("-inf"), clipped), problem=_of_sound(text, seconds, level, clipped))


def _of_sound(text: str, seconds: float, level: float, clipped: float) -> str | None:
    letters = sum(map(str.isalpha, text))
    if seconds < max(SHORTEST_S, letters / FASTEST):
        return f"too short: {seconds:.1f} s for {letters} letters. Begin to speak after the recording begins, and end it after the last word."
    if seconds > MAX_SECONDS:
        return f"too long: {seconds:.0f} s; at most {MAX_SECONDS:.0f} can be used. Record one sentence a file."
    if level < QUIET_DB:
        return f"too quiet: {level:.0f} dB at its loudest. Speak up, or come nearer to the microphone."
    if clipped > CLIPPED:
        return f"too loud: {clipped:.0%} of it is cut off at full scale. Turn the microphone down, or go further away."
    return None


def heard_as(recorded: Sequence[Recorded], heard: Mapping[int, str], sentences: Sequence[str]) -> list[Recorded]:
    """The recordings with what the base writes (by number), and whether that is another sentence. Args: sentences: all of them, from number 1."""
    rule = normalizer(DEFAULT)
    plain = [rule(text) for text in sentences]

    def distance(written: str, place: int) -> float:
        return Levenshtein.distance(rule(written), plain[place]) / max(1, len(plain[place]))

    told = [replace(one, heard=heard[one.number], cer=distance(heard[one.number], one.number - 1)) if one.number in heard else one for one in recorded]
    rates = [one.cer for one in told if one.cer is not None and one.problem is None]
    if not rates or median(rates) > UNDERSTOOD:
        return told
    found = []
    for one in told:
        cer = one.cer
        if cer is not None and one.problem is None:
            others = [(distance(one.heard or "", place), place + 1) for place in range(len(plain)) if place + 1 != one.number]
            near, number = min(others, default=(1.0, 0))
            if near < UNDERSTOOD and near + NEARER < cer:
                one = replace(one, problem=f"it sounds like sentence {number}: {sentences[number - 1]!r}.")
            elif cer >= UNLIKE:
                one = replace(one, problem=f"it does not sound like its sentence: the base writes {one.heard!r}.")
        found.append(one)
    return found
