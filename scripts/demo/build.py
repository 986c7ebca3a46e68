"""Make everything in `data/demo` from nothing but the texts and voices of this folder.

    python -m scripts.demo.build      # writes data/demo, the same bytes each time; about 5 minutes on one core
    python -m scripts.demo.build --out /tmp/demo --scale 0.05

Each Parquet file holds `id, audio {bytes, path}, text, speaker, lang, duration, voice`, and `split` for the unusual
speakers.
"""

from __future__ import annotations

import argparse
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from scripts.demo import english, opus, swahili, voices
from scripts.demo.voices import Voice

FOLDER = Path(__file__).parents[2] / "data" / "demo"
SEED = 20
TRAIN_EACH, TEST_EACH = 66, 23  # utterances of each Swahili voice: 20 voices train, 14 test
UNUSUAL_TRAIN, UNUSUAL_TEST = 28, 22
SECONDS = (0.9, 4.2)  # shorter and longer ones are left out: they would set the length of every batch
SAMPLE_RATE = opus.SAMPLE_RATE

TEXT_COLUMNS = ("id", "text", "speaker", "lang", "voice", "split")
COLUMNS = {**dict.fromkeys(TEXT_COLUMNS, "string"), "duration": "float32"}


def utterances(speakers: Sequence[Voice], each: int, texts: list[str], *, lang: str, language: str, prefix: str, seed: int) -> list[dict]:
    """`each` rows for each speaker in turn, consuming `texts` from its end; too long or short ones are dropped.

    Raises: ValueError when the texts run out.
    """
    rows = []
    for turn in range(each):
        for number, voice in enumerate(speakers):
            rng = np.random.default_rng([seed, turn, number])
            samples, text = np.zeros(0), ""
            while not SECONDS[0] <= len(samples) / SAMPLE_RATE <= SECONDS[1]:
                if not texts:
                    raise ValueError(f"the sentences for {prefix} ran out at turn {turn}; generate more of them.")
                text = texts.pop()
                samples = voice.say(text, language=language, rng=rng)
            rows.append(row(f"{prefix}-{len(rows):04d}", samples, text, voice, lang))
    return rows


def row(name: str, samples: np.ndarray, text: str, voice: Voice, lang: str) -> dict:
    audio = {"bytes": opus.encode(samples, serial=zlib.crc32(name.encode())), "path": f"{name}.ogg"}
    duration = round(len(samples) / SAMPLE_RATE, 3)
    return dict(id=name, audio=audio, text=text, speaker=voice.name, lang=lang, duration=duration, voice=voice.variant)


def write(rows: list[dict], path: Path) -> None:
    """A Parquet file whose audio `datasets` reads as an `Audio` column, and everything else as a struct."""
    names = ["id", "audio", *(name for name in COLUMNS if name != "id" and name in rows[0])]
    types = {name: pa.type_for_alias(kind) for name, kind in COLUMNS.items()}
    types["audio"] = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {name: {"dtype": COLUMNS[name], "_type": "Value"} for name in names if name in COLUMNS}
    features["audio"] = {"sampling_rate": SAMPLE_RATE, "_type": "Audio"}
    known = json.dumps({"info": {"features": {name: features[name] for name in names}}})
    schema = pa.schema([(name, types[name]) for name in names], metadata={"huggingface": known})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", row_group_size=200)


