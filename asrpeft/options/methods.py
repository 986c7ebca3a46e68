"""The methods of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from asrpeft.errors import BadInput
from asrpeft.options.adapter import AdapterOptions
from asrpeft.options.flag import Flag, PythonOnly


@dataclass(frozen=True)
class MethodsOptions:
    """The methods that are compared. Where each is trained once, `methods=["lora", "ia3"]` stands for it.

    Attributes:
        adapters: names, or `AdapterOptions` with settings and layers.
        seeds: by how many seeds each is trained, from the first on.
    """

    PANEL: ClassVar[str] = "The adapters"

    adapters: Annotated[Sequence[str | AdapterOptions], PythonOnly("the command line says names, settings and layers apart: --methods, --set, --where")] = ()
    seeds: Annotated[int, Flag("Train every method by so many seeds, from --seed on: rates are then means, and the tests know how much seeds differ.")] = 1

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise BadInput(f"--seeds {self.seeds}: every method is trained by one seed or more.")

    @classmethod
    def of(cls, methods: Sequence[str | AdapterOptions] | MethodsOptions) -> MethodsOptions:
        """Methods alone are trained once."""
        return methods if isinstance(methods, MethodsOptions) else cls(tuple(methods))

    def by_name(self) -> dict[str, AdapterOptions]:
        """Each method once.

        Raises: BadInput where there is none, or one is asked for in two ways.
        """
        found: dict[str, AdapterOptions] = {}
        for one in map(AdapterOptions.of, self.adapters):
            if found.setdefault(one.method, one) != one:
                raise BadInput(f"{one.method} is asked for in two ways. A comparison holds each method once.")
        if not found:
            raise BadInput("There is nothing to compare: name methods with --methods lora,ia3, or all.")
        return found
