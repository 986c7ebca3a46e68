"""What each method's file says of itself: title, equation, paper, settings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from asrpeft.methods.base import method
from asrpeft.methods.settings import settings_of


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
