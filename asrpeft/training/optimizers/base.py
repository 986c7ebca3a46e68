"""What an optimizer's file gives: its name, its settings, and how it is made for groups of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from asrpeft.errors import BadInput
from asrpeft.methods.settings import configure, within
from asrpeft.registry import Registry

Groups = list[dict[str, Any]]  # each with `params`, `lr`, `peak` and `weight_decay`
OPTIMIZERS: Registry[type[Kind]] = Registry("optimizer", "asrpeft.training.optimizers", more="Settings follow after commas: --optimizer galore,rank=32.")
register = OPTIMIZERS.register


class Kind:
    """One optimizer. Its rates mean what AdamW's do, steps of about the rate for each number, unless it `needs_rate`."""

    name: ClassVar[str] = ""
    needs_rate: ClassVar[bool] = False  # no method's default rate fits: the user must say one

    @dataclass(frozen=True)
    class Config:
        """Its settings, all with defaults."""

    @classmethod
    def make(cls, groups: Groups, config: Any) -> torch.optim.Optimizer:
        """The optimizer of `groups`.

        Raises: BadInput where a package that it needs is not installed.
        """
        raise NotImplementedError


def betas(name: str, beta1: float, beta2: float) -> None:
    """Check the decay rates of both moments.

    Raises: BadInput unless both are in [0, 1).
    """
    within(name, 0, 1, beta1=beta1, beta2=beta2)


def parse(text: str) -> tuple[type[Kind], Any]:
    """`galore,rank=64` → the optimizer and its settings.

    Raises: BadInput for an unknown name, setting or value.
    """
    name, *rest = [part.strip() for part in text.split(",")]
    kind = OPTIMIZERS.find(name)
    settings = [part.partition("=") for part in rest if part]
    if bare := [key for key, equals, _ in settings if not equals]:
        raise BadInput(f"--optimizer {text!r}: {bare[0]!r} is no setting; write NAME=VALUE, as in galore,rank=32.")
    return kind, configure(kind, {key.strip(): value.strip() for key, _, value in settings})
