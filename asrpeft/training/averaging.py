"""Averages of an adapter's weights: what is evaluated, chosen and kept, while the steps go on from the plain ones.

    none       the weights of the step itself
    ema=d      w̄ ← d_t · w̄ + (1 − d_t) · w after every step        d_t = min(d, (1 + t) / (10 + t)): young averages forget faster
    last=n     the mean of the weights at this and the n − 1 evaluations before it

A low learning rate at the end does much of the same; averages pay where the rate is constant, the data are few and the
evaluations jump. Factors of a product are averaged as they stand, each by itself.

Source: Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046 (averages); Szegedy et al., 2016,
https://arxiv.org/abs/1512.00567 (of training's weights, exponentially); Izmailov et al., 2018, https://arxiv.org/abs/1803.05407 (equal shares).
"""

from __future__ import annotations

from dataclasses import dataclass

from asrpeft.errors import BadInput

EMA, LAST = 0.99, 4  # where no number is given
MOST = 100  # sets of weights kept for last=n


@dataclass(frozen=True)
class Averaging:
    """How weights are averaged: `kind` is `none`, `ema` (with `decay`) or `last` (with `count`)."""

    kind: str = "none"
    decay: float = EMA
    count: int = LAST

    @classmethod
    def parse(cls, text: str) -> Averaging:
        """`none`, `ema`, `ema=0.995`, `last`, `last=5`.

        Raises: BadInput for anything else.
        """
        kind, equals, value = (part.strip() for part in text.partition("="))
        try:
            if kind == "none" and not equals:
                return cls()
            if kind == "ema" and 0 < (decay := float(value) if equals else EMA) < 1:
                return cls("ema", decay=decay)
            if kind == "last" and 2 <= (count := int(value) if equals else LAST) <= MOST:
                return cls("last", count=count)
        except ValueError:
            pass
        raise BadInput(f"--average {text!r}: write none, ema, ema=0.995 (a decay between 0 and 1), last or last=5 (2 to {MOST} evaluations).")
