"""Joint decoding: the decoder's opinion of a text beside that of the CTC head on the same encoder.

    score(y) = (1 − λ) log p_att(y | x) + λ log p_ctc(y… | x)

p_ctc(y… | x) is the probability of all character strings that begin with y's characters; where y ends, of y alone. The
decoder knows the language but may skip, repeat or invent; the CTC head must account for every frame, from left to right.
Only the `2·beams + 2` tokens that the decoder likes best after each beam are looked at (and the end).

For a string g with forward variables γn(t), γb(t) (ending at frame t in a character, in a blank), its extension by c has

    γn'(t) = p_c(t) (γn'(t−1) + φ(t−1))     γb'(t) = p_blank(t) (γb'(t−1) + γn'(t−1))     ψ' = Σ_t φ(t−1) p_c(t)

with φ = γb if g ends in c, else γn + γb. Both recurrences are linear with known factors, so they are computed for all
frames at once: γn'(t) = P(t) Σ_{s≤t} φ(s−1)/P(s−1) with P the running product of p_c, in logarithms and float64.

Source: Hori et al., 2017, https://aclanthology.org/P17-1048 (the score); Watanabe et al., 2017,
https://doi.org/10.1109/JSTSP.2017.2763455 (ψ).
"""

from __future__ import annotations

import codecs
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asrpeft.adapters.ctc import CTCHead
from asrpeft.errors import BadInput
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Encoded, Recognizer

NEVER = -1e30  # a logarithm of nothing that can still be subtracted


@dataclass(frozen=True)
class Spelling:
    """What a beam's tokens spell so far.

    Attributes:
        labels: its characters, as the row's CTC head numbers them; those that the head does not know are left out.
        rest: the first bytes of a character that the next token completes.
        strange: how many of the left out characters are letters. Each costs as much as a blind guess of the head (one in
            its vocabulary): the head cannot vouch for another script, but must not let it pass for silence either.
    """

    labels: tuple[int, ...] = ()
    rest: bytes = b""
    strange: int = 0


@dataclass(frozen=True)
class _Forward:
    """γn and γb, each (frames + 1,) in logarithms from before the first frame, and ψ of one string."""

    in_character: np.ndarray
    in_blank: np.ndarray
    prefix: float

    @property
    def whole(self) -> float:
        """log p of the string itself."""
        return float(np.logaddexp(self.in_character[-1], self.in_blank[-1]))


