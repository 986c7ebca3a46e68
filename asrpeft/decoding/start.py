"""What every search begins and ends with: checked prompts, the room there is, an empty cache; and a row's result."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from asrpeft.adapters import Route
from asrpeft.decoding.hypothesis import Hypothesis
from asrpeft.decoding.loops import compression_ratio, loop_period, without_loop
from asrpeft.decoding.rules import Rule, rules_for
from asrpeft.errors import BadInput
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Encoded, Recognizer


@dataclass(frozen=True)
class Start:
    """A search that can begin.

    Attributes:
        route: which adapter each row uses; `names` the same, one a row.
        most: how many tokens may be written.
        cache, tokens: what the decoder is first called with: nothing kept, and the prompts (rows, n).
    """

    route: Route
    names: tuple[str | None, ...]
    most: int
    rules: list[Rule]
    cache: EncoderDecoderCache
    tokens: Tensor


def begin(
    recognizer: Recognizer, encoded: Encoded, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None] | str | None, options: DecodingOptions
) -> Start:
    """Where a search begins: prompts, adapters, rules and the positions that are left.

    Raises: BadInput for prompts or adapters that do not fit the rows, or prompts that leave no room.
    """
    n_rows = len(encoded.states)
    check_prompts(recognizer, prompts, n_rows)
    route = as_route(adapters, n_rows)
    return Start(
        route,
        names_of(route, n_rows),
        limit(recognizer, len(prompts[0]), route, options),
        rules_for(recognizer, timestamps=options.timestamps, suppress=options.suppress, prompts=prompts),
        new_cache(recognizer),
        torch.tensor([list(p) for p in prompts], device=encoded.states.device),
    )


class Steps:
    """The decoder's steps over a batch that shrinks: what is read next, under which adapters, with which keys and values kept.

    Attributes:
        no_speech: of each row, the probability that nobody speaks; known after the first step.
    """

    def __init__(self, recognizer: Recognizer, encoded: Encoded, prompts: Sequence[Sequence[int]], start: Start):
        self.recognizer, self.encoded, self.prompts, self.start = recognizer, encoded, prompts, start
        self.route, self.cache, self.tokens = start.route, start.cache, start.tokens
        self.no_speech: list[float] = []

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """(number of the step, logits (rows, vocabulary) float32 of the token that comes next); `go_on` says which it is."""
        for number in range(self.start.most):
            with self.recognizer.route(self.route):
                logits, self.cache = self.recognizer.decode(self.encoded, self.tokens, cache=self.cache)
            if number == 0:
                self.no_speech = no_speech_probs(self.recognizer, logits, self.prompts)
            yield number, logits[:, -1].float()

    def go_on(self, tokens: Tensor, parents: Sequence[int] | None = None, *, same_audio: bool = False) -> None:
        """Read `tokens` (rows, 1) next.

        Args:
            parents: the rows of the batch that go on, each as often as it does; None: all as they are.
            same_audio: each row still stands where a row of the same utterance stood, so that only what was written moves.
        """
        self.tokens = tokens
        if parents is None:
            return
        kept = torch.tensor(parents, device=tokens.device)
        self.cache.self_attention_cache.batch_select_indices(kept)
        if not same_audio:
            self.cache.cross_attention_cache.batch_select_indices(kept)
            self.encoded, self.route = self.encoded.take(kept), self.route.take(parents)


def new_cache(recognizer: Recognizer) -> EncoderDecoderCache:
    """An empty cache for the decoder. (The model's own config would give one slot per *encoder* layer.)"""
    config = copy.copy(recognizer.base.config)
    config.num_hidden_layers = config.decoder_layers
    return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))


def as_route(adapters: Sequence[str | None] | str | None, n_rows: int) -> Route:
    """One adapter name for each row.

    Raises: BadInput if there is not one name for each row.
    """
    if adapters is None or isinstance(adapters, str):
        return Route(adapters)
    if len(adapters) != n_rows:
        raise BadInput(f"{len(adapters)} adapters are named for {n_rows} rows; give one name (or None) a row.")
    return Route(tuple(adapters))


