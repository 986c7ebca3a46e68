"""The digest that binds `adapter.json` to its tensors, so that a flipped bit or an exchanged file is noticed on loading.

    "digest": {"tensors": "sha256:…", "meaning": "sha256:…"}

`tensors` is of the file `adapter.safetensors`, as `sha256sum` prints it. `meaning` is of the fields that say what the tensors are
(`BOUND`): under another `alpha` or on other layers the same numbers are another adapter. Everything else may be edited by hand:
`base_id`, `parent`, `language`, `task`, `context`, `training`, `scores`, and fields of one's own. It guards against accidents, not against
forgers, who can write a digest as well. An adapter without one (saved before there was any, or taken out on purpose, to use it
as it is) is loaded unchecked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOUND = ("format", "method", "config", "sites", "base_fingerprint", "language_slot", "ctc_vocabulary")


def digest(manifest: Mapping[str, Any], tensors: Path) -> dict[str, str]:
    """What to write beside the other fields of `manifest` for the file `tensors`."""
    return {"tensors": of_file(tensors), "meaning": of_fields(manifest)}


def of_file(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def of_fields(manifest: Mapping[str, Any]) -> str:
    """The same however the file is laid out: in any order of keys, with `16` for `16.0`."""
    told = {"conditions": manifest["conditions"]} if manifest.get("conditions") else {}  # adapters from before there were any have the digest they had
    bound = json.dumps({name: _plain(value) for name, value in {**{name: manifest[name] for name in BOUND}, **told}.items()}, sort_keys=True)
    return f"sha256:{hashlib.sha256(bound.encode()).hexdigest()}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def difference(manifest: Mapping[str, Any], tensors: Path) -> str | None:
    """What is not as it was saved: a sentence without its beginning, the adapter; None where all is, or nothing is known."""
    stated = manifest["digest"]
    if "tensors" in stated and stated["tensors"] != (found := of_file(tensors)):
        return f"holds a damaged or exchanged {tensors.name}: its digest is {found[:15]}… and adapter.json was written beside one of {stated['tensors'][:15]}…"
    if "meaning" in stated and stated["meaning"] != of_fields(manifest):
        return f"holds an adapter.json whose {', '.join(BOUND)} are not those that its tensors were saved with"
    return None
