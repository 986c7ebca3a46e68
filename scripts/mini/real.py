"""Real speech for training and evaluation: which rows of a corpus may be used for what."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr

from scripts.mini.texts import normalize

ADULT_AGE = 16  # "child" is 15 or under
DEV_ADULTS, DEV_CHILDREN = 10, 5


@dataclass(frozen=True)
class Spoken:
    id: str
    text: str
    speaker: str
    age: int
    audio: bytes

    def samples(self) -> np.ndarray:
        samples, rate = soundfile.read(io.BytesIO(self.audio), dtype="float32", always_2d=True)
        mono = samples.mean(1)
        return mono if rate == 16_000 else soxr.resample(mono, rate, 16_000).astype(np.float32)


def _rows(source: str) -> Iterable[dict[str, Any]]:
    if source.startswith("hub:"):
        from datasets import Audio, load_dataset

        name, _, split = source.removeprefix("hub:").partition(":")
        return load_dataset(name, split=split or "train").cast_column("audio", Audio(decode=False))
    return pq.read_table(Path(source)).to_pylist()


def read(source: str) -> list[Spoken]:
    """Utterances of a Parquet file in the `Audio` layout with `text`, `speaker`, `age`; or `hub:NAME[:SPLIT]`."""
    return [
        Spoken(str(row.get("id", n)), normalize(row["text"]), str(row["speaker"]), int(row["age"]), row["audio"]["bytes"])
        for n, row in enumerate(_rows(source))
    ]


def heard(source: str) -> list[Spoken]:
    """The same without a text, in any language, for a teacher to listen to."""
    return [
        Spoken(str(row.get("id", n)), "", str(row.get("speaker", "")), int(float(row.get("age") or ADULT_AGE)), row["audio"]["bytes"])
        for n, row in enumerate(_rows(source))
    ]


def adults(utterances: list[Spoken]) -> list[Spoken]:
    return [u for u in utterances if u.age >= ADULT_AGE]


def children(utterances: list[Spoken]) -> list[Spoken]:
    return [u for u in utterances if u.age < ADULT_AGE]


def split(utterances: list[Spoken], seed: int = 0) -> tuple[list[Spoken], list[Spoken]]:
    """(train, dev): the dev speakers, some of the adults and some of the children, are heard in training never."""
    random_, dev = random.Random(seed), set()
    for group, most in ((adults(utterances), DEV_ADULTS), (children(utterances), DEV_CHILDREN)):
        speakers = sorted({u.speaker for u in group})
        dev |= set(random_.sample(speakers, min(most, len(speakers) // 5)))
    return [u for u in utterances if u.speaker not in dev], [u for u in utterances if u.speaker in dev]
