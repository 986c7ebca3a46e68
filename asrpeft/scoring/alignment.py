"""Which word became which: the alignment of a hypothesis to its reference, with the fewest edits.

`levenshtein` (the default) gives every edit the cost 1, by jiwer; the error count is then the smallest possible.
`sclite` gives a substitution 4 and an insertion or deletion 3, as NIST's tool does: it would rather delete and
insert than match two unlike words across a gap, and now and then counts one error more. Use it to compare with
published NIST scores.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import jiwer

AlignmentRule = Literal["levenshtein", "sclite"]
ALIGNMENTS: tuple[AlignmentRule, ...] = ("levenshtein", "sclite")
Kind = Literal["hit", "substitution", "deletion", "insertion"]
_KINDS: dict[str, Kind] = {"equal": "hit", "substitute": "substitution", "delete": "deletion", "insert": "insertion"}
_SUBSTITUTION, _GAP = 4, 3  # sclite's default costs


class Edit(NamedTuple):
    """One column of an alignment; the side that has no word there is None."""

    kind: Kind
    reference: str | None
    hypothesis: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of edits of one kind: reference words [i0, i1) against hypothesis words [j0, j1)."""

    kind: Kind
    i0: int
    i1: int
    j0: int
    j1: int

    def __len__(self) -> int:
        return max(self.i1 - self.i0, self.j1 - self.j0)


Alignment = tuple[Run, ...]


def align(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], *, rule: AlignmentRule = "levenshtein") -> list[Alignment]:
    """One alignment per pair of word lists; empty lists are allowed on either side."""
    wanted, heard = [list(words) for words in references], [list(words) for words in hypotheses]
    if rule == "sclite":
        return [_sclite(reference, hypothesis) for reference, hypothesis in zip(wanted, heard, strict=True)]
    if not wanted:
        return []
    unchanged: Any = lambda words: words  # noqa: E731 - these are words already, where jiwer's types ask for texts and a transform
    given = jiwer.process_words(cast(Any, wanted), cast(Any, heard), unchanged, unchanged)
    return [
        tuple(Run(_KINDS[chunk.type], chunk.ref_start_idx, chunk.ref_end_idx, chunk.hyp_start_idx, chunk.hyp_end_idx) for chunk in chunks)
        for chunks in given.alignments
    ]


def edits(alignment: Alignment, reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """The alignment word by word, in order."""
    return [
        Edit(
            run.kind,
            reference[run.i0 + k] if run.i1 > run.i0 else None,
            hypothesis[run.j0 + k] if run.j1 > run.j0 else None,
        )
        for run in alignment
        for k in range(len(run))
    ]


def _sclite(reference: list[str], hypothesis: list[str]) -> Alignment:
    """Cheapest path with NIST's costs; among equals a match or substitution first, then an insertion, then a
    deletion."""
    n, m = len(reference), len(hypothesis)
    cost = [array("i", (_GAP * j for j in range(m + 1)))]  # four bytes a cell: a lecture is one text now and then
    for i in range(1, n + 1):
        word, above, row = reference[i - 1], cost[-1], [_GAP * i]
        for j in range(1, m + 1):
            diagonal = above[j - 1] + (0 if word == hypothesis[j - 1] else _SUBSTITUTION)
            row.append(min(diagonal, row[-1] + _GAP, above[j] + _GAP))
        cost.append(array("i", row))
    runs: list[Run] = []
    i, j = n, m
    kind: Kind
    while i or j:
        same = i and j and reference[i - 1] == hypothesis[j - 1]
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (0 if same else _SUBSTITUTION):
            kind, di, dj = ("hit" if same else "substitution"), 1, 1
        elif j and cost[i][j] == cost[i][j - 1] + _GAP:
            kind, di, dj = "insertion", 0, 1
        else:
            kind, di, dj = "deletion", 1, 0
        if runs and runs[-1].kind == kind:
            last = runs.pop()
            runs.append(Run(kind, i - di, last.i1, j - dj, last.j1))
        else:
            runs.append(Run(kind, i - di, i, j - dj, j))
        i, j = i - di, j - dj
    return tuple(reversed(runs))
