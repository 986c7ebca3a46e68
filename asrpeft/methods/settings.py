"""A method's settings: from text or JSON to a frozen `Config`, or a refusal that says what would work."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from asrpeft.errors import BadInput

_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def settings_of(cls: Any) -> dict[str, Any]:
    """The method's settings with their defaults."""
    return dict(vars(cls.Config()))


def configure(cls: Any, settings: Mapping[str, Any]) -> Any:
    """The method's frozen `Config` from `settings`, whose values may be text (as `--set rank=16` gives them).

    A setting is of the kind that its annotation says: `int`, `float`, `bool`, `str`, a tuple of these (`2,4`; a bare `tuple` is of
    names), a `dict[str, …]` of these (`q_proj:4,fc1:8`), or one of these and None (`none`).
    Raises: BadInput for a setting that the method does not have or a value that it cannot take.
    """
    known = {f.name for f in dataclasses.fields(cls.Config)}
    kinds = typing.get_type_hints(cls.Config)
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise BadInput(f"{cls.name} has no setting {key!r}. It has {', '.join(sorted(known)) or 'none'}.")
        values[key] = _convert(f"{cls.name}: {key}={value!r}", value, kinds[key])
    return cls.Config(**values)


def _convert(label: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`; `told` begins the message of what is refused."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):  # X | None
        absent = value is None or (isinstance(value, str) and value.lower() == "none")
        return None if absent else _convert(label, value, next(k for k in inner if k is not type(None)))
    if kind is tuple or origin is tuple:
        of = inner[0] if inner else str
        values = [v.strip() for v in value.split(",") if v.strip()] if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)):
            raise BadInput(f"{label} is not a list of {_PLURALS[of]}.")
        return tuple(_convert(label, v, of) for v in values)
    if origin is dict:
        return {str(k): _convert(label, v, inner[1]) for k, v in _pairs(label, value).items()}
    if kind is str:
        if not isinstance(value, str):
            raise BadInput(f"{label} is not a text.")
        return value
    if kind is bool:
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        if not isinstance(value, bool):
            raise BadInput(f"{label} is neither true nor false.")
        return value
    try:
        converted = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{label} is not {'a whole number' if kind is int else 'a number'}.") from None
    if kind is float and not math.isfinite(converted):
        raise BadInput(f"{label} is not a number to compute with.")
    if kind is int and not isinstance(value, str) and converted != value:
        raise BadInput(f"{label} is not a whole number.")
    return converted


_PLURALS = {str: "names", int: "whole numbers", float: "numbers", bool: "truth values"}


def _pairs(label: str, value: Any) -> dict[str, Any]:
    """`q_proj:4,fc1:8` as a dictionary."""
    if isinstance(value, str):
        try:
            value = (
                json.loads(value)
                if value.lstrip().startswith("{")
                else dict([part.strip() for part in pair.rsplit(":", 1)] for pair in value.split(",") if pair.strip())
            )
        except ValueError:
            pass
    if not isinstance(value, dict):
        raise BadInput(f"{label} is not a list of NAME:VALUE.")
    return value


def positive(name: str, **values: float) -> None:
    """Check that settings are above zero.

    Raises: BadInput unless every value is above zero and finite.
    """
    for key, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise BadInput(f"{name}: {key} must be a number above 0, got {value}.")


def one_of(name: str, choices: tuple[str, ...], **values: str) -> None:
    """Check that settings are among the choices.

    Raises: BadInput unless every value is one of `choices`.
    """
    for key, value in values.items():
        if value not in choices:
            listed = f"neither {choices[0]!r} nor {choices[1]!r}" if len(choices) == 2 else f"none of {', '.join(map(repr, choices))}"
            raise BadInput(f"{name}: {key}={value!r} is {listed}.")


def within(name: str, low: float, high: float, **values: float) -> None:
    """Check that settings lie in a range.

    Raises: BadInput unless every value is at least `low` and below `high`.
    """
    for key, value in values.items():
        if not low <= value < high:
            raise BadInput(f"{name}: {key}={value} is not in [{low:g}, {high:g}).")
