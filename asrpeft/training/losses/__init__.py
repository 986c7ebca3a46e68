"""Losses, by name, one file each. Each is a sum over targets (tokens, characters), so that a step is normalized once, over all it holds.

    loss = Σ_terms weight · Σ_rows wᵣ · sumᵣ / count      count: of targets, over every batch and process of the optimizer step

wᵣ is the row's own weight (the column `loss_weight`; 1 unless told). Targets are counted without it, so that a row of weight 0.5 pulls half as hard
as one of weight 1 in whatever step it is, also among rows that all weigh 0.5.

A term is a class with `count`, `total` and a weight beside others, in a file of this folder; `register` makes its name usable in
`--loss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from asrpeft.adapters import Adapter
from asrpeft.errors import BadInput
from asrpeft.recognizer import Output
from asrpeft.registry import Registry
from asrpeft.training.batch import Batch

if TYPE_CHECKING:
    from asrpeft.training.candidates import Candidates


class Term:
    """One part of a loss.

    Attributes:
        weight: beside other terms, unless `--loss` gives another; a term alone has weight 1.
        needs_decoder, needs_head: what must be computed, and whether the adapter must have a CTC head.
        needs_candidates: whether it compares with what else could be written (`batch.candidates`, see `asrpeft.training.candidates`).
        weighs: `total` multiplies each row's part by `batch.weights` itself. For other terms rows of one weight are computed by themselves.
    """

    name: ClassVar[str] = ""
    weight: ClassVar[float] = 1.0
    needs_decoder: ClassVar[bool] = False
    needs_head: ClassVar[bool] = False
    needs_candidates: ClassVar[bool] = False
    weighs: ClassVar[bool] = False

    def __init__(self, label_smoothing: float = 0.0):
        """Make the term.

        Args: label_smoothing: what `--label-smoothing` says, for those that have a use for it.
        """

    def count(self, batch: Batch, adapter: Adapter) -> int:
        """How many targets the batch has."""
        raise NotImplementedError

    def total(self, output: Output, batch: Batch, adapter: Adapter) -> Tensor:
        """The sum over the batch's targets, a float32 scalar."""
        raise NotImplementedError

    def dropped(self, batch: Batch, adapter: Adapter) -> int:
        """Rows that have no target here because theirs does not fit."""
        return 0


LOSSES: Registry[type[Term]] = Registry("loss", __name__, plural="losses", more="They stand alone or as in ce+0.3*ctc.")
register = LOSSES.register


def names() -> list[str]:
    """The registered terms, in alphabetical order."""
    return list(LOSSES)


@dataclass(frozen=True)
class Loss:
    """Terms with their weights."""

    text: str
    terms: tuple[tuple[float, Term], ...]

    @property
    def needs_decoder(self) -> bool:
        return any(term.needs_decoder for _, term in self.terms)

    @property
    def needs_head(self) -> bool:
        return any(term.needs_head for _, term in self.terms)

    @property
    def needs_candidates(self) -> bool:
        return any(term.needs_candidates for _, term in self.terms)

    def plain(self) -> Loss:
        """The same without the terms that compare with other texts; cross-entropy where there are no others. For passes from which a method's
        start is made, which read every layer once a batch."""
        kept = tuple(one for one in self.terms if not one[1].needs_candidates)
        return self if len(kept) == len(self.terms) else Loss(self.text, kept or ((1.0, LOSSES["ce"]()),))

    def counts(self, batches: Sequence[Batch], adapter: Adapter) -> list[int]:
        """The number of targets, term by term."""
        return [sum(term.count(batch, adapter) for batch in batches) for _, term in self.terms]

    def value(self, output: Output, batch: Batch, adapter: Adapter, counts: Sequence[float]) -> Tensor:
        """This batch's part of the step's loss, where `counts` are those of the whole step."""
        parts = [weight * _weighted(term, output, batch, adapter) / n for (weight, term), n in zip(self.terms, counts) if n]
        return torch.stack(parts).sum()

    def dropped(self, batch: Batch, adapter: Adapter) -> int:
        return sum(term.dropped(batch, adapter) for _, term in self.terms)


def unlikelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """−log(1 − p) of one token in each row.

    Args:    logits: (rows, vocabulary). tokens: (rows, 1).
    Returns: (rows,)
    """
    # without the difference, which has no digits left where p is near one
    return logits.logsumexp(dim=1) - logits.scatter(1, tokens, -torch.inf).logsumexp(dim=1)


def _weighted(term: Term, output: Output, batch: Batch, adapter: Adapter) -> Tensor:
    """The sum over the batch's targets, each row's times its weight."""
    if not batch.weights or term.weighs:
        return term.total(output, batch, adapter)
    parts = []
    for weight in sorted(set(batch.weights)):
        rows = [row for row, own in enumerate(batch.weights) if own == weight]
        parts.append(weight * term.total(_of(output, rows), _only(batch, rows), adapter))
    return torch.stack(parts).sum()


def _only(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows of a batch, as far as a loss looks at it."""
    index = torch.tensor(rows, device=batch.labels.device)
    told: dict[str, Any] = {name: tuple(getattr(batch, name)[i] for i in rows) if getattr(batch, name) else () for name in ("ids", "texts", "facts")}
    cut = {name: getattr(batch, name)[index] for name in ("frames", "speech", "tokens", "labels")}
    candidates = None if batch.candidates is None else _those_of(batch.candidates, rows)
    return replace(batch, **told, **cut, features=batch.features[:0], keys=(), states=(), weights=(), hypotheses=(), candidates=candidates)


def _those_of(found: Candidates, rows: Sequence[int]) -> Candidates:
    """The hypotheses of some rows."""
    place = {row: i for i, row in enumerate(rows)}
    chosen = [(i, place[owner]) for i, owner in enumerate(found.owners.tolist()) if owner in place]
    index = torch.tensor([i for i, _ in chosen], device=found.owners.device, dtype=torch.long)
    cut = {name: getattr(found, name)[index] for name in ("places", "labels", "mistaken", "wrong", "errors")}
    owners = torch.tensor([owner for _, owner in chosen], device=found.owners.device, dtype=torch.long)
    return replace(found, **cut, owners=owners, output=_of(found.output, index.tolist()))


def _of(output: Output, rows: Sequence[int]) -> Output:
    index = torch.tensor(rows, device=output.encoded.states.device)
    hidden, made = (None if part is None else part[index] for part in (output.hidden, output.made))
    return replace(output, encoded=output.encoded.take(index), hidden=hidden, made=made)


def parse(text: str, *, label_smoothing: float = 0.0) -> Loss:
    """`ce+0.3*ctc` → the loss.

    Raises: BadInput for an unknown term or a weight that is none.
    """
    found: list[tuple[float | None, Term]] = []
    for part in text.replace(" ", "").split("+"):
        weight, star, name = part.rpartition("*")
        if name not in LOSSES:
            raise BadInput(f"--loss {text!r}: {LOSSES.unknown(name)}")
        try:
            value = float(weight) if star else None
        except ValueError:
            value = 0.0
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"--loss {text!r}: {weight!r} is no weight; give a number above 0, as in ce+0.3*ctc.")
        found.append((value, LOSSES[name](label_smoothing)))
    terms = [(w if w is not None else 1.0 if len(found) == 1 else term.weight, term) for w, term in found]
    return Loss(text, tuple(terms))
