"""A Kaldi data directory: `wav.scp` and `text`; `segments`, `utt2spk` and `utt2lang` where they exist.

Source: https://kaldi-asr.org/doc/data_prep.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asrpeft.corpus.formats import Bad, Table, register
from asrpeft.errors import BadCorpus


@register("kaldi", "a Kaldi data directory (wav.scp, text; segments, utt2spk)",
          claims=lambda spec: (Path(spec) / "wav.scp").is_file())  # fmt: skip
def table(spec: str, limit: int | None) -> Table:
    folder = Path(spec)
    recordings = _recordings(folder / "wav.scp")
    # Kaldi's own paths are relative to where its scripts run, commonly two folders up from data/train.
    roots = (folder, folder.parent, folder.parent.parent, Path())
    return Table(("id", "audio", "text", "speaker", "lang", "start", "end"), _rows(folder, recordings), roots)


def _rows(folder: Path, recordings: dict[str, str]) -> Iterator[dict[str, object] | Bad]:
    texts, speakers, langs = (_lines(folder / name) for name in ("text", "utt2spk", "utt2lang"))
    segments = _lines(folder / "segments") if (folder / "segments").is_file() else {id_: id_ for id_ in recordings}
    for id_, where in segments.items():
        recording, *times = where.split()
        if recording not in recordings:
            yield Bad(id_, f"its recording {recording!r} is not in wav.scp")
            continue
        if len(times) not in (0, 2):
            yield Bad(id_, f"its line in segments is not 'utterance recording start end': {where!r}")
            continue
        start, end = times or (None, None)
        yield {"id": id_, "audio": recordings[recording], "text": texts.get(id_), "speaker": speakers.get(id_),
               "lang": langs.get(id_), "start": start, "end": end if end != "-1" else None}  # fmt: skip
    for id_ in texts:
        if id_ not in segments:
            yield Bad(id_, f"text without audio: not in {'segments' if (folder / 'segments').is_file() else 'wav.scp'}")


def _recordings(scp: Path) -> dict[str, str]:
    recordings = _lines(scp)
    for id_, where in recordings.items():
        if where.endswith("|"):
            raise BadCorpus(f"{scp}: {id_} is a command ({where!r}), and commands in data are not run. "
                            "Run them once yourself, and list the resulting files in wav.scp.")  # fmt: skip
        if ".ark:" in where:
            raise BadCorpus(f"{scp}: {id_} points into an archive ({where!r}), which is not read. "
                            "Unpack it with Kaldi's wav-copy, and list the resulting files in wav.scp.")  # fmt: skip
    return recordings


def _lines(path: Path) -> dict[str, str]:
    """`key value with spaces` per line, as Kaldi writes every table; {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadCorpus(f"{path}: not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from error
    return {key: value.strip() for key, _, value in (line.strip().replace("\t", " ", 1).partition(" ") for line in lines) if key}
