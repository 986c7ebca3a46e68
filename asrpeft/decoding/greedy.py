"""Greedy search over a batch whose rows may use different adapters.

    y_t = argmax_v  rules(logits(y_<t, x))_v        rules set forbidden tokens to −∞

The prompt is read at once, then one token a step with key-value caches. Rows that have ended leave the batch together
once they are a quarter of it: cache, encoder states, cross mask and route shrink alike (copying the caches for every
single row that ends costs more than its steps). A row's tokens do not depend on the other rows.
With a temperature τ > 0, y_t ~ softmax(rules(logits) / τ) by the Gumbel-max trick, with the same noise for every row,
so that a draw too is a function of the row and the seed alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from asrpeft.adapters import Route
from asrpeft.decoding.hypothesis import GREEDY, Hypothesis, Options
from asrpeft.decoding.loops import compression_ratio, loop_period, without_loop
from asrpeft.decoding.rules import rules_for
from asrpeft.errors import BadInput
from asrpeft.recognizer import Encoded, Recognizer

LEAVE = 0.25  # share of ended rows at which they leave the batch
LOOP_EVERY = 8  # steps between looks for a loop


def new_cache(recognizer: Recognizer) -> EncoderDecoderCache:
    """An empty cache for the decoder. (The model's own config would give one slot per *encoder* layer.)"""
    config = copy.copy(recognizer.base.config)
    config.num_hidden_layers = config.decoder_layers
    return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))


def as_route(adapters: Sequence[str | None] | str | None, n_rows: int) -> Route:
    """Raises: BadInput if there is not one name for each row."""
    if adapters is None or isinstance(adapters, str):
        return Route(adapters)
    if len(adapters) != n_rows:
        raise BadInput(f"{len(adapters)} adapters are named for {n_rows} rows; give one name (or None) a row.")
    return Route(tuple(adapters))


def prompt_rows(recognizer: Recognizer, route: Route) -> int:
    """Decoder positions that the route's virtual tokens take before the prompt."""
    site = recognizer.adapters.sites.get("decoder")
    if site is None:
        return 0
    return max((sum(len(piece.rows()[0]) for piece in site.pieces.get(name, ())) for name in route.distinct), default=0)


def check_prompts(recognizer: Recognizer, prompts: Sequence[Sequence[int]], n_rows: int) -> None:
    """Raises: BadInput unless there is a prompt for every row, all of one length."""
    if len(prompts) != n_rows or len({len(prompt) for prompt in prompts}) != 1 or not prompts[0]:
        raise BadInput(
            f"{n_rows} rows need {n_rows} prompts of one length; got lengths {[len(p) for p in prompts][:8]}. "
            f"Decode rows of different prompts in batches of their own."
        )


def limit(recognizer: Recognizer, n_prompt: int, route: Route, options: Options) -> int:
    """How many tokens may follow the prompt: what the options say, within the decoder's positions.

    Raises: BadInput where the prompt leaves no room.
    """
    room = recognizer.max_tokens - n_prompt - prompt_rows(recognizer, route)
    if room < 1:
        raise BadInput(
            f"A prompt of {n_prompt} tokens leaves no room in the decoder's {recognizer.max_tokens} positions. "
            "Shorten it."
        )
    return room if options.max_new_tokens is None else min(room, options.max_new_tokens)


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
    check_prompts(recognizer, prompts, n_rows)
    route = as_route(adapters, n_rows)
    most = limit(recognizer, len(prompts[0]), route, options)
    rules = rules_for(recognizer, timestamps=options.timestamps, suppress=options.suppress)
    noise = torch.Generator().manual_seed(options.seed)
    written = torch.full((n_rows, most), recognizer.end, dtype=torch.long, device=device)
    logprobs = torch.zeros(n_rows, most, device=device)
    lengths = [most] * n_rows
    loops: dict[int, int] = {}

    live = list(
        range(n_rows)
    )  # rows of the batch as it is now; those that have ended stay until they are enough to leave
    ended = [False] * n_rows
    cache, step_tokens, here = new_cache(recognizer), torch.tensor([list(p) for p in prompts], device=device), route
    no_speech: list[float] = []
    for step in range(most):
        with recognizer.route(here):
            logits, cache = recognizer.decode(encoded, step_tokens, cache=cache)
        if step == 0:
            no_speech = _no_speech(recognizer, logits, prompts)
        index = torch.tensor(live, device=device)
        scores = logits[:, -1].float()
        for rule in rules:
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
    names = route.names if isinstance(route.names, tuple) else (route.names,) * n_rows
    return [
        hypothesis(
            recognizer,
            written[row, : lengths[row]].tolist(),
            logprobs[row, : lengths[row] + 1].tolist(),
            no_speech[row],
            finished=ended[row] and row not in loops,
            period=loops.get(row),
            temperature=options.temperature,
            adapter=names[row],
        )
        for row in range(n_rows)
    ]


def hypothesis(
    recognizer: Recognizer,
    tokens: list[int],
    logprobs: list[float],
    no_speech_prob: float,
    *,
    finished: bool,
    period: int | None,
    temperature: float,
    adapter: str | None,
) -> Hypothesis:
    """A row's result from its tokens and their log-probabilities (one more where the end token came)."""
    logprobs = logprobs if finished else logprobs[: len(tokens)]
    looped = period is not None or loop_period(tokens) is not None
    if period is not None:
        tokens = without_loop(tokens, period)
        logprobs = logprobs[: len(tokens)]
    text = recognizer.decode_text(tokens)
    return Hypothesis(
        tokens=tuple(tokens),
        text=text,
        logprob=sum(logprobs) / max(1, len(logprobs)),
        token_logprobs=tuple(logprobs),
        no_speech_prob=no_speech_prob,
        compression_ratio=compression_ratio(text),
        finished=finished,
        looped=looped,
        temperature=temperature,
        adapter=adapter,
    )


def _choose(scores: Tensor, temperature: float, noise: torch.Generator) -> Tensor:
    if temperature == 0:
        return scores.argmax(-1)
    uniform = torch.rand(scores.shape[-1], generator=noise, dtype=torch.float64).clamp(min=1e-300)
    gumbel = -torch.log(-torch.log(uniform))
    return (scores.double() / temperature + gumbel.to(scores.device)).argmax(-1)


def _no_speech(recognizer: Recognizer, logits: Tensor, prompts: Sequence[Sequence[int]]) -> list[float]:
    """P(no speech) after the start token: the token before `<|notimestamps|>` in every Whisper vocabulary."""
    places = [
        len(prompt) - 1 - list(prompt)[::-1].index(recognizer.start) if recognizer.start in prompt else None
        for prompt in prompts
    ]
    token = recognizer.generation.no_timestamps_token_id - 1
    return [
        0.0 if place is None else float(logits[row, place].float().softmax(-1)[token])
        for row, place in enumerate(places)
    ]
