"""A seeded generator of adapter folders as a stranger, a damaged disk or a careless editor might leave them."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

# What a JSON reader may meet in place of what it expects.
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**18, 10**400, -(10**400), 0.0, -0.5, 1e308, 1e-320, float("nan"), float("inf"), "", " ", "x", "16", "nan",
    "é" * 300, "../../etc/passwd", "/etc/passwd", "a\0b", "\x1b[31m", "[/b]", "\ud800", "<|xx|>", "encoder.conv1", [], {}, [None], [[]], [1, 2], ["x"] * 50,
    {"a": 1}, {"": None}, {"x": {"y": [1]}}, [["a", 1]], "(", "(a+)+$", "{0..9999}" * 4, "lora", "sha256:0",
]  # fmt: skip


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values inside `value`."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [inner for key, one in value.items() for inner in places(one, (*path, key))]
    elif isinstance(value, list):
        found += [inner for key, one in enumerate(value) for inner in places(one, (*path, key))]
    return found


def changed(told: dict[str, Any], chance: random.Random, extra: dict[str, Any]) -> dict[str, Any]:
    """`told` with one to three values taken out, put in, or replaced; `extra`: keys that could be there."""
    told = copy.deepcopy(told)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if chance.random() < 0.3:
            told[chance.choice(list(extra))] = chance.choice(VALUES)
            continue
        found = places(told)
        if not found:
            break
        *way, last = chance.choice(found)
        owner = told
        for key in way:
            owner = owner[key]
        action = chance.random()
        if action < 0.15:
            del owner[last]
        elif action < 0.25 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[last]))
        else:
            owner[last] = copy.deepcopy(chance.choice(VALUES))
    return told


def write_json(path: Path, told: Any, chance: random.Random) -> None:
    data = json.dumps(told).encode()
    if chance.random() < 0.1:
        data = damaged(data, chance)
    path.write_bytes(data)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Cut, flipped, doubled, or with noise in it."""
    how, at = chance.randrange(4), chance.randrange(len(data))
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if how == 2:
        return data[:at] + data
    return data[:at] + chance.randbytes(chance.randrange(1, 40)) + data[at:]


SHAPES: list[Any] = [[], [0], [1], [2, 2], [-1, 4], [2**62, 4], [2**31, 2**31], [0, 10**18], ["2", 2], None, 7, [2.5], [1] * 70, [True, 1]]
DTYPES: list[Any] = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "I64", "U8", "U64", "BOOL", "C64", "X", "", None, 3]


def header(data: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another header: dtypes, shapes, offsets, names and counts that do not fit its body."""
    size = int.from_bytes(data[:8], "little")
    told, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(chance.choice((1, 1, 2))):
        name = chance.choice([name for name in told if name != "__metadata__"] or ["x"])
        entry = told.setdefault(name, {})
        if not isinstance(entry, dict):
            continue
        what = chance.randrange(7)
        if what == 0:
            entry["dtype"] = chance.choice(DTYPES)
        elif what == 1:
            entry["shape"] = chance.choice(SHAPES)
        elif what == 2:
            entry["data_offsets"] = chance.choice([[0, len(body)], [len(body), 0], [-4, 4], [0, 2**63], [0, 0], [], None, [0, 4, 8], [1, 5], ["0", 4]])
        elif what == 3:
            told[chance.choice(["", "x", "a\0b", "ctc.weight", "shared.x", "language.v", "../x", "\x1b[31m", "é" * 5000, "." * 5000])] = told.pop(name)
        elif what == 4:
            told[name] = chance.choice(VALUES)
        elif what == 5:
            told["__metadata__"] = chance.choice(VALUES)
        else:
            del told[name]
    text = json.dumps(told).encode()
    length = chance.choice((len(text),) * 8 + (0, len(text) - 1, len(text) + 1, 2**31, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + text + body
