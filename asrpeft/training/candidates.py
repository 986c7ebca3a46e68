"""What else could be written: the hypotheses that some losses hold against the transcript, found anew in every step.

    for each row:  n-best list of a beam search by the adapter as it is now, on the very states that the loss is computed from
                   → each hypothesis read under teacher forcing, with gradient, beside the transcript

A list made once, by the base, would be of mistakes that the adapter no longer makes after its first hundred steps, and cost a pass over the
corpus, room in every checkpoint and a rule for when to make it anew. Found in the step it is always what the adapter would write now, and
a function of the row and the weights alone: an interrupted run finds the same lists again, and nothing has to be kept. The price is a beam
search in every step, without a second encoder pass.

Source of the search: minimum-WER training as in https://arxiv.org/abs/1712.01818, section 3.2 (n-best lists of the model in training).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from asrpeft.decoding.beam import n_best
from asrpeft.decoding.start import as_route, names_of
from asrpeft.errors import BadInput
from asrpeft.methods.plan import collected
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import IGNORED, Encoded, Output, Recognizer
from asrpeft.spaceless import spaceless

if TYPE_CHECKING:
    from asrpeft.training.batch import Batch
    from asrpeft.training.losses import Loss

ROOM = 10  # tokens that a hypothesis may have beyond twice the transcript's: what runs on is cut, and counts as that far wrong
Names = Sequence[str | None] | str | None


@dataclass(frozen=True)
class Candidates:
    """Hypotheses of a batch's rows, and what the recognizer makes of them.

    Attributes:
        owners: (hypotheses,) the row of each, in ascending order.
        places: (hypotheses,) its place in its row's list.
        most: how many a row may have.
        labels: (hypotheses, n) the token wanted after each input, or IGNORED.
        mistaken: (hypotheses, n) where a label is not what the transcript has there.
        wrong: (hypotheses,) whether it says anything else than the transcript.
        errors: (hypotheses,) float32, its word errors (characters, in scripts without spaces).
        output: what the recognizer gives for them, with gradient.
    """

    owners: Tensor
    places: Tensor
    most: int
    labels: Tensor
    mistaken: Tensor
    wrong: Tensor
    errors: Tensor
    output: Output

    def logprobs(self) -> tuple[Tensor, Tensor]:
        """(log-probability of each hypothesis, its number of tokens), both (hypotheses,) float32."""
        return sequence_logprobs(self.output, self.labels)

    def by_row(self, values: Tensor, rows: int, *, fill: float, kept: Tensor | None = None) -> Tensor:
        """(rows, most): values (hypotheses,) of each row side by side; `fill` where there is none, or it is not `kept`."""
        chosen = torch.ones_like(self.wrong) if kept is None else kept
        table = values.new_full((rows, self.most), fill)
        return table.index_put((self.owners[chosen], self.places[chosen]), values[chosen])


def of(batch: Batch) -> Candidates:
    """The candidates of a batch that `computed` gave.

    Raises: BadInput where it was computed without.
    """
    if batch.candidates is None:
        raise BadInput("This loss compares hypotheses: compute the batch with asrpeft.training.candidates.computed.")
    return batch.candidates


def sequence_logprobs(output: Output, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(log-probability of the labels of each row, their number), both (rows,) float32."""
    kept = labels != IGNORED
    losses = output.token_losses(labels)
    return -losses.new_zeros(len(labels)).index_add(0, kept.nonzero()[:, 0], losses), kept.sum(dim=1).float()


def computed(recognizer: Recognizer, batch: Batch, loss: Loss, *, route: Names, encoded: Encoded | None = None, beams: int) -> tuple[Output, Batch]:
    """One training pass: what the recognizer gives for a batch, as far as a loss needs it; and the batch, with candidates where the loss compares.

    Args:
        route: which adapter each row uses.
        encoded: the encoder's states, where they are known.
        beams: of the search for hypotheses, at most as many as which a row then has.
    """
    tokens = batch.tokens if loss.needs_decoder else None
    if not loss.needs_candidates:
        return recognizer(batch.features, batch.frames, tokens, route=route, encoded=encoded), batch
    if encoded is None:
        with recognizer.route(route):
            encoded = recognizer.encode(batch.features, batch.frames)
    output = recognizer(batch.features, batch.frames, tokens, route=route, encoded=encoded)
    written = batch.hypotheses or searched(recognizer, batch, encoded, route, beams)
    with collected():  # what the method adds to the loss is counted once a row
        candidates = _read(recognizer, batch, encoded, route, written)
    return output, replace(batch, candidates=candidates)


def guessed(batch: Batch, beams: int) -> Batch:
    """The batch with its transcripts as hypotheses: as costly as any that a search finds, for a trial of what fits in memory."""
    return replace(batch, hypotheses=tuple((_transcript(batch, row),) * beams for row in range(len(batch))))


