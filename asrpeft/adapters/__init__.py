"""An adapter as a thing: attach, route rows, merge, save, load, inspect.

The names are imported when first used: reading a saved adapter needs torch alone, not the recognizer's library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asrpeft.adapters.adapter import Adapter, Manifest
    from asrpeft.adapters.container import Adapters
    from asrpeft.adapters.routing import Conditioned, Route

_HOME = {"Adapter": "adapter", "Adapters": "container", "Conditioned": "routing", "Manifest": "adapter", "Route": "routing"}
__all__ = ["Adapter", "Adapters", "Conditioned", "Manifest", "Route"]


if not TYPE_CHECKING:  # else a misspelled name would pass every checker, as Any

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
