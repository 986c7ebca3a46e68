"""Rules of decoding: small roles that forbid tokens before the next one is chosen.

A rule takes logits (rows, vocabulary) float32 and the tokens written so far (rows, n), and gives logits with −∞ where a
token may not follow. They act in Whisper's order: begin-suppress, suppress, timestamps.

Source: Radford et al., 2022, https://arxiv.org/abs/2212.04356, section 4.5, and its released decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from asrpeft.spaceless import spaceless

if TYPE_CHECKING:
    from asrpeft.recognizer import Recognizer

NEVER = float("-inf")


class Rule(Protocol):
    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """logits (rows, vocabulary), tokens (rows, n) after the prompt → logits; the input may be written to."""
        ...


@dataclass(frozen=True)
class Suppress:
    """Some tokens never appear: brackets, speaker marks, special tokens, as the base's generation config lists them."""

    tokens: tuple[int, ...]

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        logits[:, list(self.tokens)] = NEVER
        return logits


@dataclass(frozen=True)
class SuppressFirst:
    """Some tokens cannot come first, in the rows named (None: in all): a space or the end where nothing was said yet."""

    tokens: tuple[int, ...]
    rows: tuple[int, ...] | None = None

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        if tokens.shape[1] == 0:
            rows = range(len(logits)) if self.rows is None else self.rows
            logits[torch.tensor(rows, dtype=torch.long)[:, None], torch.tensor(self.tokens)] = NEVER
        return logits


@dataclass(frozen=True)
class Timestamps:
    """Timestamps come in pairs, never go back, start the transcript, and win where together they are likelier than any
    text.

    Attributes:
        no_timestamps: id of `<|notimestamps|>`; the timestamps follow it, 20 ms apart.
        end: id of the end token; all text is below it.
        latest_first: the first timestamp is at most so many steps (50: one second); None allows any.
    """

    no_timestamps: int
    end: int
    latest_first: int | None = None

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        begin, n = self.no_timestamps + 1, tokens.shape[1]
        logits[:, self.no_timestamps] = NEVER
        stamped = tokens >= begin
        last = stamped[:, -1] if n else torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        before = stamped[:, -2] if n > 1 else torch.ones_like(last)
        logits[:, begin:].masked_fill_((last & before)[:, None], NEVER)  # a pair is complete: text or the end follows
        logits[:, : self.end].masked_fill_((last & ~before)[:, None], NEVER)  # half a pair: no text
        if n:
            latest = torch.where(stamped, tokens, 0).amax(1)
            # The closing stamp of a segment may be repeated as the opening one of the next; no other is repeated.
            earliest = torch.where(last & ~before, latest, latest + 1).where(stamped.any(1), begin)
            ids = torch.arange(logits.shape[1], device=logits.device)
            logits.masked_fill_((ids >= begin) & (ids < earliest[:, None]), NEVER)
        else:
            logits[:, :begin] = NEVER
            if self.latest_first is not None:
                logits[:, begin + self.latest_first + 1 :] = NEVER
        logprobs = logits.log_softmax(-1)
        likelier = logprobs[:, begin:].logsumexp(-1) > logprobs[:, :begin].amax(-1)
        logits[:, :begin].masked_fill_(likelier[:, None], NEVER)
        return logits


def rules_for(recognizer: Recognizer, *, timestamps: bool = False, suppress: Sequence[int] = (), prompts: Sequence[Sequence[int]] = ((),)) -> list[Rule]:
    """The rules of the base's own generation config, with the timestamp rules where timestamps are asked for.

    Args:
        suppress: further tokens that must not appear.
        prompts: one a row. Where one ends in text, which is to be gone on with, nothing may be left to say; and what is said
            does not go on in the middle of a word, in languages that are written with spaces.
    """
    defaults = recognizer.generation
    never = tuple(dict.fromkeys([*(defaults.suppress_tokens or ()), *suppress]))
    rules: list[Rule] = []
    begun = [row for row, prompt in enumerate(prompts) if prompt and prompt[-1] < recognizer.end]
    if defaults.begin_suppress_tokens:
        fresh = None if not begun else tuple(row for row in range(len(prompts)) if row not in begun)
        rules.append(SuppressFirst(tuple(defaults.begin_suppress_tokens), fresh))
    spaced = tuple(row for row in begun if not _without_spaces(recognizer.decode_text(prompts[row][-4:])))
    if spaced and recognizer.inner_tokens:
        rules.append(SuppressFirst(recognizer.inner_tokens, spaced))
    if never:
        rules.append(Suppress(never))
    if timestamps:
        rules.append(Timestamps(recognizer.no_timestamps, recognizer.end, getattr(defaults, "max_initial_timestamp_index", None)))
    return rules


def _without_spaces(text: str) -> bool:
    """Whether a text ends in a letter of a script that is written without spaces between words."""
    letters = [c for c in text if c.isalpha()]
    return bool(letters) and spaceless(letters[-1])