def recording(texts: Sequence[str], speakers: Sequence[Voice], *, language: str, seed: int) -> np.ndarray:
    """One recording of several sentences with pauses between, (n,) float32; two speakers take one half of them each."""
    rng = np.random.default_rng(seed)
    pieces = [np.zeros(int(0.5 * SAMPLE_RATE), np.float32)]
    for number, text in enumerate(texts):
        voice = speakers[number * len(speakers) // len(texts)]
        pause = np.zeros(int(rng.uniform(0.5, 1.6) * SAMPLE_RATE), np.float32)
        pieces += [voice.say(text, language=language, rng=rng), pause]
    joined = np.concatenate(pieces)
    hiss = rng.standard_normal(len(joined)).astype(np.float32) * 10 ** (-60 / 20)  # no microphone gives digital silence
    return joined + hiss


def build(folder: Path, *, scale: float = 1.0) -> None:
    """Write the three corpora and the two recordings; `scale` below 1 makes a smaller set for trying things out."""
    folder.mkdir(parents=True, exist_ok=True)

    def some(count: int) -> int:
        return max(2, round(count * scale))

    n_test, n_train = some(TEST_EACH) * len(voices.SWAHILI_TEST), some(TRAIN_EACH) * len(voices.SWAHILI_TRAIN)
    held = swahili.generate(n_test * 5 // 4 + 2, part="test", seed=SEED + 1)
    example, spare = held[:2], held[2:]
    texts = swahili.generate(n_train * 5 // 4, part="train", seed=SEED, avoid=frozenset(held))
    common = dict(lang="sw", language="sw")
    rows = utterances(voices.SWAHILI_TRAIN, some(TRAIN_EACH), texts, prefix="sw-train", seed=SEED + 2, **common)
    write(rows, folder / "sw-train.parquet")
    rows = utterances(voices.SWAHILI_TEST, some(TEST_EACH), spare, prefix="sw-test", seed=SEED + 3, **common)
    write(rows, folder / "sw-test.parquet")

    train, test = some(UNUSUAL_TRAIN), some(UNUSUAL_TEST)
    texts = english.generate((train + test) * len(voices.UNUSUAL) * 5 // 4 + 14, seed=SEED + 4)
    story, texts = texts[:14], texts[14:]
    rows = utterances(voices.UNUSUAL, train + test, texts, lang="en", language="en-us", prefix="unusual", seed=SEED + 5)
    for number, entry in enumerate(rows):
        entry["split"] = "train" if number // len(voices.UNUSUAL) < train else "test"
    write(rows, folder / "speakers.parquet")

    long = recording(story, voices.NARRATORS, language="en-us", seed=SEED + 6)
    (folder / "stream-en.ogg").write_bytes(opus.encode(long, serial=1))
    (folder / "stream-en.txt").write_text("\n".join(story) + "\n")
    short = recording(example, [voices.EXAMPLE], language="sw", seed=SEED + 7)
    (folder / "sw-example.ogg").write_bytes(opus.encode(short, serial=2))
    (folder / "sw-example.txt").write_text("\n".join(example) + "\n")


def counts(folder: Path) -> str:
    """The table of the README: what the written files hold."""
    tables = {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("sw-train", "sw-test", "speakers")}
    parts = {
        "sw-train": tables["sw-train"],
        "sw-test": tables["sw-test"],
        "speakers, train": [entry for entry in tables["speakers"] if entry["split"] == "train"],
        "speakers, test": [entry for entry in tables["speakers"] if entry["split"] == "test"],
    }
    lines = ["| part | utterances | speakers | minutes | words | word types |", "|---|---|---|---|---|---|"]
    for name, rows in parts.items():
        words = [word for entry in rows for word in entry["text"].split()]
        minutes = sum(entry["duration"] for entry in rows) / 60
        n_speakers = len({entry["speaker"] for entry in rows})
        lines.append(f"| {name} | {len(rows)} | {n_speakers} | {minutes:.1f} | {len(words)} | {len(set(words))} |")
    known, asked = ({word for entry in tables[name] for word in entry["text"].split()} for name in ("sw-train", "sw-test"))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    seconds = {path.name: soundfile.info(io.BytesIO(path.read_bytes())).duration for path in sorted(folder.glob("*.ogg"))}
    lines.append("")
    lines.append(
        f"Swahili word types: {len(known | asked)}; of the test's {len(asked)}, {len(asked - known)} "
        f"({len(asked - known) / len(asked):.1%}) never occur in training. "
        + " ".join(f"`{name}`: {length:.1f} s." for name, length in seconds.items())
        + f" All files together: {size:.1f} MB."
    )
    return "\n".join(lines)


def refresh(readme: Path, table: str) -> None:
    """Put the table between the README's two marks; a README without them, or none, is left as it is."""
    marks = "<!-- counts -->", "<!-- end of counts -->"
    text = readme.read_text() if readme.exists() else ""
    if all(mark in text for mark in marks):
        before, rest = text.split(marks[0])
        readme.write_text(f"{before}{marks[0]}\n{table}\n{marks[1]}{rest.split(marks[1])[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the usual number of utterances (1 makes them all)")
    options = parser.parse_args()
    build(options.out, scale=options.scale)
    table = counts(options.out)
    refresh(options.out / "README.md", table)
    print(table)


if __name__ == "__main__":
    main()
