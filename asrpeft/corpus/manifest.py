"""Write a corpus as a JSONL manifest that `read` reads back."""

from __future__ import annotations

import json
import os
from math import isfinite
from pathlib import Path

from asrpeft.corpus.corpus import Corpus
from asrpeft.errors import BadInput
from asrpeft.files import replace_file


def write_manifest(corpus: Corpus, path: Path) -> Path:
    """One JSON object a line: `id`, `audio` (a path), `text`, `speaker`, `lang`, `duration`, and every further column.

    Recordings that are files are named relative to the manifest; those that live inside another file (Parquet) are
    written beside it, into a folder called as the manifest is.
    Raises: BadInput if the manifest exists.
    """
    if path.exists():
        raise BadInput(f"{str(path)!r} exists already. Choose another --out.")
    lines = []
    for number, utterance in enumerate(corpus):
        found = utterance.audio.read()
        if isinstance(found, Path):
            audio = os.path.relpath(found, path.parent)
        else:
            suffix = Path(utterance.audio.name).suffix or ".audio"
            stored = path.with_suffix("") / f"{number:06d}{suffix}"
            replace_file(stored, found)
            audio = str(stored.relative_to(path.parent))
        row = {"id": utterance.id, "audio": audio, "text": utterance.text, "speaker": utterance.speaker, "lang": utterance.lang}
        if utterance.audio.start or utterance.audio.duration is not None:
            row |= {"start": utterance.audio.start}
        row["duration"] = utterance.duration
        further = {k: v for k, v in utterance.extra.items() if isinstance(v, str | int | bool) or (isinstance(v, float) and isfinite(v))}
        lines.append(json.dumps({**further, **{k: v for k, v in row.items() if v is not None}}, ensure_ascii=False))
    return replace_file(path, "\n".join(lines) + "\n")
