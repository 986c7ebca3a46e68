"""Read a corpus of any kind: recognise it, guess its columns, check every row, and say what was left out."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from asrpeft.audio.features import MAX_SECONDS
from asrpeft.corpus.columns import match
from asrpeft.corpus.corpus import Corpus, Skipped, too_long
from asrpeft.corpus.formats import Bad, Table, recognise
from asrpeft.corpus.utterance import AudioRef, Utterance
from asrpeft.errors import BadAudio, BadCorpus


def read(
    spec: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    limit: int | None = None,
    need_text: bool = True,
) -> Corpus:
    """Read a corpus.

    Args:
        spec: a path (Parquet, JSONL, CSV, TSV, a folder, a Kaldi directory) or `hub:REPO[:CONFIG]:SPLIT`.
        columns: role → column, where guessing by common names fails: {"text": "sentence", "speaker": "client_id"}.
        strict: raise at the first row that cannot be used, instead of leaving it out with a reason.
        limit: stop after so many usable utterances.
        need_text: without it, rows lacking a transcript are kept, with the text "".
    Returns: a Corpus; `.skipped` names every row that was left out: no text, no audio, broken, or over 30 s.
    Raises: BadCorpus if nothing can be read, or nothing is usable.
    """
    spec = str(spec)
    table = recognise(spec).table(spec, limit)
    name = spec if spec.startswith("hub:") else Path(spec).name or spec
    roles = match(table.columns, columns, where=spec, need_text=need_text)
    good: list[Utterance] = []
    bad: list[Skipped] = []
    for item in _unique(_utterances(table, roles, Path(spec).stem, need_text)):
        if isinstance(item, Utterance):
            good.append(item)
            if len(good) == limit:
                break
        elif strict:
            raise BadCorpus(f"{spec}: {item.id}: {item.reason}. (Without --strict it would be left out.)")
        else:
            bad.append(item)
    if not good:
        reasons = "; ".join(f"{s.id}: {s.reason}" for s in bad[:3])
        raise BadCorpus(f"{spec}: no usable utterance among {len(bad)} rows" + (f" ({reasons})." if bad else "."))
    return Corpus(good, name=name, skipped=bad)


def _utterances(table: Table, roles: Mapping[str, str], stem: str, need_text: bool) -> Iterator[Utterance | Skipped]:
    for number, row in enumerate(table.rows, 1):
        if isinstance(row, Bad):
            yield Skipped(row.id, row.reason)
            continue
        cells = {role: row.get(column) for role, column in roles.items()}
        try:
            audio = _audio(cells, table.roots, f"{stem}:{number}")
        except BadAudio as error:
            yield Skipped(_id(cells, None) or f"{stem}:{number}", str(error))
            continue
        id_ = _id(cells, audio) or f"{stem}:{number}"
        try:
            text = _text(cells.get("text"), need_text)
            yield Utterance(
                id=id_,
                audio=audio,
                text=text,
                speaker=_name(cells.get("speaker")),
                lang=_name(cells.get("lang")),
                duration=_seconds(audio, cells),
                extra={k: v for k, v in row.items() if k not in roles.values() and not isinstance(v, bytes | AudioRef)},
            )
        except (BadAudio, BadCorpus) as error:
            yield Skipped(id_, str(error))


def _audio(cells: Mapping[str, object], roots: tuple[Path, ...], fallback: str) -> AudioRef:
    """The audio cell of a row, as something that can be read. Raises: BadAudio if there is none."""
    value = cells.get("audio")
    start, duration = _part(cells)
    if isinstance(value, AudioRef):
        return value if (start, duration) == (0.0, None) else AudioRef(value.source, value.name, start, duration)
    name = value.get("path") if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    if isinstance(value, bytes):
        return AudioRef(value, name if isinstance(name, str) and name else _name(cells.get("id")) or fallback, start, duration)
    if not isinstance(name, str) or not name.strip():
        raise BadAudio("text without audio: the cell is empty")
    return AudioRef(_found(name, roots), name, start, duration)


def _found(name: str, roots: tuple[Path, ...]) -> Path:
    """A file by the name a manifest gives, relative to its folder; names may have been written in another Unicode form."""
    for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        for root in roots or (Path(),):
            try:
                if (path := root / form).is_file():
                    return path
            except (OSError, ValueError):  # a name too long, or with a NUL in it, is of no file
                continue
    raise BadAudio(f"no such file: {name!r}, looked for in {', '.join(map(str, roots)) or 'the current folder'}")


def _part(cells: Mapping[str, object]) -> tuple[float, float | None]:
    """(start, duration) of the audio that is meant. `duration` cuts only beside a `start`: alone it describes the file."""
    start, end, duration = (_number(cells.get(role)) for role in ("start", "end", "duration"))
    if start is None or start < 0:
        return 0.0, None
    if end is not None:
        if end <= start:
            raise BadAudio(f"its part ends ({end:g} s) before it starts ({start:g} s)")
        return start, end - start
    return start, duration if duration is not None and duration > 0 else None


def _seconds(audio: AudioRef, cells: Mapping[str, object]) -> float:
    """Length by the audio's header, which is cheap and finds broken files; by the table only where reading costs a fetch."""
    told = _number(cells.get("duration"))
    known = audio.duration if audio.duration is not None else told
    seconds = known if callable(audio.source) and known is not None and known > 0 else audio.seconds()
    if seconds > MAX_SECONDS:
        raise BadAudio(too_long(seconds))
    return seconds


def _text(value: object, need_text: bool) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip()):
        if need_text:
            raise BadCorpus("audio without text: the cell is empty")
        return ""
    if not isinstance(value, str):
        raise BadCorpus(f"its text is {type(value).__name__} {value!r:.40}, not a string")
    return unicodedata.normalize("NFC", value)


def _id(cells: Mapping[str, object], audio: AudioRef | None) -> str | None:
    """The id a row gives, else the name of its audio without folders that lead elsewhere and without the suffix."""
    if (given := _name(cells.get("id"))) is not None:
        return given
    if audio is None or isinstance(audio.source, bytes) and "." not in audio.name:
        return None
    parts = [part for part in Path(audio.name).with_suffix("").parts if part not in ("..", "/", "\\")]
    return "/".join(parts[-2:]) or None


def _name(value: object) -> str | None:
    text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()
    return unicodedata.normalize("NFC", text) or None


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _unique(items: Iterable[Utterance | Skipped]) -> Iterator[Utterance | Skipped]:
    """The same rows with ids made unique: the second "a" becomes "a#2"."""
    seen: dict[str, int] = {}
    for item in items:
        if isinstance(item, Utterance):
            id_ = item.id
            while id_ in seen:
                seen[item.id] += 1
                id_ = f"{item.id}#{seen[item.id]}"
            seen[id_] = 1
            item = item if id_ == item.id else replace(item, id=id_)
        yield item
