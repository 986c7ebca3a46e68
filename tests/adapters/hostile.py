"""A seeded generator of adapter folders as a stranger, a damaged disk or a careless editor might leave them."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

# What a JSON reader may meet in place of what it expects.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**18,
    10**400,
    -(10**400),
    0.0,
    -0.5,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "16",
    "nan",
    "é" * 300,
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "\x1b[31m",
    "[/b]",
    "\ud800",
    "<|xx|>",
    "encoder.conv1",
    [],
    {},
    [None],
    [[]],
    [1, 2],
    ["x"] * 50,
    {"a": 1},
    {"": None},
    {"x": {"y": [1]}},
    [["a", 1]],
    "(",
    "(a+)+$",
    "{0..9999}" * 4,
    "lora",
    "sha256:0",
]


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values inside `value`."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [inner for key, one in value.items() for inner in places(one, (*path, key))]
    elif isinstance(value, list):
        found += [inner for key, one in enumerate(value) for inner in places(one, (*path, key))]
    return found


def changed(result: dict[str, Any], rng: random.Random, extra: dict[str, Any]) -> dict[str, Any]:
    """`told` with one to three values taken out, put in, or replaced; `extra`: keys that could be there."""
    result = copy.deepcopy(result)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.3:
            result[rng.choice(list(extra))] = rng.choice(VALUES)
            continue
        found = places(result)
        if not found:
            break
        *way, last = rng.choice(found)
        owner = result
        for key in way:
            owner = owner[key]
        action = rng.random()
        if action < 0.15:
            del owner[last]
        elif action < 0.25 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[last]))
        else:
            owner[last] = copy.deepcopy(rng.choice(VALUES))
    return result


def write_json(path: Path, report: Any, rng: random.Random) -> None:
    data = json.dumps(report).encode()
    if rng.random() < 0.1:
        data = damaged(data, rng)
    path.write_bytes(data)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, doubled, or with noise in it."""
    how, at = rng.randrange(4), rng.randrange(len(data))
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if how == 2:
        return data[:at] + data
    return data[:at] + rng.randbytes(rng.randrange(1, 40)) + data[at:]


SHAPES: list[Any] = [[], [0], [1], [2, 2], [-1, 4], [2**62, 4], [2**31, 2**31], [0, 10**18], ["2", 2], None, 7, [2.5], [1] * 70, [True, 1]]
DTYPES: list[Any] = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "I64", "U8", "U64", "BOOL", "C64", "X", "", None, 3]


def header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with another header: dtypes, shapes, offsets, names and counts that do not fit its body."""
    size = int.from_bytes(data[:8], "little")
    report, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice([name for name in report if name != "__metadata__"] or ["x"])
        entry = report.setdefault(name, {})
        if not isinstance(entry, dict):
            continue
        what = rng.randrange(7)
        if what == 0:
            entry["dtype"] = rng.choice(DTYPES)
        elif what == 1:
            entry["shape"] = rng.choice(SHAPES)
        elif what == 2:
            entry["data_offsets"] = rng.choice([[0, len(body)], [len(body), 0], [-4, 4], [0, 2**63], [0, 0], [], None, [0, 4, 8], [1, 5], ["0", 4]])
        elif what == 3:
            report[rng.choice(["", "x", "a\0b", "ctc.weight", "shared.x", "language.v", "../x", "\x1b[31m", "é" * 5000, "." * 5000])] = report.pop(name)
        elif what == 4:
            report[name] = rng.choice(VALUES)
        elif what == 5:
            report["__metadata__"] = rng.choice(VALUES)
        else:
            del report[name]
    text = json.dumps(report).encode()
    length = rng.choice((len(text),) * 8 + (0, len(text) - 1, len(text) + 1, 2**31, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + text + body
