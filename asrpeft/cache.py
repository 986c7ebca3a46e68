"""Arrays that are slow to make, kept on disk for all runs and processes: decoded audio, states of a frozen encoder.

    FOLDER/KIND/ab/abcdef…   magic · crc32 of the rest · dtype · dimensions · numbers        KIND: samples, states

What is found equals what was put, to the bit. A file is written beside its place and renamed, so that no reader meets half of one;
it is not forced to the disk (a power cut may tear it), since its checksum tells and it is made anew. Files that were used least
recently go when there are more than `limit` bytes. Whatever the disk does, nothing ends: what cannot be read is made again, and what
cannot be written is not kept.

The folder is that of ASRPEFT_CACHE (`off`: none), else `asrpeft` in the user's cache folder; ASRPEFT_CACHE_GB bounds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import struct
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from asrpeft.errors import BadInput

try:
    import fcntl
except ImportError:  # Windows: two processes may then look for the oldest files at once, and both remove them
    fcntl = None  # type: ignore[assignment]

FOLDER, SIZE = "ASRPEFT_CACHE", "ASRPEFT_CACHE_GB"
DEFAULT_GB = 20.0
OFF = "off"
SLACK = 0.1  # of the limit: so much is freed at a time, and written before the folder is counted again
FRESH_S = 60.0  # a file that was used since then is not marked as used again
ABANDONED_S = 3_600.0  # a file that is still half-written then belongs to a process that died
SPARE = 1 << 30  # bytes that are left free on the disk for others

_MAGIC = b"asrpeft1"
_HEAD = struct.Struct("<8sI2sB")  # magic, checksum, dtype, number of dimensions
_DTYPES: dict[bytes, np.dtype[Any]] = {b"f4": np.dtype("<f4"), b"i2": np.dtype("<i2"), b"f2": np.dtype("<f2")}


@dataclass(frozen=True)
class Usage:
    """What a cache holds: files and bytes by kind, and what it may hold."""

    folder: Path
    files: dict[str, int]
    bytes: dict[str, int]
    limit: int

    @property
    def total(self) -> int:
        return sum(self.bytes.values())


class DiskCache:
    """Arrays by key, at most `limit` bytes of them, in a folder that any number of processes use at once.

    A copy in another process (a worker that reads audio) goes on in the same folder.
    """

    def __init__(self, folder: str | Path, *, limit: int):
        self.folder, self.limit = Path(folder), limit
        self._counted: int | None = None  # bytes when the folder was counted last
        self._written = 0  # bytes since then, by this process
        self._closed = False  # to writing: the disk did not let us

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "limit": self.limit, "_counted": None, "_written": 0, "_closed": False}

    # -- arrays --------------------------------------------------------------------------------------------------------
    def get(self, kind: str, key: str) -> np.ndarray | None:
        """The array, of its own memory; None where there is none, or a damaged one (which is removed)."""
        path = self._path(kind, key)
        try:
            with path.open("rb") as file:
                data = file.read()
                if time.time() - os.fstat(file.fileno()).st_mtime > FRESH_S:
                    with contextlib.suppress(OSError):  # another user's file is used as well as one's own
                        os.utime(path)
        except OSError:
            return None
        found = _unpacked(data)
        if found is None:
            with contextlib.suppress(OSError):
                path.unlink()
        return found

    def put(self, kind: str, key: str, array: np.ndarray) -> None:
        """Keep an array of float32, float16 or int16. Where it cannot be written nothing happens."""
        data = _packed(array)
        if self._closed or len(data) > SLACK * self.limit:
            return
        path = self._path(kind, key)
        fresh = path.with_name(f".{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        try:
            self._make_room(len(data))
            if self._closed:
                return
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                fresh.write_bytes(data)
                os.replace(fresh, path)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
        except FileNotFoundError:  # cleared meanwhile
            return
        except OSError:  # a full disk, a folder that may not be written to
            self._closed = True
        else:
            self._written += len(data)

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / key[:2] / key

    # -- its size ------------------------------------------------------------------------------------------------------
    def usage(self) -> Usage:
        files: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for path, found in self._files():
            kind = path.parent.parent.name
            files[kind], sizes[kind] = files.get(kind, 0) + 1, sizes.get(kind, 0) + found.st_size
        return Usage(self.folder, files, sizes, self.limit)

    def clear(self) -> Usage:
        """Remove everything; says what there was. Other files in the folder stay."""
        before = self.usage()
        for path, _ in self._files():
            with contextlib.suppress(OSError):
                path.unlink()
        for path, _ in self._halves(ABANDONED_S):
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in (*self.folder.glob("*/??"), *self.folder.glob("*")):
            with contextlib.suppress(OSError):  # what is not empty stays
                folder.rmdir()
        self._counted, self._written, self._closed = None, 0, False
        return before

    def shrink_to(self, gigabytes: float) -> None:
        """Let the files that were used least recently go until at most so much is kept. Raises: BadInput for a size that is none."""
        if not 0 <= gigabytes < math.inf:
            raise BadInput(f"{gigabytes:g} GB is no size to shrink a cache to. Give 0 or more.")
        if self.folder.is_dir():
            self._shrink(round(gigabytes * 1e9), round(gigabytes * 1e9))

    def _shrink(self, most: int, goal: int) -> None:
        """Where there are more than `most` bytes, remove files until there are `goal`; one process at a time does."""
        with self._alone():
            files = sorted(((found.st_mtime, found.st_size, path) for path, found in self._files()), key=lambda one: one[:2])
            total = sum(size for _, size, _ in files)
            goal = total if total <= most else goal
            for _, size, path in files:
                if total <= goal:
                    break
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size
            for path, _ in self._halves(ABANDONED_S):
                with contextlib.suppress(OSError):
                    path.unlink()
            self._counted, self._written = total, 0

    def _make_room(self, size: int) -> None:
        """Count the folder at first, and each time this process has written a tenth of the limit: others write too."""
        if self._counted is not None and self._written + size <= SLACK * self.limit and self._counted + self._written + size <= self.limit:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shrink(math.floor((1 - SLACK) * self.limit), math.floor((1 - 2 * SLACK) * self.limit))
        self._counted = self._counted or 0
        if shutil.disk_usage(self.folder).free < SPARE + SLACK * self.limit:
            self._closed = True  # what is there serves on

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        return ((path, found) for path, found in self._entries() if not path.name.startswith("."))

    def _halves(self, older_s: float) -> Iterator[tuple[Path, os.stat_result]]:
        now = time.time()
        return ((path, found) for path, found in self._entries() if path.name.startswith(".") and now - found.st_mtime >= older_s)

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in self.folder.glob("*/??"):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_file(follow_symlinks=False):
                            yield Path(entry.path), entry.stat(follow_symlinks=False)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process counts or shrinks the folder until the block ends; it takes a fraction of a second."""
        if fcntl is None:
            yield
            return
        opened = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(OSError):  # no locks on this file system
                fcntl.flock(opened, fcntl.LOCK_EX)
            yield
        finally:
            os.close(opened)


