"""What a base is called by: a folder that is there, or a model of the Hugging Face hub; and what to say of neither."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from asrpeft.errors import BadInput

_HUB = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]|.*\\|.*/.*/|.*/$", re.DOTALL)
SIZES = ("tiny", "base", "small", "medium", "large", "turbo")


def check_name(model: str | Path) -> str:
    """The same, `~` being the home. Raises: BadInput for what is neither a checkpoint's folder nor a name on the hub."""
    name = str(Path(model).expanduser()) if str(model).startswith("~") else str(model)
    place = Path(name)
    if _exists(place):
        if place.is_file():
            raise BadInput(f"{name!r} is a file; --model takes the folder of a Whisper checkpoint, which holds config.json and the weights.")
        if (place / "adapter.json").is_file() or (place / "adapter_config.json").is_file():
            raise BadInput(f"{name!r} is an adapter, with no config.json of a base. Give it with --adapter, and its base with --model.")
        if not (place / "config.json").is_file():
            raise BadInput(f"{name!r} has no config.json, so it is not a Whisper checkpoint folder. An adapter is given with --adapter, its base with --model.")
        return name
    hub = "A model of the Hugging Face hub is named OWNER/NAME, such as openai/whisper-small."
    if _PATH.match(name):
        raise BadInput(f"There is no folder {name!r}.{_near(place)} {hub}")
    if not _HUB.fullmatch(name):
        size = next((size for size in SIZES if size in name.lower()), None)
        meant = f" Did you mean openai/whisper-{size}?" if size else ""
        raise BadInput(f"There is no folder {name!r} here.{_near(place)} {hub}{meant}")
    return name


def not_loaded(model: str, reason: str) -> str:
    """What to say where `transformers` gave up: of a folder, or of a name that no folder here has."""
    if _exists(Path(model)):
        return f"{model!r} cannot be loaded as a Whisper model: {reason}"
    return f"There is no folder {model!r} here.{_near(Path(model))} As a model of the Hugging Face hub it cannot be loaded: {reason}"


def _near(place: Path) -> str:
    """A folder beside the one that is not there whose name is nearly the same."""
    try:
        beside = [one.name for one in place.parent.iterdir() if one.is_dir()]
    except (OSError, ValueError):
        return ""
    near = get_close_matches(place.name, beside, 1)
    return f" Did you mean {str(place.parent / near[0])!r}?" if near else ""


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL in it, is of no folder
        return False
