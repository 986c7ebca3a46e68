"""Runs hostile cases, each in a process that may die, and says what no case may do.

A case is (surface, seed, number): the same three give the same case on every machine. It may be accepted or refused with an
error of `asrpeft.errors` (or an OSError: a full disk is nobody's mistake). Anything else is a violation:

    traceback   any other exception, or a dead process
    hang        no end within `HANG_S`
    memory      the process grew by more than `MEMORY_MB`
    outside     a file beside the case's own folder was made, changed or removed
    network     something asked for a connection
    wrong       the surface found a loss or a wrong result; it says which
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asrpeft.errors import AsrpeftError, Failure

HANG_S = 60.0
MEMORY_MB = 700.0
FORK = multiprocessing.get_context("fork")  # a child begins with everything imported: a case costs milliseconds


class Wrong(Exception):
    """What a surface raises when nothing crashed and yet something was lost, or is not what it should be."""


@dataclass(frozen=True)
class Surface:
    """Something that takes what comes from outside.

    Attributes:
        prepare: makes what its cases share, once: a folder to write files to → any value.
        case: (random, shared, own folder) → None, or an error. It reads `shared`, and writes only in its own folder.
        weight: its share of the cases of a whole attack.
    """

    name: str
    prepare: Callable[[Path], object]
    case: Callable[[random.Random, object, Path], None]
    weight: float = 1.0


@dataclass
class Outcome:
    """What the cases of one surface did."""

    surface: str
    cases: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    most_mb: float = 0.0
    violations: list[tuple[int, str, str]] = field(default_factory=list)  # (case, kind, what was seen)

    def kinds(self) -> Counter[str]:
        return Counter(kind for _, kind, _ in self.violations)


def attack(surface: Surface, seed: int, numbers: Sequence[int]) -> Outcome:
    """Run these cases of a surface."""
    outcome, began = Outcome(surface.name), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        shared = surface.prepare(_made(Path(place, "shared")))
        _made(Path(place, "beside")).joinpath("canary.txt").write_text("alive")
        left = list(numbers)
        while left:
            for number, kind, events, seconds, grown in _in_a_child(surface, seed, list(left), shared, Path(place)):
                left.remove(number)
                outcome.cases += 1
                outcome.accepted += kind == "accepted"
                outcome.refused += kind == "refused"
                outcome.slowest_s, outcome.most_mb = max(outcome.slowest_s, seconds), max(outcome.most_mb, grown)
                if kind not in ("accepted", "refused"):
                    outcome.violations.append((number, kind, events))
    outcome.seconds = time.monotonic() - began
    return outcome


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _in_a_child(surface: Surface, seed: int, numbers: list[int], shared: object, place: Path) -> Iterator[tuple[int, str, str, float, float]]:
    """The cases one after another in one child, up to the first that kills or hangs it."""
    here, there = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_cases, args=(surface, seed, numbers, shared, place, there))
    child.start()
    there.close()
    try:
        for number in numbers:
            if not here.poll(HANG_S):
                yield number, "hang", f"no end within {HANG_S:g} s", HANG_S, 0.0
                return
            try:
                yield here.recv()
            except EOFError:
                child.join()
                yield number, "traceback", f"the process died: {child.exitcode}", 0.0, 0.0
                return
    finally:
        child.kill()
        child.join()


def _cases(surface: Surface, seed: int, numbers: list[int], shared: object, place: Path, result) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    socket.socket.connect = _only_here(socket.socket.connect)  # type: ignore[method-assign]
    socket.getaddrinfo = _no_network
    beside = _snapshot(place)
    for number in numbers:
        own = _made(place / f"case-{number}")
        began, before = time.monotonic(), _resident_mb()
        kind, what = _one(surface, random.Random(f"{seed}/{surface.name}/{number}"), shared, own)
        seconds, grown = time.monotonic() - began, max(0.0, _peak_mb() - before)
        for path in own.rglob("*"):
            with contextlib.suppress(OSError):
                path.chmod(0o700) if path.is_dir() and not path.is_symlink() else None
        shutil.rmtree(own, ignore_errors=True)
        after = _snapshot(place)
        if after != beside:
            changed = sorted(dict(after.items() ^ beside.items()))
            kind, what, beside = "outside", f"touched: {', '.join(changed[:3])} ({kind}: {what})", after
        elif grown > MEMORY_MB and kind in ("accepted", "refused"):
            kind, what = "memory", f"grew by {grown:.0f} MB ({kind}: {what})"
        result.send((number, kind, what, seconds, grown))


def _one(surface: Surface, rng: random.Random, shared: object, own: Path) -> tuple[str, str]:
    home = Path.cwd()
    os.chdir(own)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            surface.case(rng, shared, own)
        return "accepted", ""
    except (AsrpeftError, Failure, OSError) as error:
        return "refused", str(error)
    except Wrong as error:
        return "wrong", str(error)
    except _Network as error:
        return "network", str(error)
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
    finally:
        os.chdir(home)


class _Network(BaseException):
    """A connection was asked for."""


def _no_network(*arguments: object, **_: object) -> None:
    raise _Network(f"a connection to {arguments!r}")


def _only_here(connect: Callable[..., None]) -> Callable[..., None]:
    """The same, for sockets of this machine alone (processes of one run talk through them)."""

    def connect_here(self: socket.socket, address: object) -> None:
        connect(self, address) if self.family == socket.AF_UNIX else _no_network(address)

    return connect_here


def _snapshot(place: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in place.rglob("*"):
        if not path.relative_to(place).parts[0].startswith("case-"):
            message = path.lstat()
            found[str(path.relative_to(place))] = (message.st_size, message.st_mtime_ns)
    return found


def _status(key: str) -> float:
    try:
        return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident_mb() -> float:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    return _status("VmRSS")


def _peak_mb() -> float:
    return _status("VmHWM")


# -- hostile values ---------------------------------------------------------------------------------------------------------
def hostile(rng: random.Random) -> object:
    """A value that no writer of a manifest had in mind, JSON knows, and readers must survive."""
    deep: object = 0
    for _ in range(rng.choice([3, 60, 900])):
        deep = [deep]
    texts = [
        "",
        " ",
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        "9" * 400,
        "x" * 100_000,
        "é" * 300,
        "\0",
        "a\0b",
        "\ud800",
        "\n",
        "\r\n",
        "a\tb",
        "'",
        '"',
        "\\",
        "%s",
        "{}",
        "{0}",
        "$HOME",
        "~",
        "[/b]",
        "[red]x[/red]",
        "\x1b[31mred\x1b[0m",
        "\u202eabc",
        "١٢",
        "ﬀ",
        "../../beside/x",
        "/etc/passwd",
        "C:\\x",
        "file:///etc/passwd",
        "http://127.0.0.1:9/x",
        "hub:a/b",
        "en",
        "sw",
        "xx",
        "<|en|>",
        "<|0.00|>",
        "encoder.conv1",
        "*",
        "(a+)+$",
        "{0..99999999}",
        "__class__",
        "lora",
        "full",
    ]
    numbers = [0, -1, 1, 3, 0.1, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 2**31, 2**63, -(2**63), 10**400]
    others = [
        None,
        True,
        False,
        [],
        {},
        [None],
        [[]],
        {"a": None},
        {"": 0},
        [1] * 10_000,
        ["x"] * 50_000,
        {str(i): i for i in range(2_000)},
        deep,
        [float("nan")],
        {"__reduce__": "os.system"},
        [0, 1, 2],
    ]
    return rng.choice([*texts, *numbers, *others])


def spoil_json(value: object, rng: random.Random) -> object:
    """The same JSON with one to three places replaced, removed or added."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(value))
        if not places:
            return hostile(rng)
        parent, key = rng.choice(places)
        turn = rng.random()
        if turn < 0.75:
            parent[key] = hostile(rng)
        elif turn < 0.9:
            del parent[key]
        elif isinstance(parent, dict):
            parent[str(hostile(rng))[:1000]] = hostile(rng)
        else:
            parent.insert(0, hostile(rng))
    return value


