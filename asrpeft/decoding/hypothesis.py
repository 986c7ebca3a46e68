"""What decoding gives for one row, and what it may be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from asrpeft.errors import BadInput


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
        looped: it ended in a loop, which was cut to one turn if `Options.stop_loops`.
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


@dataclass(frozen=True)
class Options:
    """How to decode. The defaults are `transformers`' greedy search.

    Attributes:
        max_new_tokens: after the prompt; None: as many as the decoder has positions.
        timestamps: write them, under Whisper's rules.
        beams: hypotheses kept by beam search; 1 is greedy.
        length_penalty: of beam search: scores are divided by length to this power.
        ctc_weight: of the CTC head's opinion beside the decoder's, 0 to 1; see `asrpeft.decoding.joint`. At 1 the head writes
            alone (`asrpeft.decoding.ctc`), as it does at 0 for adapters that were trained by CTC alone.
        temperature: above 0, tokens are drawn at random with `seed`.
        stop_loops: end a row that repeats itself, and cut the loop to one turn.
        fallback: decode again, warmer, what looks wrong; see `asrpeft.decoding.fallback`.
        suppress: further tokens that must not appear.
    """

    max_new_tokens: int | None = None
    timestamps: bool = False
    beams: int = 1
    length_penalty: float = 1.0
    ctc_weight: float = 0.0
    temperature: float = 0.0
    stop_loops: bool = False
    fallback: bool = False
    suppress: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise BadInput(f"max_new_tokens must be at least 1, got {self.max_new_tokens}.")
        if self.beams < 1:
            raise BadInput(f"--beams must be at least 1, got {self.beams}.")
        if not 0 <= self.temperature < float("inf"):
            raise BadInput(f"--temperature is a number that is not negative, got {self.temperature}; 0 is greedy.")
        if not 0 <= self.ctc_weight <= 1:
            raise BadInput(f"--ctc-weight is a share of the score, from 0 to 1 (the CTC head alone); got {self.ctc_weight}.")
        if self.ctc_weight and self.temperature > 0:
            raise BadInput("Joint decoding and a temperature exclude each other; leave one of --ctc-weight and --temperature out.")
        if self.beams > 1 and self.temperature > 0:
            raise BadInput("Beam search and a temperature exclude each other; leave one of --beams and --temperature out.")


GREEDY = Options()
BEAMS = Options(beams=5)
