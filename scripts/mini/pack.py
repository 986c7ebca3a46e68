"""What `data/mini` is trained from, small enough to take along to a machine with a GPU that reaches nothing else.

    python -m scripts.mini.pack --out runs/pack --speech PATH|hub:… --heard PARQUET --teacher TINY.EN --megabytes 30
    python -m scripts.mini.build --pack runs/pack --from data/mini --device cuda --jobs 14 --minutes 25 --out runs/mini-4     # there

    teacher/         the encoder of a real Whisper, half precision (16 MB of whisper-tiny)
    real.parquet     --speech, training and dev speakers, as Opus of about 13 kbit/s (6 MB an hour)
    heard.parquet    speech in any language without its texts, for the teacher alone
    texts.json.gz    sentences, which espeak-ng says there: it comes with its wheel, and a hundred texts take no more room than one said
    made.parquet     speech of the synthesizers that are installed here and not there (flite, festival), until --megabytes are full

Nothing of it belongs to the repository. On the other machine it renders what it trains on while it trains (see `build.py`).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq

from scripts.demo import opus
from scripts.mini import real, teacher, voices
from scripts.mini.render import MAX_SECONDS, trim
from scripts.mini.texts import LANGUAGES, Texts
from scripts.synthesis import SynthesisError

SAMPLE_RATE = 16_000
AT_ONCE = 40  # sentences that festival says in one go
FILE_BYTES, ROW_BYTES = 10_000, 100  # of a Parquet file beside the sound and the texts
TEXTS, TEACHER, REAL, HEARD, MADE = "texts.json.gz", "teacher", "real.parquet", "heard.parquet", "made.parquet"


@dataclass(frozen=True)
class Pack:
    """A folder of these files. A part that is not there is None."""

    folder: Path

    def part(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.exists() else None


def written(path: Path, rows: Sequence[dict[str, object]]) -> int:
    """The bytes of a Parquet file of rows whose `audio` is {"bytes"}."""
    pq.write_table(pyarrow.Table.from_pylist(list(rows)), path, compression="none", use_dictionary=False)
    return path.stat().st_size


def recordings(utterances: Sequence[real.Spoken]) -> list[dict[str, object]]:
    """Rows as `real.read` reads them, their sound at a low bit rate."""
    return [
        {
            "id": u.id,
            "text": u.text,
            "speaker": u.speaker,
            "age": u.age,
            "audio": {"bytes": opus.encode(u.samples(), serial=n)},
        }
        for n, u in enumerate(utterances)
    ]


def some(utterances: Sequence[real.Spoken], hours: float, seed: int) -> list[real.Spoken]:
    """As many as fill the hours, drawn."""
    kept, left = [], hours * 3600
    for one in random.Random(seed).sample(utterances, len(utterances)):
        left -= len(one.samples()) / SAMPLE_RATE
        if left < 0:
            break
        kept.append(one)
    return kept


def said(texts: Texts, seed: int, *, with_espeak: bool) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """(text, language, voice, samples) without end, in the languages' shares of training; nothing where no synthesizer is installed.

    `with_espeak`: also by espeak-ng, for a machine that has no synthesizer at all.
    """
    draw, failures = random.Random(seed), 0
    while failures < 50:
        failures += 1
        lang = draw.choices([*LANGUAGES], [*LANGUAGES.values()])[0]
        if lang in voices.FESTIVAL_SHARE and draw.random() < 0.5:
            batch = [texts.train(lang, draw, 0.3) for _ in range(AT_ONCE)]
            for text, samples, voice in voices.festival_batch(batch, lang, draw):
                failures = 0
                yield text, lang, voice, samples
        elif lang == "en" or with_espeak:
            text = texts.train(lang, draw, 0.3)
            try:
                samples, voice = voices.say(text, lang, draw)
            except SynthesisError:
                continue
            if with_espeak or not voice.startswith("espeak"):
                failures = 0
                yield text, lang, voice, samples


def made(texts: Texts, most_bytes: int, seed: int, *, with_espeak: bool) -> list[dict[str, object]]:
    """Synthesized rows of about so many bytes."""
    rows, size = [], FILE_BYTES
    if most_bytes <= size:
        return rows
    for n, (text, lang, voice, samples) in enumerate(said(texts, seed, with_espeak=with_espeak)):
        samples = trim(samples)
        if not 0.2 * SAMPLE_RATE <= len(samples) <= MAX_SECONDS * SAMPLE_RATE:
            continue
        audio = opus.encode(samples, serial=n)
        size += len(audio) + len(text.encode()) + ROW_BYTES
        if size > most_bytes:
            break
        rows.append({"text": text, "lang": lang, "voice": voice, "audio": {"bytes": audio}})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speech", help="real speech with audio,text,speaker,age: Parquet, or hub:NAME[:SPLIT]")
    parser.add_argument("--heard", help="the like in any language; texts are not taken")
    parser.add_argument("--hours-heard", type=float, default=0.7)
    parser.add_argument("--teacher", type=Path, help="a Whisper checkpoint")
    parser.add_argument("--sentences", type=int, default=60_000, help="of all languages")
    parser.add_argument("--megabytes", type=float, default=30.0, help="of the whole folder")
    parser.add_argument("--with-espeak", action="store_true", help="for a machine without espeak-ng: its speech too")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pack = Pack(given.out)
    spoken = real.read(given.speech) if given.speech else []
    train = real.split(spoken)[0]
    texts = Texts(given.seed, [u.text for u in train])
    texts.write(given.out / TEXTS, given.sentences)
    if given.teacher:
        teacher.pack(given.teacher, given.out / TEACHER)
    if spoken:
        written(given.out / REAL, recordings(spoken))
    if given.heard:
        written(given.out / HEARD, recordings(some(real.heard(given.heard), given.hours_heard, given.seed)))
    left = int(given.megabytes * 1e6) - size(pack.folder)
    if rows := made(texts, left, given.seed, with_espeak=given.with_espeak):
        written(given.out / MADE, rows)
    total = size(pack.folder)
    print(json.dumps({"bytes": total, "utterances": len(spoken), "made": len(rows)} | {p.name: size(p) for p in sorted(given.out.iterdir())}, indent=1))
    if total > given.megabytes * 1e6:
        raise SystemExit(f"{given.out} holds {total / 1e6:.1f} MB, more than --megabytes {given.megabytes:g}: give fewer --hours-heard or --sentences.")


def size(path: Path) -> int:
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) if path.is_dir() else path.stat().st_size


if __name__ == "__main__":
    main()
