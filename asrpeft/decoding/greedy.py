"""Greedy search over a batch whose rows may use different adapters.

    y_t = argmax_v  rules(logits(y_<t, x))_v        rules set forbidden tokens to −∞

The prompt is read at once, then one token a step with key-value caches. Rows that have ended leave the batch together
once they are a quarter of it: cache, encoder states, cross mask and route shrink alike (copying the caches for every
single row that ends costs more than its steps). A row's tokens do not depend on the other rows (up to the order of sums:
see `asrpeft.decoding.decode_rows` for what that means in half precision).
With a temperature τ > 0, y_t ~ softmax(rules(logits) / τ) by the Gumbel-max trick, with the same noise for every row,
so that a draw too is a function of the row and the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrpeft.decoding.hypothesis import GREEDY, Hypothesis
from asrpeft.decoding.loops import loop_period
from asrpeft.decoding.start import Steps, Written, begin, hypothesis
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Encoded, Recognizer

LEAVE = 0.25  # share of ended rows at which they leave the batch
LOOP_EVERY = 8  # steps between looks for a loop


@torch.no_grad()
def greedy(
    recognizer: Recognizer,
    encoded: Encoded,
    prompts: Sequence[Sequence[int]],
    *,
    adapters: Sequence[str | None] | str | None = None,
    options: DecodingOptions = GREEDY,
) -> list[Hypothesis]:
    """Decode every row of `encoded`.

    Args:
        encoded: states of (rows, frames, dim), computed under the same adapters.
        prompts: tokens before the transcript, one sequence a row, all of one length; see `Recognizer.prompt`.
        adapters: one name (or None, the base) a row, or one for all.
    Returns: one hypothesis a row, in order.
    Raises: BadInput for prompts that do not fit; BadRoute for an unknown adapter.
    """
    start = begin(recognizer, encoded, prompts, adapters, options)
    written, steps = _Batch(len(prompts), start.most, recognizer.end, encoded.states.device), Steps(recognizer, encoded, prompts, start)
    noise = torch.Generator().manual_seed(options.seed)
    live = list(range(len(prompts)))  # rows of the batch as it is now; those that have ended stay until they are enough to leave
    for step, scores in steps:
        index = torch.tensor(live, device=scores.device)
        for rule in start.rules:
            scores = rule(scores, written.tokens[index, :step])
        tokens = _choose(scores, options.temperature, noise)
        written.add(live, index, step, tokens, scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(-1))
        if options.stop_loops and step % LOOP_EVERY == LOOP_EVERY - 1:
            written.stop_loops(live, step)
        staying = [place for place, row in enumerate(live) if not written.ended[row]]
        if not staying:
            break
        if len(live) - len(staying) >= max(1, LEAVE * len(live)):
            steps.go_on(tokens[torch.tensor(staying, device=tokens.device)][:, None], staying)
            live = [live[place] for place in staying]
        else:
            steps.go_on(tokens[:, None])
    if options.stop_loops:
        written.find_late_loops()
    return [
        hypothesis(
            recognizer,
            written.row(row),
            no_speech_prob=steps.no_speech[row],
            temperature=options.temperature,
            adapter=start.names[row],
        )
        for row in range(len(prompts))
    ]


class _Batch:
    """What the rows have written: tokens and their log-probabilities (rows, most), and which rows have ended, or run in a loop."""

    def __init__(self, n_rows: int, most: int, end: int, device: torch.device):
        self.end = end
        self.tokens = torch.full((n_rows, most), end, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(n_rows, most, device=device)
        self.lengths, self.ended = [most] * n_rows, [False] * n_rows
        self.loops: dict[int, int] = {}  # row → period

    def add(self, live: Sequence[int], index: Tensor, step: int, tokens: Tensor, logprobs: Tensor) -> None:
        """Take the next token of every row that is still going on.

        Args: live, index: the rows that `tokens` and `logprobs` are of.
        """
        self.tokens[index, step], self.logprobs[index, step] = tokens, logprobs
        for row, token in zip(live, tokens.tolist()):
            if not self.ended[row] and token == self.end:
                self.ended[row], self.lengths[row] = True, step

    def stop_loops(self, live: Sequence[int], step: int) -> None:
        """End the rows that repeat themselves."""
        for row in live:
            period = None if self.ended[row] else loop_period(self.tokens[row, : step + 1].tolist())
            if period is not None:
                self.ended[row], self.lengths[row], self.loops[row] = True, step + 1, period

    def find_late_loops(self) -> None:
        """Those that began after `stop_loops` looked for the last time."""
        for row, length in enumerate(self.lengths):
            period = None if row in self.loops else loop_period(self.tokens[row, :length].tolist())
            if period is not None:
                self.loops[row] = period

    def row(self, row: int) -> Written:
        """What was written of one row."""
        length = self.lengths[row]
        finished = self.ended[row] and row not in self.loops
        return Written(self.tokens[row, :length].tolist(), self.logprobs[row, : length + 1].tolist(), finished, self.loops.get(row))


def _choose(scores: Tensor, temperature: float, noise: torch.Generator) -> Tensor:
    if temperature == 0:
        return scores.argmax(-1)
    uniform = torch.rand(scores.shape[-1], generator=noise, dtype=torch.float64).clamp(min=1e-300)
    gumbel = -torch.log(-torch.log(uniform))
    return (scores.double() / temperature + gumbel.to(scores.device)).argmax(-1)
