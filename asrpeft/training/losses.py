"""Losses, by name. Each is a sum over counts (tokens, characters), so that a step is normalized once, over all it holds.

    ce     Σ −log p(token | tokens before, speech)      on text and end tokens; the prompt is no target
    ctc    Σ −log p(characters | encoder states)        on each row's frames of speech, by the adapter's own head, in float32

    loss = Σ_terms weight · sum / counts      counts: over every batch and process of the optimizer step

A term is a class with `count`, `total` and a weight beside others; registering one makes its name usable in `--loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from asrpeft.adapters import Adapter
from asrpeft.adapters.ctc import frames_needed
from asrpeft.errors import BadInput
from asrpeft.recognizer import IGNORED, Output

if TYPE_CHECKING:
    from asrpeft.training.examples import Batch

_REGISTRY: dict[str, type[Term]] = {}


class Term:
    """One part of a loss.

    Attributes:
        weight: beside other terms, unless `--loss` gives another; a term alone has weight 1.
        needs_decoder, needs_head: what must be computed, and whether the adapter must have a CTC head.
    """

    name: ClassVar[str] = ""
    weight: ClassVar[float] = 1.0
    needs_decoder: ClassVar[bool] = False
    needs_head: ClassVar[bool] = False

    def count(self, batch: Batch, adapter: Adapter) -> int:
        """How many targets the batch has."""
        raise NotImplementedError

    def total(self, output: Output, batch: Batch, adapter: Adapter) -> Tensor:
        """The sum over the batch's targets, a float32 scalar."""
        raise NotImplementedError

    def dropped(self, batch: Batch, adapter: Adapter) -> int:
        """Rows that have no target here because theirs does not fit."""
        return 0


def register(name: str) -> Callable[[type[Term]], type[Term]]:
    def add(cls: type[Term]) -> type[Term]:
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return add


def names() -> list[str]:
    return sorted(_REGISTRY)


@register("ce")
class CrossEntropy(Term):
    needs_decoder = True

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def count(self, batch, adapter):
        return int((batch.labels != IGNORED).sum())

    def total(self, output, batch, adapter):
        kept = batch.labels != IGNORED  # before the cast: logits of prompt and padding are a third of them
        return F.cross_entropy(output.logits[kept].float(), batch.labels[kept], reduction="sum", label_smoothing=self.label_smoothing)


@register("ctc")
class CTC(Term):
    weight = 0.3
    needs_head = True

    def __init__(self, label_smoothing: float = 0.0):
        pass  # there is no smoothing of an alignment

    def _labels(self, batch: Batch, adapter: Adapter) -> list[list[int] | None]:
        """Each row's characters: all blanks where its text is empty; None where the head knows none of them, or they do not
        fit its frames, for which CTC would be infinite."""
        found = [adapter.ctc.labels(text) for text in batch.texts]
        return [
            labels if (labels or not text) and frames_needed(labels) <= frames else None
            for text, labels, frames in zip(batch.texts, found, batch.speech.tolist())
        ]

    def count(self, batch, adapter):
        return sum(len(labels or ()) for labels in self._labels(batch, adapter))

    def dropped(self, batch, adapter):
        return sum(labels is None for labels in self._labels(batch, adapter))

    def total(self, output, batch, adapter):
        labels = self._labels(batch, adapter)
        rows = [row for row, found in enumerate(labels) if found is not None]
        states = output.encoded.states
        if not rows:
            return adapter.ctc(states[:0]).sum()  # zero, with a gradient that other batches of the step can be added to
        log_probs = adapter.ctc(states[rows])
        targets = torch.tensor([character for row in rows for character in labels[row]], dtype=torch.long, device=states.device)
        lengths = torch.tensor([len(labels[row]) for row in rows])
        # float32 also under autocast: the sums run over hundreds of frames
        with torch.autocast(states.device.type, enabled=False):
            return F.ctc_loss(log_probs.transpose(0, 1), targets, batch.speech[rows], lengths.to(states.device), reduction="sum")


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

    def counts(self, batches: Sequence[Batch], adapter: Adapter) -> list[int]:
        """The number of targets, term by term."""
        return [sum(term.count(batch, adapter) for batch in batches) for _, term in self.terms]

    def value(self, output: Output, batch: Batch, adapter: Adapter, counts: Sequence[float]) -> Tensor:
        """This batch's part of the step's loss, where `counts` are those of the whole step."""
        parts = [weight * term.total(output, batch, adapter) / n for (weight, term), n in zip(self.terms, counts) if n]
        return torch.stack(parts).sum()

    def dropped(self, batch: Batch, adapter: Adapter) -> int:
        return sum(term.dropped(batch, adapter) for _, term in self.terms)


def parse(text: str, *, label_smoothing: float = 0.0) -> Loss:
    """`ce+0.3*ctc` → the loss.

    Raises: BadInput for an unknown term or a weight that is none.
    """
    found: list[tuple[float | None, Term]] = []
    for part in text.replace(" ", "").split("+"):
        weight, star, name = part.rpartition("*")
        if name not in _REGISTRY:
            raise BadInput(f"--loss {text!r}: there is no loss {name!r}; the losses are {', '.join(names())}, alone or as in ce+0.3*ctc.")
        try:
            value = float(weight) if star else None
        except ValueError:
            value = 0.0
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"--loss {text!r}: {weight!r} is no weight; give a number above 0, as in ce+0.3*ctc.")
        found.append((value, _REGISTRY[name](label_smoothing)))
    terms = [(w if w is not None else 1.0 if len(found) == 1 else term.weight, term) for w, term in found]
    return Loss(text, tuple(terms))
