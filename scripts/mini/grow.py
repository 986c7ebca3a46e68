"""A checkpoint of a shallower model → one of the model there is now, which computes the same and has more to learn with.

A layer that is new is a copy of the one before it whose output projections are zero, so that it adds nothing at first (after
Gong et al., "Efficient Training of BERT by Progressively Stacking", 2019, and Net2Net, arXiv:1511.05641).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from scripts.mini.model import Recogniser

_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.")
_OUTPUTS = ("self_attn.out_proj.", "encoder_attn.out_proj.", ".fc2.")


def depth(names, part: str) -> int:
    """Layers of the encoder or the decoder that the names of a model's tensors tell of."""
    return 1 + max(int(found[2]) for name in names if (found := _LAYER.search(name)) and found[1] == part)


def _sources(state: dict[str, Tensor], model: Recogniser) -> dict[str, tuple[str, bool]]:
    """Each name of `model` → the name in `state` that it goes on from, and whether its layer is new."""
    names, found = model.state_dict().keys(), {}
    sizes = {part: (depth(state, part), depth(names, part)) for part in ("encoder", "decoder")}
    for name in names:
        layer = _LAYER.search(name)
        if layer is None:
            found[name] = name, False
            continue
        part, number = layer[1], int(layer[2])
        before, now = sizes[part]
        if before > now:
            raise SystemExit(f"The checkpoint has {before} {part} layers and the model {now}: it can only grow.")
        source = number * before // now
        new = number > 0 and (number - 1) * before // now == source
        found[name] = _LAYER.sub(f"{part}.layers.{source}.", name), new
    return found


def grown(state: dict[str, Tensor], model: Recogniser) -> dict[str, Tensor]:
    """`state` itself where it has as many layers as `model`, else the state of a deeper model that computes the same."""
    return {
        name: torch.zeros_like(state[source]) if new and any(output in name for output in _OUTPUTS) else state[source].clone()
        for name, (source, new) in _sources(state, model).items()
    }


def grown_optimizers(saved: list[dict], state: dict[str, Tensor], model: Recogniser, groups: list[list[list[str]]],
                     groups_before: list[list[list[str]]]) -> list[dict]:  # fmt: skip
    """The optimisers' states for the deeper model: what each has gathered about a tensor stays with it; new ones start afresh.

    groups, groups_before: for each optimiser the names in each of its groups, now and in the checkpoint.
    """
    sources, found = _sources(state, model), []
    for kept, now, before in zip(saved, groups, groups_before, strict=True):
        number = {name: n for n, name in enumerate(name for group in before for name in group)}
        entries, params, at = {}, [], 0
        for group, options in zip(now, kept["param_groups"], strict=True):
            params.append({**options, "params": list(range(at, at + len(group)))})
            for name in group:
                source, new = sources[name]
                known = kept["state"].get(number[source])
                if known is not None:
                    entries[at] = {key: torch.zeros_like(value) if new and value.ndim else value.clone() for key, value in known.items()}
                at += 1
        found.append({"state": entries, "param_groups": params})
    return found
