"""Writing so that a reader, or a run killed at any moment, never meets half a result: beside first, then renamed.

What is being written lies beside its place as `.NAME.asrpeft-…`, locked (flock) by the process that writes it. It is on the
disk, files and folder, before it is renamed. A run that is killed leaves it behind, unlocked: the next process that
writes into that folder takes it away, and leaves alone what a living one holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from asrpeft.errors import BadInput

try:
    import fcntl
except ImportError:  # Windows: by the process that the name tells
    fcntl = None  # type: ignore[assignment]

GRACE_S = 60.0  # between making a temporary and locking it a process of another machine has this long
_KEPT = 180  # bytes of a name in its temporary's, of the 255 that file systems take
_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=3).hexdigest()
_TEMPORARY = re.compile(r"\.(?P<name>.*)\.asrpeft-(?P<of>[0-9a-f]{8})-(?P<host>[0-9a-f]{6})-(?P<pid>\d{1,9})-[0-9a-f]{6}(?P<old>\.old)?", re.DOTALL)
_swept: set[Path] = set()


# -- a folder ----------------------------------------------------------------------------------------------------------
def replace_folder(folder: Path, write: Callable[[Path], None], *, overwrite: bool, ours: Set[str]) -> Path:
    """Let `write` fill a new folder and put it where `folder` is; a link is followed.

    An old folder and the new one change places in one step where the system can (Linux), so that there is no moment
    without one; elsewhere a run that dies between the two renames leaves the old one to be found by `recover`. Files have
    the mode that the umask gives, whatever wrote them.

    Args:
        overwrite: an existing folder may be replaced, if it holds nothing but files named in `ours`.
    Raises: BadInput rather than destroying something else; OSError where it cannot be written (a full disk). What was
        there stays until the new folder is complete.
    """
    place = _place(folder)
    recover(place)
    if place.exists():
        names = {p.name for p in place.iterdir()} if place.is_dir() else {"a file of that name"}
        strangers = names - set(ours)
        if strangers:
            raise BadInput(f"{str(folder)!r} holds other files ({', '.join(sorted(strangers)[:3])}) and is not replaced. Choose another --out.")
        if names and not overwrite:
            raise BadInput(f"{str(folder)!r} exists already. Choose another --out, or --overwrite.")
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(place.parent)
    fresh = _beside(place)
    with _clear_failure(folder):
        fresh.mkdir()
        with _locked(fresh):
            try:
                write(fresh)
                mode = fresh.stat().st_mode & 0o666  # what umask (or the folder's default ACL) left of 0777
                for path in sorted(p for p in fresh.rglob("*") if p.is_file()):
                    _sync(path)
                    path.chmod(mode)
                _sync(fresh)
                _put(fresh, place)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    return folder


def _put(fresh: Path, place: Path) -> None:
    """Rename `fresh` to `place`, whatever was there; it is gone afterwards."""
    if not place.exists():
        os.rename(fresh, place)
        _sync(place.parent)
    elif _exchange(fresh, place):
        _sync(place.parent)
        shutil.rmtree(fresh, ignore_errors=True)  # the old one now bears this name; what stays of it is swept by the next run
    else:
        old = fresh.with_name(f"{fresh.name}.old")
        with _locked(place):  # a reader that looks now must not take it for a dead run's
            os.rename(place, old)
            os.rename(fresh, place)
            _sync(place.parent)
        shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> bool:
    """Put an old folder back that a run moved away before it died, unless there is a new one. Whether there was one."""
    place = Path(os.path.abspath(folder))
    if os.path.lexists(place) or not place.parent.is_dir():
        return False
    found = [p for p, match in _temporaries(place.parent) if match["old"] and match["of"] == _digest(place.name) and _abandoned(p, match)]
    for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)[:1]:
        with contextlib.suppress(OSError):
            os.rename(path, place)
            return True
    return False


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system has no such step."""
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


# -- a file ------------------------------------------------------------------------------------------------------------
def replace_file(path: Path, data: bytes | str) -> Path:
    """Write a file beside `path` and rename it there; a link of that name is replaced, not followed.

    Raises: OSError where it cannot be written. What was there stays until the new file is complete.
    """
    place = Path(os.path.abspath(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(place.parent)
    fresh = _beside(place)
    with _clear_failure(path):
        try:
            with fresh.open("xb") as file:
                _lock(file.fileno())
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(fresh, place)
                _sync(place.parent)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    return path


# -- what dead runs left -----------------------------------------------------------------------------------------------
def sweep(folder: Path) -> None:
    """Take away what dead runs left half-written in a folder, and old folders that have a successor."""
    for path, match in _temporaries(folder):
        if match["old"] and not (_digest(match["name"]) == match["of"] and (folder / match["name"]).exists()):
            continue  # perhaps the only copy: `recover` puts it back when its name is asked for
        if _abandoned(path, match):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _sweep_once(folder: Path) -> None:
    """Once in a process: of ten thousand transcripts in one folder each would list it."""
    if folder not in _swept:
        _swept.add(folder)
        with contextlib.suppress(OSError):
            sweep(folder)


def _place(path: Path) -> Path:
    """Where `path` leads, absolute. Raises: BadInput for a link that leads nowhere."""
    if path.is_symlink() and not path.exists():
        raise BadInput(f"{str(path)!r} is a link that leads nowhere. Remove it, or choose another --out.")
    return Path(os.path.realpath(path) if path.is_symlink() else os.path.abspath(path))


def _digest(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()


def _beside(place: Path) -> Path:
    """A name for a temporary of `place` that says whose it is and which process writes it."""
    name = place.name if len(os.fsencode(place.name)) <= _KEPT else os.fsencode(place.name)[:_KEPT].decode(errors="ignore")
    return place.with_name(f".{name}.asrpeft-{_digest(place.name)}-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:6]}")


def _temporaries(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for name in os.listdir(folder):
        match = _TEMPORARY.fullmatch(name) if name.startswith(".") else None
        if match is not None:
            yield folder / name, match


def _abandoned(path: Path, match: re.Match[str]) -> bool:
    """Whether nobody writes a temporary any more: it is not locked, and its process is dead or had time to lock it."""
    dead = match["host"] == _HOST and not _alive(int(match["pid"]))
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW) if fcntl is not None else None
    except OSError:
        return False  # gone meanwhile, or another user's
    if opened is None:
        return dead
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return dead or time.time() - os.fstat(opened).st_mtime > GRACE_S
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system
        return dead
    finally:
        os.close(opened)


def _alive(pid: int) -> bool:
    if os.name != "posix":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        _lock(opened)
        yield
    finally:
        os.close(opened)


def _lock(opened: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # no locks on this file system: the process in the name has to do
            fcntl.flock(opened, fcntl.LOCK_EX)  # waits at most for a `sweep` that is just asking


# -- on the disk -------------------------------------------------------------------------------------------------------
def _sync(path: Path) -> None:
    """What `path` holds is on the disk: after a power cut a renamed file would else be there, empty."""
    if os.name != "posix":  # folders cannot be opened there
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network file systems sync no folders
            raise
    finally:
        os.close(opened)


@contextmanager
def _clear_failure(path: Path) -> Iterator[None]:
    """An OSError that names what could not be written, for a full disk and whatever else the system or safetensors says."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix("Error while serializing: ")
        clear = OSError(f"{str(path)!r} cannot be written: {reason}. What was there before is unchanged. Make room there, or choose another place.")
        clear.errno = getattr(error, "errno", None)
        raise clear from error
