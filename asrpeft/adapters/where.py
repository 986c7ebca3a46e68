"""`where`: the pattern that chooses the layers an adapter acts on.

A pattern is a comma-separated list (or a list) of parts, each one of:
  a group     `attention` (q, k, v and out projections), `conv`, `ff`, `embedding`, `norm`, `linear`, `block` (whole layers), `feedforward`
              (both of its matrices as one place), `stack` (all layers as one place), `all`
  a name      `q_proj`, `fc2`, `conv1`, `encoder_attn`: the layers of that name, or all below it
  a glob      `decoder.*.q_proj`, `encoder.layers.{0..3}.*`, `encoder.layers.{0,5}.fc1`
  a subtree   `encoder`, `encoder.layers.{0..3}`: every layer below
  the last    `last:2`, `decoder.last:2`: all below the last two layers of the encoder and the decoder, or of one of them
A leading `-` takes layers away: `attention,-encoder.layers.0`. Positional tables are matched only by their own name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import islice

from asrpeft.errors import CannotAttach
from asrpeft.methods.layers import POSITIONS as _POSITIONS
from asrpeft.methods.layers import Layer

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
MOST = 2_000  # patterns that one part may stand for
GROUPS = {
    "attention": lambda layer: layer.leaf in _PROJECTIONS or layer.kind == "attention",
    "conv": lambda layer: layer.kind == "conv1d",
    "ff": lambda layer: layer.leaf in ("fc1", "fc2"),
    "embedding": lambda layer: layer.kind == "embedding",
    "norm": lambda layer: layer.kind == "norm",
    "linear": lambda layer: layer.kind == "linear",
    "block": lambda layer: layer.kind == "block",
    "feedforward": lambda layer: layer.kind == "feedforward",
    "stack": lambda layer: layer.kind == "stack",
    "all": lambda layer: True,
}


def expand(pattern: str) -> list[str]:
    """`layers.{0..2}.{q,k}_proj` → the six patterns it stands for. Ranges include both ends.

    Raises: CannotAttach for one that stands for more patterns than any model has layers: three ranges can make a billion.
    """
    found = [pattern]
    while any(re.search(r"\{[^{}]*\}", one) for one in found):
        found = list(islice((new for one in found for new in _expanded(one)), MOST + 1))
        if len(found) > MOST:
            raise CannotAttach(f"`where` part {pattern[:80]!r} stands for more than {MOST:,} patterns. Use `*` in place of ranges, or name the layers.")
    return found


def _expanded(pattern: str) -> list[str]:
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    body = match.group(1)
    bounds = re.fullmatch(r"(\d{1,4})\.\.(\d{1,4})", body)
    if not bounds and re.fullmatch(r"\d+\.\.\d+", body):
        raise CannotAttach(f"`where` range {{{body}}} is larger than any model; give ranges such as {{0..3}}.")
    choices = [str(n) for n in range(int(bounds[1]), int(bounds[2]) + 1)] if bounds else body.split(",")
    return [pattern[: match.start()] + choice + pattern[match.end() :] for choice in choices]


def split(where: str | Sequence[str]) -> list[str]:
    """The parts of a `where`: split at commas outside braces."""
    parts = [where] if isinstance(where, str) else list(where)
    return [part.strip() for text in parts for part in re.split(r",(?![^{}]*\})", text) if part.strip()]


def _matches(part: str, layer: Layer) -> bool:
    if part in GROUPS:
        return GROUPS[part](layer) and layer.leaf != _POSITIONS
    if any(fnmatchcase(layer.path, pattern) for pattern in expand(part)):
        return layer.leaf != _POSITIONS or _POSITIONS in part
    if layer.leaf == part and not part.isdigit():
        return True
    if layer.leaf != _POSITIONS and not part.isdigit() and part in layer.path.split("."):
        return True
    return layer.leaf != _POSITIONS and any(fnmatchcase(layer.path, pattern + ".*") for pattern in expand(part))


def matching(part: str, layers: Sequence[Layer]) -> list[Layer]:
    """The layers that one part of a `where` names, its `-` apart."""
    last = re.fullmatch(r"-?(?:(encoder|decoder)\.)?last:(\d{1,4})", part)
    if last:
        return [layer for layer in layers if _is_among_last(int(last[2]), layer, layers) and layer.path.startswith(last[1] or "")]
    return [layer for layer in layers if _matches(part.removeprefix("-"), layer)]


def _is_among_last(n: int, layer: Layer, layers: Sequence[Layer]) -> bool:
    """Whether a layer is one of the last `n` of its stack, or below one."""

    def place(path: str) -> tuple[str, int] | None:
        found = re.match(r"(encoder|decoder)\.layers\.(\d+)(?:\.|$)", path)
        return None if found is None else (found[1], int(found[2]))

    own = place(layer.path)
    return own is not None and own[1] > max(at[1] for at in map(place, (one.path for one in layers)) if at is not None and at[0] == own[0]) - n


def select(layers: Sequence[Layer], where: str | Sequence[str]) -> list[Layer]:
    """The layers that `where` chooses, in the base's order.

    Raises: CannotAttach naming the part that matches nothing.
    """
    chosen: set[str] = set()
    for part in split(where):
        matched = {layer.path for layer in matching(part, layers)}
        if not matched:
            leaves = sorted({layer.leaf for layer in layers if layer.leaf != _POSITIONS and not layer.leaf.isdigit()})
            raise CannotAttach(
                f"`where` part {part!r} matches no layer this method can act on. Groups: {', '.join(GROUPS)}; "
                f"layers: {', '.join(leaves)}; a glob such as decoder.*.q_proj, or last:2."
            )
        chosen = chosen - matched if part.startswith("-") else chosen | matched
    if not chosen:
        raise CannotAttach(f"`where` {where!r} chooses no layer.")
    return [layer for layer in layers if layer.path in chosen]
