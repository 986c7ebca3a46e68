"""What a user names as recordings → the files meant: files, folders with all audio below them, globs, `-` for standard input."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from asrpeft.corpus.formats import AUDIO
from asrpeft.errors import BadInput

SUFFIXES = AUDIO | {
    ".mkv",
    ".mov",
    ".avi",
    ".m4b",
    ".m4v",
    ".3gp",
    ".mpg",
    ".mpeg",
    ".ts",
    ".asf",
    ".wmv",
    ".flv",
    ".caf",
    ".w64",
    ".wv",
    ".ape",
    ".au",
    ".ac3",
    ".spx",
}
STDIN = "/dev/stdin"


def sources(named: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The recordings that are meant, each once, in the order named and by name within a folder or glob.

    A folder stands for the files below it with the suffixes of audio and video, but for hidden ones. A name with `*`, `?` or `[…]`
    that no file has is a pattern; `**` reaches into folders.
    Returns: (recordings, [(what was named and is not there, why)]).
    Raises: BadInput where a folder holds no audio, or nothing that was named is there.
    """
    found: list[str] = []
    missing: list[tuple[str, str]] = []
    for name in named:
        if name == "-":
            found.append(STDIN)
        elif _is_there(name):
            found += _below(Path(name)) if os.path.isdir(name) else [name]
        elif matches := sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []:
            found += [file for match in matches for file in (_below(Path(match), strict=False) if os.path.isdir(match) else [match])]
        else:
            missing.append((name, _why_missing(name)))
    if not found:
        raise BadInput(missing[0][1] if missing else "No recording is named.")
    kept: dict[str, str] = {}
    for name in found:
        kept.setdefault(os.path.abspath(name), name)
    return list(kept.values()), missing


def _is_there(name: str) -> bool:
    try:
        return os.path.lexists(name)
    except ValueError:  # a NUL in it
        return False


def _below(folder: Path, *, strict: bool = True) -> list[str]:
    found = [
        os.path.join(place, name)
        for place, folders, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".") and not _hidden(place, folder)
    ]
    if not found and strict:
        what = "is empty" if not any(folder.iterdir()) else "holds no audio file, and neither do the folders in it"
        raise BadInput(
            f"The folder {str(folder)!r} {what}. Recordings are known by their suffixes: {', '.join(sorted(SUFFIXES))}. "
            "A file of another name can be named itself."
        )
    return sorted(found)


def _hidden(place: str, folder: Path) -> bool:
    return any(part.startswith(".") for part in Path(place).relative_to(folder).parts)


def _why_missing(name: str) -> str:
    if glob.has_magic(name):
        return f"No file matches {name!r}."
    path = Path(name)
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
    except (OSError, ValueError):
        parent = str(path.parent)
        return f"There is no recording {name!r}: {parent!r} is no folder." if parent != "." else f"There is no recording {name!r}."
    hint = f" Did you mean {str(path.parent / near[0])!r}?" if near else ""
    return f"There is no recording {name!r}.{hint}"
