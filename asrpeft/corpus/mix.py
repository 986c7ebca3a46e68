"""Several corpora as one, and how often each is drawn: `sw.jsonl:2` means every row twice an epoch.

    draws of a row in epoch e  =  ⌊w · (e + 1) + u⌋ − ⌊w · e + u⌋        w its weight, u in [0, 1) its own number by seed and id

A weight of 2 draws every row twice, 1 once, 0.5 every row once in two epochs, another half of the rows each time; no row is
drawn less often than its fellows for long. All of it is a function of seed, id and epoch, so that a run finds its place again.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrpeft.errors import BadInput

LEAST, MOST = 1e-3, 1e3  # weights
_WEIGHT = re.compile(r"(?P<spec>.+):(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)", re.DOTALL)
_HUB = re.compile(r"hub:[^:\[\]]+:[^:\[\]]+(?::[^:\[\]]+)?(?:\[[^\]]*\])?")

Specs = str | Path | Sequence[str | Path] | Mapping[str, float]


def weighted(spec: str | Path) -> tuple[str, float]:
    """`sw.jsonl:2` → ("sw.jsonl", 2.0); without a weight, 1.

    What exists as it is written, `a:2` among it, is a path. The last number of `hub:REPO:CONFIG:SPLIT:2` is a weight, that of
    `hub:REPO:2` the split. Where that is not what is meant, write the weight too: `a:2:1`.
    Raises: BadInput for a weight that is none.
    """
    spec = str(spec)
    found = _WEIGHT.fullmatch(spec)
    if found is None or _exists(spec) or (spec.startswith("hub:") and not _HUB.fullmatch(found["spec"])):
        return spec, 1.0
    return found["spec"], checked(float(found["weight"]), spec)


def checked(weight: float, spec: str) -> float:
    """The weight. Raises: BadInput if it is none."""
    if not LEAST <= weight <= MOST:
        raise BadInput(f"{spec!r}: a corpus is drawn from with a weight of {LEAST:g} to {MOST:g}, 1 if none is given; to leave it out, do not name it.")
    return weight


def listed(given: Specs) -> list[tuple[str, float]]:
    """Whatever names one corpus or several, as (spec, weight) of each. Raises: BadInput where none is named."""
    if isinstance(given, Mapping):
        found = [(str(spec), checked(float(weight), str(spec))) for spec, weight in given.items()]
    else:
        found = [weighted(spec) for spec in ([given] if isinstance(given, str | Path) else given)]
    if not found:
        raise BadInput("No corpus was named.")
    return found


def called(specs: Sequence[str]) -> list[str]:
    """A name for each corpus, that of its file; where two would be called alike, with the folders that tell them apart."""
    parts = [[spec] if spec.startswith("hub:") else [p for p in Path(spec).parts if p not in ("/", ".")] or [spec] for spec in specs]
    names: list[str] = []
    for i, mine in enumerate(parts):
        others = [other for other in parts if other != mine]
        depth = next((n for n in range(1, len(mine) + 1) if all(other[-n:] != mine[-n:] for other in others)), len(mine))
        name = "/".join(mine[-depth:])
        names.append(name if (before := parts[:i].count(mine)) == 0 else f"{name}#{before + 1}")
    return names


def title(weights: Mapping[str, float]) -> str:
    """`2·sw.jsonl + en.jsonl`."""
    return " + ".join(name if weight == 1 else f"{weight:g}·{name}" for name, weight in weights.items())


def draws(weight: float, id_: str, *, seed: int, epoch: int) -> int:
    """How often a row is drawn in an epoch, counted from 0."""
    digest = hashlib.blake2b(f"draw\x1f{seed}\x1f{id_}".encode(), digest_size=4).digest()
    own = int.from_bytes(digest, "little") / (1 << 32)  # 32 bits: sums with it are exact, so that whole weights stay whole
    return math.floor(weight * (epoch + 1) + own) - math.floor(weight * epoch + own)


def _exists(spec: str) -> bool:
    try:
        return Path(spec).exists()
    except (OSError, ValueError):  # a name too long, or with a NUL in it, is of no file
        return False
