"""Methods for one test: registered while a block runs, and then unknown again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asrpeft.methods import METHODS, LayerAdapter, names, register


@contextmanager
def planted(cls: type[LayerAdapter], name: str = "planted") -> Iterator[type[LayerAdapter]]:
    names()  # all that are real are loaded
    register(name)(cls)
    try:
        yield cls
    finally:
        METHODS.forget(name)
