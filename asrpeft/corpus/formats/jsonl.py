"""JSON lines, one object per utterance: {"audio": "clips/1.wav", "text": "…", "speaker": "…"}; also one JSON array (.json)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from asrpeft.corpus.formats import Bad, Table, register
from asrpeft.errors import BadCorpus

SUFFIXES = {".jsonl", ".ndjson", ".json"}


@register("jsonl", "a .jsonl (or .json) manifest, one object per utterance",
          claims=lambda spec: Path(spec).suffix.lower() in SUFFIXES and Path(spec).is_file())  # fmt: skip
def table(spec: str, limit: int | None) -> Table:
    path = Path(spec)
    rows = list(_rows(path))
    columns = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
    return Table(tuple(columns), rows, (path.parent,))


def _rows(path: Path) -> Iterator[dict[str, object] | Bad]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadCorpus(f"{path}: not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from error
    if text.lstrip().startswith("["):
        try:
            lines = list(enumerate(json.loads(text), 1))
        except json.JSONDecodeError as error:
            raise BadCorpus(f"{path}: it begins as a JSON array but is not one ({error}).") from error
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in lines:
        try:
            row = json.loads(line) if isinstance(line, str) else line
        except json.JSONDecodeError as error:
            yield Bad(f"{path.name}:{number}", f"not JSON ({error.msg}, column {error.colno})")
            continue
        yield row if isinstance(row, dict) else Bad(f"{path.name}:{number}", "not a JSON object")