class PrefixScores:
    """log ψ of strings over the frames of one batch of rows, each string's computed once from that of its beginning.

    Args:
        logprobs: (rows, frames, characters) with the blank first, of the CTC head.
        n_frames: of each row, how many hold sound; what comes after is taken to be silent.
    """

    def __init__(self, logprobs: Tensor, n_frames: Sequence[int]):
        logprobs = logprobs.detach().cpu().double().clamp(min=NEVER)
        for row, n in enumerate(n_frames):
            logprobs[row, n:, 0], logprobs[row, n:, 1:] = 0.0, NEVER
        self.logprobs = logprobs
        sums = logprobs.cumsum(1)
        self.sums = torch.cat([torch.zeros_like(sums[:, :1]), sums], 1)  # (rows, frames + 1, characters)
        silence = self.sums[:, :, 0].contiguous().numpy()
        self.known: list[dict[tuple[int, ...], _Forward]] = [{(): _Forward(np.full_like(row, NEVER), row, 0.0)} for row in silence]

    def __call__(self, row: int, labels: tuple[int, ...]) -> float:
        return self.known[row][labels].prefix

    def whole(self, row: int, labels: tuple[int, ...]) -> float:
        return self.known[row][labels].whole

    def compute(self, strings: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """Make (row, labels) known: all together, one character at a time."""
        waiting = list(dict.fromkeys(pair for pair in strings if pair[1] not in self.known[pair[0]]))
        while waiting:
            steps = list(dict.fromkeys((row, self._next(row, labels)) for row, labels in waiting))
            for (row, labels), forward in zip(steps, self._extend(steps)):
                self.known[row][labels] = forward
            waiting = [(row, labels) for row, labels in waiting if labels not in self.known[row]]

    def keep(self, row: int, strings: set[tuple[int, ...]]) -> None:
        """Forget every string of a row but these."""
        self.known[row] = {labels: self.known[row][labels] for labels in strings}

    def _next(self, row: int, labels: tuple[int, ...]) -> tuple[int, ...]:
        """The shortest beginning of `labels` that is not known yet."""
        n = len(labels)
        while n and labels[: n - 1] not in self.known[row]:
            n -= 1
        return labels[:n]

    def _extend(self, strings: Sequence[tuple[int, tuple[int, ...]]]) -> list[_Forward]:
        before = [self.known[row][labels[:-1]] for row, labels in strings]
        rows = torch.tensor([row for row, _ in strings])
        last = torch.tensor([labels[-1] for _, labels in strings])
        repeats = torch.tensor([len(labels) > 1 and labels[-2] == labels[-1] for _, labels in strings])
        in_character = torch.from_numpy(np.stack([forward.in_character for forward in before]))
        in_blank = torch.from_numpy(np.stack([forward.in_blank for forward in before]))
        free = torch.where(repeats[:, None], in_blank, torch.logaddexp(in_character, in_blank))[:, :-1]
        sums, blanks = self.sums[rows, :, last], self.sums[rows, :, 0]
        never = torch.full_like(sums[:, :1], NEVER)
        here = torch.cat([never, sums[:, 1:] + torch.logcumsumexp(free - sums[:, :-1], 1)], 1).clamp(min=NEVER)
        silent = torch.cat([never, blanks[:, 1:] + torch.logcumsumexp(here[:, :-1] - blanks[:, :-1], 1)], 1).clamp(min=NEVER)
        prefix = (free + self.logprobs[rows, :, last]).logsumexp(1).clamp(min=NEVER).tolist()
        return [_Forward(*forward) for forward in zip(here.numpy(), silent.numpy(), prefix)]


class JointScores:
    """Mixes the CTC head's opinion into the decoder's scores of next tokens.

    Raises: BadInput if a row's adapter (or the base) has no CTC head.
    """

    def __init__(self, recognizer: Recognizer, encoded: Encoded, prompts: Sequence[Sequence[int]], names: Sequence[str | None], *, weight: float):
        self.recognizer, self.weight = recognizer, weight
        self.heads = [head_of(recognizer, name) for name in names]
        n_frames = (encoded.frames if encoded.speech is None else encoded.speech).tolist()
        longest, widest = max(n_frames), max(len(head.vocabulary) for head in self.heads)
        logprobs = torch.full((len(prompts), longest, widest), NEVER, dtype=torch.float64)
        for head in set(self.heads):
            own = [row for row, one in enumerate(self.heads) if one is head]
            logprobs[own, :, : len(head.vocabulary)] = head(encoded.states[own, :longest]).double().cpu()
        self.prefixes = PrefixScores(logprobs, n_frames)
        self.starts = [self._spelled(row, Spelling(), said_by(recognizer, prompt)) for row, prompt in enumerate(prompts)]
        self.prefixes.compute([(row, start.labels) for row, start in enumerate(self.starts)])

    def start(self, row: int) -> Spelling:
        """What the prompt of a row already spells of this very audio."""
        return self.starts[row]

    def mix(self, rows: Sequence[int], spellings: Sequence[Spelling], scores: Tensor, beams: int) -> tuple[Tensor, list[dict[int, Spelling]]]:
        """Scores of the next token after each beam.

        Args:
            rows, spellings: of each beam: which row it is of, what it spells.
            scores: (beams of all rows, vocabulary) the decoder's log-probabilities.
        Returns: scores of the same shape, −∞ for tokens that were not looked at; for each beam what its looked-at tokens
            would make it spell.
        """
        end = self.recognizer.end
        values, tokens = scores.topk(min(2 * beams + 2, scores.shape[1]))
        after: list[dict[int, Spelling]] = []
        for row, spelling, liked, chosen in zip(rows, spellings, values.tolist(), tokens.tolist()):
            after.append({token: self._spelled(row, spelling, [token]) for value, token in zip(liked, chosen) if value > float("-inf")})
        self.prefixes.compute([(row, one.labels) for row, found in zip(rows, after) for one in found.values()])
        mixed = torch.full_like(scores, float("-inf"), dtype=torch.float64)
        for beam, (row, spelling, found) in enumerate(zip(rows, spellings, after)):
            here, guess = self.prefixes(row, spelling.labels), math.log(len(self.heads[row].vocabulary))
            by_ctc = {token: self.prefixes(row, one.labels) - here - guess * (one.strange - spelling.strange) for token, one in found.items() if token != end}
            by_ctc[end] = self.prefixes.whole(row, spelling.labels) - here
            places = torch.tensor(list(by_ctc), device=scores.device)
            ctc = torch.tensor(list(by_ctc.values()), dtype=torch.float64, device=scores.device)
            mixed[beam, places] = (1 - self.weight) * scores[beam, places].double() + self.weight * ctc
        return mixed, after

    def keep(self, row: int, spellings: Sequence[Spelling]) -> None:
        """Only these beams of a row go on."""
        self.prefixes.keep(row, {one.labels for one in spellings})

    def _spelled(self, row: int, before: Spelling, tokens: Sequence[int]) -> Spelling:
        head, known = self.heads[row], before.rest + self.recognizer.text_bytes(tokens)
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        text = decoder.decode(known)
        labels, strange = list(before.labels), before.strange
        for c in unicodedata.normalize("NFC", text):
            label = head.index.get(c, head.index.get(c.lower()))
            if label is None:
                strange += c.isalpha()
            elif labels or not c.isspace():
                labels.append(label)
        return Spelling(tuple(labels), decoder.getstate()[0], strange)


def for_base(recognizer: Recognizer, options: DecodingOptions) -> DecodingOptions:
    """The options for the base beside adapters that have a CTC head: it may have none, and is then decoded without."""
    return options if recognizer.ctc is not None else replace(options, ctc_weight=0.0)


def head_of(recognizer: Recognizer, name: str | None) -> CTCHead:
    """The CTC head that judges for an adapter: its own, or the base's.

    Raises: BadInput where neither the adapter nor the base has a CTC head.
    """
    head = recognizer.ctc_head(name)
    if head is None:
        whose = "The base" if name is None else f"Adapter {name!r}"
        raise BadInput(f"{whose} has no CTC head, so --ctc-weight has nothing to weigh. Train with --loss ce+0.3*ctc, or leave it out.")
    return head


def said_by(recognizer: Recognizer, prompt: Sequence[int]) -> list[int]:
    """The text tokens that a prompt ends with."""
    first = max((place + 1 for place, token in enumerate(prompt) if token >= recognizer.end), default=0)
    return list(prompt[first:])
