"""A Kaldi data directory: `wav.scp` and `text`; `segments`, `utt2spk` and `utt2lang` where they exist.

Source: https://kaldi-asr.org/doc/data_prep.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asrpeft.corpus.formats import Bad, Row, Table, register
from asrpeft.corpus.lines import count, lines


@register("kaldi", "a Kaldi data directory (wav.scp, text; segments, utt2spk)", claims=lambda spec: (Path(spec) / "wav.scp").is_file())
def table(spec: str, limit: int | None) -> Table:
    folder = Path(spec)
    # Kaldi's own paths are relative to where its scripts run, commonly two folders up from data/train.
    roots = (folder, folder.parent, folder.parent.parent, Path())
    size = count(folder / ("segments" if (folder / "segments").is_file() else "wav.scp"))
    return Table(("id", "audio", "text", "speaker", "lang", "start", "end"), _rows(folder), roots, size)


def _rows(folder: Path) -> Iterator[Row | Bad]:
    bad: list[Bad] = []
    recordings, texts, speakers, langs = (_lines(folder / name, bad) for name in ("wav.scp", "text", "utt2spk", "utt2lang"))
    listing = "segments" if (folder / "segments").is_file() else "wav.scp"
    segments = _lines(folder / "segments", bad) if listing == "segments" else {id_: id_ for id_ in recordings}
    yield from bad
    for id_, where in segments.items():
        recording, *times = (where.split() or [""]) if listing == "segments" else (id_,)
        if recording not in recordings:
            yield Bad(id_, f"its recording {recording!r} is not in wav.scp")
        elif len(times) not in (0, 2):
            yield Bad(id_, f"its line in segments is not 'utterance recording start end': {where!r}")
        elif reason := _unreadable(recordings[recording]):
            yield Bad(id_, reason)
        else:
            start, end = times or (None, None)
            yield Row(
                listing,
                {
                    "id": id_,
                    "audio": recordings[recording],
                    "text": texts.get(id_),
                    "speaker": speakers.get(id_),
                    "lang": langs.get(id_),
                    "start": start,
                    "end": None if end in ("-1", "-1.0", "-1.00") else end,
                },
            )
    for id_ in texts:
        if id_ not in segments:
            yield Bad(id_, f"text without audio: not in {listing}")


def _unreadable(where: str) -> str | None:
    """Why an entry of wav.scp is no file; None if it may be one."""
    if where.endswith("|"):
        return f"its recording is a command ({where!r}), and commands in data are not run. Run it once yourself, and list the resulting file in wav.scp"
    if ".ark:" in where:
        return f"its recording lies in an archive ({where!r}), which is not read. Unpack it with Kaldi's wav-copy, and list the resulting file in wav.scp"
    return None


def _lines(path: Path, bad: list[Bad]) -> dict[str, str]:
    """`key value with spaces` per line, as Kaldi writes every table; {} where there is no such file. Of a key that comes twice
    the first line counts; that, and lines that are not text, are added to `bad`."""
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    for number, line in lines(path):
        if isinstance(line, Bad):
            bad.append(line)
            continue
        key, _, value = line.strip().replace("\t", " ", 1).partition(" ")
        if key in found:
            bad.append(Bad(f"{path.name}:{number}", f"{key!r} stands in {path.name} a second time; its first line counts"))
        elif key:
            found[key] = value.strip()
    return found
