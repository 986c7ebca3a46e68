"""What decoding gives for one row, and what it may be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from asrpeft.options import DecodingOptions


@dataclass(frozen=True)
class Hypothesis:
    """One row's transcript.

    Attributes:
        tokens: what was written after the prompt, without the end token, timestamps included.
        text: the tokens as text, as the tokenizer gives it (Whisper's begins with a space).
        logprob: mean log-probability of the tokens and the end token (Whisper's avg_logprob), of what the rules left.
        token_logprobs: the same for each token; the end token's, if it came, is last.
        no_speech_prob: probability of the no-speech token at the start.
        compression_ratio: of the text, see `asrpeft.decoding.loops`.
        finished: the end token came before the limit.
        looped: it ended in a loop, which was cut to one turn if `DecodingOptions.stop_loops`.
        temperature: of the attempt that was kept; 0 is greedy.
        adapter: which adapter the row used.
        joint_logprobs: as token_logprobs, of decoder and CTC head together in joint decoding; () elsewhere.
    """

    tokens: tuple[int, ...]
    text: str
    logprob: float
    token_logprobs: tuple[float, ...] = field(repr=False)
    no_speech_prob: float
    compression_ratio: float
    finished: bool
    looped: bool = False
    temperature: float = 0.0
    adapter: str | None = None
    joint_logprobs: tuple[float, ...] = field(default=(), repr=False)


GREEDY = DecodingOptions(stop_loops=False)  # as `transformers` searches
BEAMS = DecodingOptions(beams=5, stop_loops=False)
