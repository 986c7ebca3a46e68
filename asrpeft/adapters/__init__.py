"""An adapter as a thing: attach, route rows, merge, save, load, inspect."""

from asrpeft.adapters.adapter import Adapter, Manifest
from asrpeft.adapters.container import Adapters
from asrpeft.adapters.routing import Route

__all__ = ["Adapter", "Adapters", "Manifest", "Route"]
