"""Corpora from strangers: one row or a few bytes are spoilt; the other rows are read all the same."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

from asrpeft.corpus import read
from asrpeft.corpus.manifest import write_manifest
from asrpeft.errors import BadCorpus, BadInput
from tests.attack.runner import Surface, Wrong, hostile, spoil_bytes
from tests.audio.sounds import encoded

N = 6


def prepare(folder: Path):
    for number in range(N):
        samples = 0.2 * np.sin(np.arange(4_000) / (7 + number)).astype(np.float32)
        soundfile.write(folder / f"r{number}.wav", samples, 16_000)
    rows = [
        {"id": f"u{n}", "audio": str(folder / f"r{n}.wav"), "text": f"some words {n}", "speaker": f"s{n % 2}", "start": 0.0, "duration": 0.2} for n in range(N)
    ]
    return rows, encoded(np.full(2_000, 0.1, np.float32))


def _cell(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).replace("\n", " ").replace("\t", " ")


def _jsonl(rows: list[dict], own: Path) -> Path:
    (own / "x.jsonl").write_bytes(b"".join(json.dumps(row).encode("utf-8", "surrogatepass") + b"\n" for row in rows))
    return own / "x.jsonl"


def _csv(rows: list[dict], own: Path) -> Path:
    lines = [",".join('"' + _cell(row.get(k, "")).replace('"', '""') + '"' for k in ("id", "audio", "text", "speaker", "start", "duration")) for row in rows]
    (own / "x.csv").write_bytes("\n".join(["id,audio,text,speaker,start,duration", *lines, ""]).encode("utf-8", "surrogatepass"))
    return own / "x.csv"


def _tsv(rows: list[dict], own: Path) -> Path:
    lines = ["\t".join(_cell(row.get(k, "")) for k in ("id", "audio", "text", "speaker", "start", "duration")) for row in rows]
    (own / "x.tsv").write_bytes("\n".join(["id\taudio\ttext\tspeaker\tstart\tduration", *lines, ""]).encode("utf-8", "surrogatepass"))
    return own / "x.tsv"


def _kaldi(rows: list[dict], own: Path) -> Path:
    (own / "k").mkdir()
    for name, key in (("wav.scp", "audio"), ("text", "text"), ("utt2spk", "speaker")):
        lines = [f"{_cell(row.get('id', ''))} {_cell(row.get(key, ''))}" for row in rows]
        (own / "k" / name).write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogatepass"))
    return own / "k"


def _parquet(rows: list[dict], own: Path, sound: bytes) -> Path:
    def text(value: object) -> str | None:
        return None if value is None else _cell(value).encode("utf-8", "replace").decode()

    table = {
        "id": [text(row.get("id")) for row in rows],
        "audio": [{"bytes": sound, "path": text(row.get("audio"))} for row in rows],
        "text": [text(row.get("text")) for row in rows],
        "speaker": [text(row.get("speaker")) for row in rows],
        "duration": [v if isinstance(v := row.get("duration"), float) else None for row in rows],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), own / "x.parquet")
    return own / "x.parquet"


WRITERS = (_jsonl, _csv, _tsv, _kaldi, _parquet)


def case(rng: random.Random, shared, own: Path) -> None:
    good, sound = shared
    write = rng.choice(WRITERS)
    rows = [dict(row) for row in good]
    bad = rng.randrange(N)
    by_bytes = rng.random() < 0.25
    if not by_bytes:
        for _ in range(rng.choice([1, 1, 2])):
            rows[bad][rng.choice([*rows[bad], "offset", "extra"])] = hostile(rng)
        if rng.random() < 0.1:
            rows.insert(0, {})
    spec = write(rows, own, sound) if write is _parquet else write(rows, own)
    if by_bytes:
        file = spec if spec.is_file() else rng.choice(sorted(spec.iterdir()))
        file.write_bytes(spoil_bytes(file.read_bytes(), rng))
    strict = rng.random() < 0.2
    try:
        corpus = read(spec, strict=strict)
    except (BadCorpus, BadInput):
        # One spoilt row out of six costs that row. (Bytes may cost a whole file: its header, its quotes, its index.)
        if not strict and not by_bytes:
            raise Wrong(f"{write.__name__}: a row that cannot be used cost the corpus: {rows[bad]!r}"[:300]) from None
        raise
    if not by_bytes and len(corpus) + 2 < N:
        raise Wrong(f"{write.__name__}: {N - len(corpus)} rows were lost for one: {corpus.skipped[:2]!r}"[:300])
    checked = corpus.checked()
    json.dumps([asdict(skipped) for skipped in checked.skipped])
    for utterance in checked:
        if not np.isfinite(utterance.samples()).all():
            raise Wrong(f"{utterance.id}: samples that are not numbers")
    checked.stats()
    if len(checked):
        checked.shuffle(1)[:3]
        write_manifest(checked, own / "again.jsonl")
        if len(read(own / "again.jsonl")) != len(checked):
            raise Wrong("what was written as a manifest is not read again")


SURFACE = Surface("corpora", prepare, case, weight=3.0)
