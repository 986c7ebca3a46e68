"""A character CTC head on the encoder's states; a base may ship one, and an adapter may train its own.

    log p(c | frame) = log_softmax(W h + b)      h (frames, dim)      W (characters, dim), blank first

Source: Graves et al., 2006, https://doi.org/10.1145/1143844.1143891.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BLANK = "<blank>"
SPACE = " "


class CTCHead(nn.Module):
    """`vocabulary[0]` is the blank; the others are single characters, the space among them."""

    def __init__(self, dim: int, vocabulary: Sequence[str]):
        super().__init__()
        self.vocabulary = list(vocabulary)
        self.index = {c: i for i, c in enumerate(self.vocabulary)}
        self.weight = nn.Parameter(torch.zeros(len(self.vocabulary), dim))
        self.bias = nn.Parameter(torch.zeros(len(self.vocabulary)))
        nn.init.normal_(self.weight, std=dim**-0.5)

    @classmethod
    def for_texts(cls, dim: int, texts: Sequence[str], *, like: CTCHead | None = None) -> CTCHead:
        """A head for the characters of `texts`, starting from the rows that `like` has for them."""
        characters = sorted({c for text in texts for c in unicodedata.normalize("NFC", text)} | {SPACE})
        head = cls(dim, [BLANK, *characters])
        if like is not None:
            with torch.no_grad():
                for i, c in enumerate(head.vocabulary):
                    if c in like.index:
                        head.weight[i], head.bias[i] = like.weight[like.index[c]], like.bias[like.index[c]]
        return head

    def forward(self, states: Tensor) -> Tensor:
        """states (rows, frames, dim) → log-probabilities (rows, frames, characters), in float32: sums of logs over hundreds
        of frames lose whole units in half precision."""
        with torch.autocast(states.device.type, enabled=False):
            logits = nn.functional.linear(states.float(), self.weight.float(), self.bias.float())
            return logits.log_softmax(-1)

    def labels(self, text: str) -> list[int]:
        """The text's characters as indices; characters that the head does not know are left out."""
        return [self.index[c] for c in unicodedata.normalize("NFC", text) if c in self.index]

    def spell(self, labels: Sequence[int]) -> str:
        """The characters of labels, as they are."""
        return "".join(self.vocabulary[i] for i in labels)

    def text(self, best: Sequence[int]) -> str:
        """The text of a best path: repeats joined, blanks dropped."""
        kept = [i for n, i in enumerate(best) if i != 0 and (n == 0 or best[n - 1] != i)]
        return "".join(self.vocabulary[i] for i in kept).strip()


def frames_needed(labels: Sequence[int]) -> int:
    """The fewest frames on which CTC can place `labels`: one each, and a blank between equal neighbors."""
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:]))