def _packed(array: np.ndarray) -> bytes:
    kind = next((name for name, dtype in _DTYPES.items() if dtype == array.dtype), None)
    if kind is None:
        raise BadInput(f"float32, float16 and int16 are cached, not {array.dtype}.")
    rest = struct.pack(f"<{array.ndim}Q", *array.shape) + np.ascontiguousarray(array).tobytes()
    return _HEAD.pack(_MAGIC, zlib.crc32(rest, zlib.crc32(kind)), kind, array.ndim) + rest


def _unpacked(data: bytes) -> np.ndarray | None:
    """The array; None for anything that `_packed` has not made."""
    if len(data) < _HEAD.size:
        return None
    magic, checksum, kind, ndim = _HEAD.unpack_from(data)
    start = _HEAD.size + 8 * ndim
    if magic != _MAGIC or kind not in _DTYPES or len(data) < start or zlib.crc32(memoryview(data)[_HEAD.size :], zlib.crc32(kind)) != checksum:
        return None
    shape, dtype = struct.unpack_from(f"<{ndim}Q", data, _HEAD.size), _DTYPES[kind]
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        return None
    return np.frombuffer(bytearray(memoryview(data)[start:]), dtype).reshape(shape)


def key_of(*parts: object) -> str:
    """32 hexadecimal digits for what an array was made of."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(errors="surrogatepass"), digest_size=16).hexdigest()


# -- the one in use ------------------------------------------------------------------------------------------------------
def use(folder: str | Path | None = None, gigabytes: float | None = None) -> None:
    """Let this process, and those that it starts, keep arrays elsewhere (`off`: nowhere), or more of them.

    Raises: BadInput for a size that is none, or a folder that is a file.
    """
    before = {name: os.environ.get(name) for name in (FOLDER, SIZE)}
    if folder is not None:
        os.environ[FOLDER] = str(folder)
    if gigabytes is not None:
        os.environ[SIZE] = str(gigabytes)
    try:
        current()
    except BadInput:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        raise


def current() -> DiskCache | None:
    """The cache that the environment names; None where it is off. Raises: BadInput for a size that is none, or a folder that is a file."""
    return _named(os.environ.get(FOLDER, ""), os.environ.get(SIZE, ""))


@lru_cache(maxsize=8)
def _named(folder: str, gigabytes: str) -> DiskCache | None:
    if folder.strip().lower() == OFF:
        return None
    try:
        size = float(gigabytes or DEFAULT_GB)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise BadInput(f"{SIZE}={gigabytes!r} is no size: give gigabytes, as in {DEFAULT_GB:g}; 0, or {FOLDER}={OFF}, keeps nothing.")
    if not size:
        return None
    try:
        place = Path(folder).expanduser() if folder.strip() else default_folder()
    except RuntimeError:  # a user without a home
        return None
    if place.exists() and not place.is_dir():
        raise BadInput(f"{FOLDER}={folder!r} is a file. Name a folder for the cache, or {OFF}.")
    return DiskCache(place.absolute(), limit=round(size * 1e9))


def default_folder() -> Path:
    """`asrpeft` in the user's cache folder, as the system has it."""
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/asrpeft"
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "asrpeft"