def searched(recognizer: Recognizer, batch: Batch, encoded: Encoded, route: Names, beams: int) -> list[list[tuple[int, ...]]]:
    """The n-best list of each row: what follows its prompt, with the end token where it came.

    In float32 and without dropout, whatever the pass is computed in: lists are found, not learned from.
    """
    states = replace(encoded, states=encoded.states.detach())
    names = names_of(as_route(route, len(batch)), len(batch))
    found: dict[int, list[tuple[int, ...]]] = {}
    groups: dict[int, list[int]] = {}
    for row, first in enumerate(_first_targets(batch.labels)):
        groups.setdefault(first, []).append(row)
    device = encoded.states.device
    with _as_in_evaluation(recognizer, names), torch.autocast(device.type, enabled=False), collected():
        for first, rows in sorted(groups.items()):  # a search takes rows whose prompts have one length
            lists = n_best(
                recognizer,
                states.take(torch.tensor(rows, device=device)),
                [batch.tokens[row, : first + 1].tolist() for row in rows],
                adapters=[names[row] for row in rows],
                options=DecodingOptions(beams=beams),
                limits=[2 * len(_transcript(batch, row)) + ROOM for row in rows],
            )
            for row, some in zip(rows, lists):
                ended = [(*one.tokens, recognizer.end) if one.finished else one.tokens for one in some]
                found[row] = [one for one in ended if one]
    return [found[row] for row in range(len(batch))]


def _read(recognizer: Recognizer, batch: Batch, encoded: Encoded, route: Names, written: Sequence[Sequence[tuple[int, ...]]]) -> Candidates:
    """The hypotheses of every row under teacher forcing."""
    device, first = batch.tokens.device, _first_targets(batch.labels)
    owners = [row for row, some in enumerate(written) for _ in some]
    places = [place for some in written for place in range(len(some))]
    inputs: list[list[int]] = []
    labels: list[list[int]] = []
    mistakes: list[list[bool]] = []
    judged: list[tuple[bool, float]] = []
    for row, some in enumerate(written):
        prompt, wanted = batch.tokens[row, : first[row] + 1].tolist(), _transcript(batch, row)
        for one in some:
            inputs.append([*prompt, *one[:-1]])
            labels.append([IGNORED] * (len(prompt) - 1) + list(one))
            mistakes.append([False] * (len(prompt) - 1) + mistaken(wanted, one))
            judged.append(_judged(recognizer, wanted, one))
    n = max(map(len, inputs))
    index = torch.tensor(owners, device=device)
    names = names_of(as_route(route, len(batch)), len(batch))
    output = recognizer(
        batch.features[:0],
        encoded.frames[index],
        torch.tensor([one + [recognizer.end] * (n - len(one)) for one in inputs], device=device),
        route=[names[row] for row in owners],
        encoded=encoded.take(index),
    )
    return Candidates(
        owners=index,
        places=torch.tensor(places, device=device),
        most=max(map(len, written)),
        labels=torch.tensor([one + [IGNORED] * (n - len(one)) for one in labels], device=device),
        mistaken=torch.tensor([one + [False] * (n - len(one)) for one in mistakes], device=device),
        wrong=torch.tensor([wrong for wrong, _ in judged], device=device),
        errors=torch.tensor([errors for _, errors in judged], device=device),
        output=output,
    )


def mistaken(wanted: Sequence[int], written: Sequence[int]) -> list[bool]:
    """Which tokens of a hypothesis are not what the transcript has there: those that were exchanged or put in, and those that were written where
    something was left out."""
    found = [False] * len(written)
    for edit in Levenshtein.opcodes(wanted, written):
        if edit.tag in ("replace", "insert"):
            found[edit.dest_start : edit.dest_end] = [True] * (edit.dest_end - edit.dest_start)
        elif edit.tag == "delete" and edit.dest_start < len(written):
            found[edit.dest_start] = True
    return found


def _judged(recognizer: Recognizer, wanted: Sequence[int], written: Sequence[int]) -> tuple[bool, float]:
    """(whether a hypothesis says anything else than the transcript, its word errors)."""
    right, said = (recognizer.decode_text(tokens) for tokens in (wanted, written))
    words = [list("".join(text.split())) if spaceless(right) else text.split() for text in (right, said)]
    return words[0] != words[1], float(Levenshtein.distance(*words))


def _transcript(batch: Batch, row: int) -> tuple[int, ...]:
    """The targets of a row: its text, and the end."""
    labels = batch.labels[row]
    return tuple(labels[labels != IGNORED].tolist())


def _first_targets(labels: Tensor) -> list[int]:
    """Of each row, the place of its first target: that of the prompt's last token."""
    return (labels != IGNORED).int().argmax(dim=1).tolist()


@contextmanager
def _as_in_evaluation(recognizer: Recognizer, names: Sequence[str | None]) -> Iterator[None]:
    """Within the block nothing is random, and ΔW is made once."""
    modules: list[nn.Module] = [recognizer.base, *(part for name in dict.fromkeys(names) if name is not None for part in recognizer.adapters.parts(name))]
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, before):
            module.train(training)
