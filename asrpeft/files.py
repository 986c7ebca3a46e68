"""Writing so that a reader, or a run killed at any moment, never meets half a result: beside first, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Set
from pathlib import Path

from asrpeft.errors import BadInput


def replace_folder(folder: Path, write: Callable[[Path], None], *, overwrite: bool, ours: Set[str]) -> Path:
    """Let `write` fill a new folder and put it where `folder` is.

    Args:
        overwrite: an existing folder may be replaced, if it holds nothing but files named in `ours`.
    Raises: BadInput rather than destroying something else. What was there stays until the new folder is complete.
    """
    if folder.exists():
        names = {p.name for p in folder.iterdir()} if folder.is_dir() else {"a file of that name"}
        strangers = names - set(ours)
        if strangers:
            raise BadInput(f"{str(folder)!r} holds other files ({', '.join(sorted(strangers)[:3])}) and is not replaced. Choose another --out.")
        if names and not overwrite:
            raise BadInput(f"{str(folder)!r} exists already. Choose another --out, or --overwrite.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    fresh.mkdir()
    try:
        write(fresh)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
            os.rename(folder, old)
            os.rename(fresh, folder)
            shutil.rmtree(old)
        else:
            os.rename(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return folder


def replace_file(path: Path, data: bytes | str) -> Path:
    """Write a file beside `path` and rename it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        fresh.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return path
