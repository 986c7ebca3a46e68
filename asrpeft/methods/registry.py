"""The registry: what methods there are, and what each one's file says of itself."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asrpeft.errors import BadInput
from asrpeft.methods.settings import settings_of

if TYPE_CHECKING:
    from asrpeft.methods.base import LayerAdapter

_REGISTRY: dict[str, type[LayerAdapter]] = {}


def register(name: str) -> Callable[[type[LayerAdapter]], type[LayerAdapter]]:
    """Make a `LayerAdapter` class known as `name`: to `adapt`, the command line, the listing and the common tests.

    Raises: ValueError where another class has that name. (The same class again, as a notebook's cell gives it, replaces itself.)
    """

    def add(cls: type[LayerAdapter]) -> type[LayerAdapter]:
        there = _REGISTRY.get(name)
        if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{name!r} is {there.__module__}.{there.__qualname__} already: {cls.__module__}.{cls.__qualname__} needs another name.")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return add


@functools.cache
def _load_all() -> None:
    """Import every file below `asrpeft.methods`, once a process."""
    import asrpeft.methods as package

    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


def names() -> list[str]:
    """The registered methods, in alphabetical order."""
    _load_all()
    return sorted(_REGISTRY)


def method(name: str) -> type[LayerAdapter]:
    """The class registered as `name`.

    Raises: BadInput, naming the methods there are.
    """
    _load_all()
    found = _REGISTRY.get(name)
    if found is None:
        raise BadInput(f"There is no method {name!r}. The methods are {', '.join(names())}; `asrpeft methods NAME` describes one.")
    return found


@dataclasses.dataclass(frozen=True)
class Description:
    """What a method's file says of itself."""

    name: str
    title: str
    equation: str
    paper: str
    mergeable: bool
    kinds: tuple[str, ...]
    where: str
    settings: dict[str, Any]
    text: str


def describe(name: str) -> Description:
    """The description of a method, read from its file's docstring (or the class's own): title, links, the indented equation."""
    cls = method(name)
    written = getattr(inspect.getmodule(cls), "__doc__", None)
    # A file's docstring begins at the margin: `inspect.cleandoc` would take an equation that is all the rest for the margin.
    text = written.expandtabs().strip() if written else inspect.cleandoc(cls.__doc__ or "")
    lines = text.splitlines()
    equation = next((line.strip() for line in lines[1:] if line.startswith("    ")), "")
    links = re.findall(r"https?://[^\s),;]+", text)
    title, paper = lines[0] if lines else "", links[0].rstrip(".") if links else ""
    return Description(name, title, equation, paper, cls.mergeable, cls.kinds, cls.where, settings_of(cls), text)