def _places(value: object) -> Iterator[tuple[object, object]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def spoil_bytes(data: bytes, rng: random.Random) -> bytes:
    """The same bytes cut, flipped, filled, doubled, or with something before or after them."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        head = rng.random() < 0.6  # headers are where sizes stand
        at = rng.randrange(max(1, min(len(made), 128 if head else len(made))))
        turn = rng.randrange(7)
        if turn == 0 and made:
            made[at] ^= 1 << rng.randrange(8)
        elif turn == 1:
            made[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
        elif turn == 2:
            del made[rng.randrange(len(made) + 1) :]
        elif turn == 3:
            del made[at : at + rng.choice([1, 2, 7, 64])]
        elif turn == 4:
            made[at:at] = rng.randbytes(rng.choice([1, 4, 33]))
        elif turn == 5:
            made += rng.choice([bytes(made), b"\0" * 1000, rng.randbytes(500)])
        else:
            made[at : at + 16] = rng.randbytes(16)
    return bytes(made)


def hostile_json(value: object, rng: random.Random) -> bytes:
    """A JSON file that is spoilt in its values, or as text."""
    try:
        text = json.dumps(spoil_json(value, rng), indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
    except RecursionError:
        text = "[" * 5_000
    data = text.encode("utf-8", "surrogatepass")
    return spoil_bytes(data, rng) if rng.random() < 0.2 else data
