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
from typing import Any

import torch
from torch import Tensor

from asrpeft.decoding.hypothesis import GREEDY, Hypothesis, Options
from asrpeft.decoding.loops import loop_period
from asrpeft.decoding.start import begin, hypothesis, no_speech_probs
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
    options: Options = GREEDY,
) -> list[Hypothesis]:
    """Decode every row of `encoded`.

    Args:
        encoded: states of (rows, frames, dim), computed under the same adapters.
        prompts: tokens before the transcript, one sequence a row, all of one length; see `Recognizer.prompt`.
        adapters: one name (or None, the base) a row, or one for all.
    Returns: one hypothesis a row, in order.
    Raises: BadInput for prompts that do not fit; BadRoute for an unknown adapter.
    """
    n_rows, device = len(encoded.states), encoded.states.device
    start = begin(recognizer, encoded, prompts, adapters, options)
    most = start.most
    noise = torch.Generator().manual_seed(options.seed)
    written = torch.full((n_rows, most), recognizer.end, dtype=torch.long, device=device)
    logprobs = torch.zeros(n_rows, most, device=device)
    lengths = [most] * n_rows
    loops: dict[int, int] = {}

    live = list(range(n_rows))  # rows of the batch as it is now; those that have ended stay until they are enough to leave
    ended = [False] * n_rows
    step_tokens, here = start.tokens, start.route
    cache: Any = start.cache
    no_speech: list[float] = []
    for step in range(most):
        with recognizer.route(here):
            logits, cache = recognizer.decode(encoded, step_tokens, cache=cache)
        if step == 0:
            no_speech = no_speech_probs(recognizer, logits, prompts)
        index = torch.tensor(live, device=device)
        scores = logits[:, -1].float()
        for rule in start.rules:
            scores = rule(scores, written[index, :step])
        tokens = _choose(scores, options.temperature, noise)
        chosen = scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(-1)
        written[index, step], logprobs[index, step] = tokens, chosen
        for row, token in zip(live, tokens.tolist()):
            if not ended[row] and token == recognizer.end:
                ended[row], lengths[row] = True, step
        if options.stop_loops and step % LOOP_EVERY == LOOP_EVERY - 1:
            for row in live:
                period = None if ended[row] else loop_period(written[row, : step + 1].tolist())
                if period is not None:
                    ended[row], lengths[row], loops[row] = True, step + 1, period
        staying = [place for place, row in enumerate(live) if not ended[row]]
        if not staying:
            break
        if len(live) - len(staying) >= max(1, LEAVE * len(live)):
            kept = torch.tensor(staying, device=device)
            cache.batch_select_indices(kept)
            encoded, tokens, here = encoded.take(kept), tokens[kept], here.take(staying)
            live = [live[place] for place in staying]
        step_tokens = tokens[:, None]
    for row in range(n_rows) if options.stop_loops else ():  # those that began after the last look
        period = None if row in loops else loop_period(written[row, : lengths[row]].tolist())
        if period is not None:
            loops[row] = period
    return [
        hypothesis(
            recognizer,
            written[row, : lengths[row]].tolist(),
            logprobs[row, : lengths[row] + 1].tolist(),
            no_speech[row],
            finished=ended[row] and row not in loops,
            period=loops.get(row),
            temperature=options.temperature,
            adapter=start.names[row],
        )
        for row in range(n_rows)
    ]


def _choose(scores: Tensor, temperature: float, noise: torch.Generator) -> Tensor:
    if temperature == 0:
        return scores.argmax(-1)
    uniform = torch.rand(scores.shape[-1], generator=noise, dtype=torch.float64).clamp(min=1e-300)
    gumbel = -torch.log(-torch.log(uniform))
    return (scores.double() / temperature + gumbel.to(scores.device)).argmax(-1)