def names_of(route: Route, n_rows: int) -> tuple[str | None, ...]:
    """The adapter of each row."""
    return route.names if isinstance(route.names, tuple) else (route.names,) * n_rows


def prompt_rows(recognizer: Recognizer, route: Route) -> int:
    """Decoder positions that the route's virtual tokens take before the prompt."""
    site = recognizer.adapters.sites.get("decoder")
    if site is None:
        return 0
    route = recognizer.adapters.resolve(route)
    return max((sum(piece.n_rows for pieces, _ in site.of(route.terms(name)) for piece in pieces) for name in route.distinct), default=0)


def check_prompts(recognizer: Recognizer, prompts: Sequence[Sequence[int]], n_rows: int) -> None:
    """Look whether the prompts fit the rows.

    Raises: BadInput unless there is a prompt for every row, all of one length.
    """
    if len(prompts) != n_rows or len({len(prompt) for prompt in prompts}) != 1 or not prompts[0]:
        raise BadInput(
            f"{n_rows} rows need {n_rows} prompts of one length; got lengths {[len(p) for p in prompts][:8]}. "
            f"Decode rows of different prompts in batches of their own."
        )


def limit(recognizer: Recognizer, n_prompt: int, route: Route, options: DecodingOptions) -> int:
    """How many tokens may follow the prompt: what the options say, within the decoder's positions.

    Raises: BadInput where the prompt leaves no room.
    """
    room = recognizer.max_tokens - n_prompt - prompt_rows(recognizer, route)
    if room < 1:
        raise BadInput(f"A prompt of {n_prompt} tokens leaves no room in the decoder's {recognizer.max_tokens} positions. Shorten it.")
    return room if options.max_new_tokens is None else min(room, options.max_new_tokens)


@dataclass(frozen=True)
class Written:
    """What a search wrote of a row.

    Attributes:
        tokens: those chosen, without the end token.
        logprobs: the decoder's log-probabilities of them, and of the end token where it came.
        finished: the end token came.
        period: of the loop in which the row was stopped, in tokens.
        joint_logprobs: in joint decoding, the log-probabilities in the vote, as many as `logprobs`.
    """

    tokens: list[int]
    logprobs: list[float]
    finished: bool
    period: int | None = None
    joint_logprobs: list[float] = field(default_factory=list)


def hypothesis(recognizer: Recognizer, written: Written, *, no_speech_prob: float, temperature: float, adapter: str | None) -> Hypothesis:
    """A row's result from what was written of it; a loop is cut to one turn."""
    tokens, period = written.tokens, written.period
    logprobs = written.logprobs if written.finished else written.logprobs[: len(tokens)]
    joint_logprobs = written.joint_logprobs[: len(logprobs)]
    looped = period is not None or loop_period(tokens) is not None
    if period is not None:
        tokens = without_loop(tokens, period)
        logprobs, joint_logprobs = logprobs[: len(tokens)], joint_logprobs[: len(tokens)]
    text = recognizer.decode_text(tokens)
    return Hypothesis(
        tokens=tuple(tokens),
        text=text,
        logprob=sum(logprobs) / max(1, len(logprobs)),
        token_logprobs=tuple(logprobs),
        no_speech_prob=no_speech_prob,
        compression_ratio=compression_ratio(text),
        finished=written.finished,
        looped=looped,
        temperature=temperature,
        adapter=adapter,
        joint_logprobs=tuple(joint_logprobs),
    )


def no_speech_probs(recognizer: Recognizer, logits: Tensor, prompts: Sequence[Sequence[int]]) -> list[float]:
    """P(no speech) after the start token: the token before `<|notimestamps|>` in every Whisper vocabulary."""
    places = [len(prompt) - 1 - list(prompt)[::-1].index(recognizer.start) if recognizer.start in prompt else None for prompt in prompts]
    token = recognizer.no_timestamps - 1
    return [0.0 if place is None else float(logits[row, place].float().softmax(-1)[token]) for row, place in enumerate(places)]
