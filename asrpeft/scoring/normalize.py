"""Text normalizers by name and version: what counts as the same word is a choice, and it is part of the result.

    normalizer("marks")                          the default: case and punctuation go, combining marks stay
    normalizer("marks+numbers")                  steps joined by `+` run from left to right
    normalizer("marks+map:orthography.tsv")      what follows `:` is the step's argument

A step is one small class in `rules/`, registered under its name. Changing what a step does to any text changes
its `version`, so that two scores with the same label (`marks@1`) were made with the same rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import regex

from asrpeft.errors import BadInput
from asrpeft.registry import Registry

DEFAULT = "marks"


class Step(ABC):
    """One rule of writing: str → str. `argument` is what the name had after a colon, or None."""

    name: ClassVar[str]
    about: ClassVar[str]
    argument_help: ClassVar[str | None] = None  # None: the step takes no argument
    argument_needed: ClassVar[bool] = False
    version: str = "1"

    def __init__(self, argument: str | None = None):
        self.argument = argument

    @abstractmethod
    def __call__(self, text: str) -> str: ...

    def damage(self, texts: Sequence[str]) -> tuple[str, ...]:
        """What this step is known to spoil in these texts, in words for the user; empty when it is safe on them."""
        return ()


STEPS: Registry[type[Step]] = Registry("normalizer", "asrpeft.scoring.rules", more="Join them with +, as marks+numbers.")
register = STEPS.register


@dataclass(frozen=True)
class Normalizer:
    """Steps run from left to right. Call it on a text; `label` (name@version) belongs beside every score."""

    name: str
    steps: tuple[Step, ...]

    def __call__(self, text: str) -> str:
        for step in self.steps:
            text = step(text)
        return " ".join(text.split())

    @property
    def version(self) -> str:
        return "+".join(step.version for step in self.steps)

    @property
    def label(self) -> str:
        return "+".join(f"{step.name}@{step.version}" for step in self.steps)

    def damage(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Warnings, in words, for steps that are known to spoil texts like these."""
        return tuple(warning for step in self.steps for warning in step.damage(texts))


def normalizer(name: str | Normalizer = DEFAULT) -> Normalizer:
    """The normalizer of that name.

    Args:    name: a step (`none`, `marks`, `split`, `whisper-basic`, …), or several joined by `+`, each with an
             argument after `:` where it takes one, e.g. `marks+numbers:en` or `map:spelling.tsv+marks`.
    Raises:  BadInput for an unknown step, a missing or superfluous argument, or a mapping file that cannot be read.
    """
    if isinstance(name, Normalizer):
        return name
    known = normalizers()
    either = "|".join(regex.escape(step) for step in known)
    steps = []
    for part in regex.split(rf"\+(?=(?:{either})(?:[:+]|$))", name):
        step, colon, argument = part.partition(":")
        if step not in known:
            raise BadInput(STEPS.unknown(step))
        kind = known[step]
        if colon and kind.argument_help is None:
            raise BadInput(f"normalizer {step} takes no argument, and {argument!r} was given. Write just {step}.")
        if kind.argument_needed and not argument:
            raise BadInput(f"normalizer {step} needs {kind.argument_help}. Write {step}:{str(kind.argument_help).split()[0]}.")
        steps.append(kind(argument or None))
    return Normalizer(name, tuple(steps))


def normalizers() -> dict[str, type[Step]]:
    """Every step by name; `about` says in a line what it does."""
    return dict(STEPS)
