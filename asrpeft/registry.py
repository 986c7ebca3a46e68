"""Things known by a name: methods, streaming policies, losses, normalizers, formats. Each is a file of one package; a new file is found.

    METHODS: Registry[type[LayerAdapter]] = Registry("method", "asrpeft.methods", more="`asrpeft methods NAME` describes one.")

    @METHODS.register("lora")           in a file of that package; the class is given the name as its attribute `name`
    METHODS.find("lora")                the class; for a name that nobody has, an error with what is near it and what there is
    METHODS                             a mapping from names, in alphabetical order

The package is walked once a process, when something is first asked for: importing it costs nothing, and a file may import the
package that holds its registry.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from asrpeft.errors import BadInput

T = TypeVar("T")
Item = TypeVar("Item")


class Registry(Mapping[str, T], Generic[T]):
    """Names of one kind, and what they name.

    Args:
        kind: what they are, as a person says it: `method`, `streaming policy`.
        package: the dotted name of the package whose files register them, or None where all do so before anyone asks.
        plural: of `kind`, where it is not `kind` with an s.
        more: a sentence at the end of the error for an unknown name: where to read on, how to write it.
    """

    def __init__(self, kind: str, package: str | None, *, plural: str | None = None, more: str = ""):
        self.kind, self.package, self.plural, self.more = kind, package, plural or f"{kind}s", more
        self._items: dict[str, T] = {}
        self._origins: dict[str, str] = {}
        self._loaded, self._loading = package is None, threading.RLock()

    # -- how things get in -------------------------------------------------------------------------------------------------
    def register(self, name: str) -> Callable[[Item], Item]:
        """Make the decorated class or function known as `name`; a class gets it as its attribute `name` too.

        Raises: ValueError where another one has that name. (The same one again, as a notebook's cell gives it, replaces itself.)
        """

        def keep(item: Any) -> Any:
            self.add(name, item, by=item)
            if isinstance(item, type):
                item.name = name  # type: ignore[attr-defined]
            return item

        return keep

    def add(self, name: str, item: T, *, by: Any) -> None:
        """Make `item` known as `name`.

        Args:   by: the class or function that it comes from: who gives a name again, from the same place, replaces what it gave.
        Raises: ValueError where something from another place has that name.
        """
        origin = f"{by.__module__}.{by.__qualname__}"
        taken = self._origins.get(name)
        if taken is not None and taken != origin:
            raise ValueError(f"{name!r} is {taken} already: {origin} needs another name.")
        self._items[name], self._origins[name] = item, origin

    def forget(self, name: str) -> None:
        """Let `name` be free again: for tests, and notebooks that try things out."""
        del self._items[name], self._origins[name]

    # -- how they are found ------------------------------------------------------------------------------------------------
    def find(self, name: str) -> T:
        """What is registered as `name`.

        Raises: BadInput, with the names that are near it and all that there are.
        """
        found = self._all().get(name)
        if found is None:
            raise BadInput(self.unknown(name))
        return found

    def unknown(self, name: str) -> str:
        """What is said of a name that nobody has."""
        there = ", ".join(self)
        parts = [f"There is no {self.kind} {name!r}.", did_you_mean(name, self), f"The {self.plural} are {there}.", self.more]
        return " ".join(part for part in parts if part)

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"<{self.plural}: {', '.join(self)}>"

    def _all(self) -> dict[str, T]:
        """Everything, after the files of the package have been imported, once."""
        if not self._loaded:
            with self._loading:  # two threads of a server may ask at once
                if not self._loaded and self.package is not None:
                    package, self.package = self.package, None  # a file that asks while it is imported sees what is there so far
                    try:
                        _import_all(package)
                        self._loaded = True
                    finally:
                        self.package = package
        return self._items


def _import_all(package: str) -> None:
    """Import every file below a package."""
    root = importlib.import_module(package)
    for module in sorted(pkgutil.walk_packages(root.__path__, f"{package}."), key=lambda module: module.name):
        importlib.import_module(module.name)


def did_you_mean(name: str, among: Iterable[str], *, most: int = 1, quoted: bool = True) -> str:
    """A question that names what is near, such as `Did you mean 'lora'?`; nothing where nothing is."""
    near = get_close_matches(name, list(among), most)
    return f"Did you mean {', '.join(map(repr, near) if quoted else near)}?" if near else ""
