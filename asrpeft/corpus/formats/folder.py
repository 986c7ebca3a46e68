"""A folder of audio: with `metadata.csv`/`.tsv`/`.jsonl`, LibriSpeech's `*.trans.txt`, or a `.txt` beside each recording."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from asrpeft.corpus.formats import AUDIO, Bad, Row, Table, register
from asrpeft.corpus.formats.jsonl import table as read_jsonl
from asrpeft.corpus.formats.table import read_table
from asrpeft.corpus.lines import lines
from asrpeft.errors import BadCorpus

LINES = 1_000  # of the text of one recording
METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "manifest.jsonl", "manifest.csv", "manifest.tsv")


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _claims(spec: str) -> bool:
    folder = Path(spec)
    return folder.is_dir() and (_metadata(folder) is not None or any(p.suffix.lower() in AUDIO for p in folder.rglob("*")))


@register("folder", "a folder of audio with metadata.csv (or .tsv, .jsonl), or with a .txt beside each recording", claims=_claims, broad=True)
def table(spec: str, limit: int | None) -> Table:
    folder = Path(spec)
    metadata = _metadata(folder)
    if metadata is None:
        return Table(("audio", "text", "speaker", "id"), _beside(folder), (folder,))
    if metadata.suffix == ".jsonl":
        return read_jsonl(str(metadata), limit)
    if _is_ljspeech(metadata):
        found = read_table(metadata, header=("id", "raw", "text"), delimiter="|", quoted=False)
        rows = (row if isinstance(row, Bad) else Row(row.place, {**row.cells, "audio": f"wavs/{row.cells['id']}.wav"}) for row in found.rows)
        return Table(("audio", *found.columns), rows, (folder,), found.size)
    return read_table(metadata)


def _is_ljspeech(metadata: Path) -> bool:
    """Lines `id|text|normalized text` without a header, and the audio in wavs/."""
    with metadata.open(encoding="utf-8", errors="replace") as lines:
        fields = lines.readline().rstrip("\n").split("|")
    try:
        return len(fields) == 3 and (metadata.parent / "wavs" / f"{fields[0]}.wav").is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL in it, is of no file
        return False


def _beside(folder: Path) -> Iterator[Row | Bad]:
    """Recordings and their texts; the first folder on the way is the speaker where all recordings lie in such folders."""
    audio = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO and p.is_file())
    listed: dict[str, str] = {}
    bad: list[Bad] = []
    for item in _listed(folder):
        if isinstance(item, Bad):
            bad.append(item)
        else:
            listed.setdefault(*item)
    if not listed and not any(path.with_suffix(".txt").is_file() for path in audio):
        raise BadCorpus(
            f"{folder}: {len(audio)} recordings and no transcripts. Put metadata.csv (file_name,text) in the folder, "
            "or a .txt of the same name beside each recording."
        )
    yield from bad
    inside = [path.relative_to(folder) for path in audio]
    named = all(len(path.parts) > 1 for path in inside) and len({path.parts[0] for path in inside}) > 1
    for path, name in zip(audio, inside, strict=True):
        text_file = path.with_suffix(".txt")
        if path.stem in listed:
            text = listed[path.stem]
        elif text_file.is_file():
            try:
                said = [line for _, line in islice(lines(text_file), LINES + 1)]
            except BadCorpus as error:
                yield Bad(str(name), str(error).replace(str(text_file), text_file.name))
                continue
            if wrong := next((line for line in said if isinstance(line, Bad)), None):
                yield Bad(str(name), f"{wrong.id}: {wrong.reason}")
                continue
            if len(said) > LINES:
                yield Bad(str(name), f"{text_file.name} has over {LINES:,} lines, which no recording of 30 s has. Is it the text of this recording?")
                continue
            text = " ".join(str(line) for line in said).strip()
        else:
            yield Bad(str(name), "audio without text: no .txt of the same name beside it")
            continue
        speaker = name.parts[0] if named else None
        yield Row(str(name), {"audio": str(name), "text": text, "speaker": speaker, "id": str(name.with_suffix(""))})
    spoken = {path.with_suffix("") for path in audio}
    for text_file in sorted(folder.rglob("*.txt")):
        if text_file.with_suffix("") not in spoken and not text_file.name.endswith(".trans.txt"):
            yield Bad(str(text_file.relative_to(folder)), "text without audio: no recording of the same name beside it")


def _listed(folder: Path) -> Iterator[tuple[str, str] | Bad]:
    """LibriSpeech: `19-198.trans.txt` holds lines `19-198-0001 THE TEXT`."""
    for path in sorted(folder.rglob("*.trans.txt")):
        for _, line in lines(path) if path.is_file() else ():
            if isinstance(line, Bad):
                yield line
                continue
            id_, _, text = line.strip().partition(" ")
            if id_:
                yield id_, text.strip()
