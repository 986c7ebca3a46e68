"""Encoder states → text: greedy and beam search in batches whose rows may use different adapters, under Whisper's
rules."""

from asrpeft.decoding.batch import Row, decode_rows, encode_rows, make_row, search
from asrpeft.decoding.beam import beam_search
from asrpeft.decoding.corpus import Transcripts, transcribe_corpus
from asrpeft.decoding.ensemble import decode_ensemble, vote, vote_all
from asrpeft.decoding.greedy import greedy
from asrpeft.decoding.hypothesis import Hypothesis
from asrpeft.decoding.loops import compression_ratio, loop_period, without_loop
from asrpeft.decoding.rules import Rule, rules_for
from asrpeft.options import DecodingOptions

__all__ = [
    "Hypothesis",
    "DecodingOptions",
    "Row",
    "Rule",
    "Transcripts",
    "beam_search",
    "compression_ratio",
    "decode_ensemble",
    "decode_rows",
    "encode_rows",
    "greedy",
    "loop_period",
    "make_row",
    "rules_for",
    "search",
    "transcribe_corpus",
    "vote",
    "vote_all",
    "without_loop",
]
