"""Encoder states → text: greedy search in batches whose rows may use different adapters, under Whisper's rules."""

from asrpeft.decoding.greedy import greedy
from asrpeft.decoding.hypothesis import Hypothesis, Options
from asrpeft.decoding.loops import compression_ratio, loop_period, without_loop
from asrpeft.decoding.rules import Rule, rules_for

__all__ = ["Hypothesis", "Options", "Rule", "compression_ratio", "greedy", "loop_period", "rules_for", "without_loop"]
