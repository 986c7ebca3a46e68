"""Loops are told from speech that repeats itself a little, and cut to one turn."""

from __future__ import annotations

import pytest

from asrpeft.decoding import Hypothesis, compression_ratio, loop_period, search, without_loop
from asrpeft.decoding.fallback import TEMPERATURES, with_fallback
from asrpeft.options import DecodingOptions
from tests.decoding.lively import features, lively_recognizer, looping_recognizer

SENTENCE = list(range(100, 140))


@pytest.mark.parametrize(
    ("tokens", "period"),
    [
        ([], None),
        ([7] * 23, None),  # "no, no, no, …": shorter than any loop
        ([7] * 24, 1),
        ([*SENTENCE, *[1, 2, 3] * 8], 3),
        ([*SENTENCE, *[1, 2, 3] * 8, 1], 3),  # in the middle of a turn
        ([*SENTENCE, *[1, 2, 3] * 7], None),
        (SENTENCE[:30] * 4, 30),
        (SENTENCE[:30] * 3, None),
        (SENTENCE * 9, None),  # a period over 32 is no loop
        ([*[5] * 40, 6], None),  # it got out
    ],
)
def test_a_loop_is_at_least_four_turns_and_24_tokens_at_the_end(tokens, period):
    assert loop_period(tokens) == period


@pytest.mark.parametrize(("before", "turn", "turns"), [([], [7], 30), (SENTENCE, [1, 2, 3], 9), (SENTENCE, [4, 5], 13), ([3], [1, 2, 3], 9)])
@pytest.mark.parametrize("part", [0, 1])
def test_a_cut_loop_keeps_what_came_before_and_one_turn(before, turn, turns, part):
    tokens = [*before, *turn * turns, *turn[:part]]
    cut = without_loop(tokens, loop_period(tokens))
    assert cut == tokens[: len(cut)]
    assert len(before) <= len(cut) <= len(before) + len(turn)


def test_repeated_text_compresses_beyond_whispers_threshold_and_speech_does_not():
    assert compression_ratio("you " * 60) > 2.4
    assert 0 < compression_ratio("The quick brown fox jumps over the lazy dog near the river bank.") < 1.5
    assert compression_ratio("") == 0


def _said(temperature, *, good, adapter=None, no_speech=0.0):
    return Hypothesis(
        (1,),
        "well said" if good else "so " * 80,
        -0.3 if good else -2.0,
        (-0.3,),
        no_speech,
        1.0 if good else 20.0,
        True,
        temperature=temperature,
        adapter=adapter,
    )


def test_only_rows_that_look_wrong_are_decoded_again_with_their_own_prompts_and_adapters():
    recognizer, (x, frames) = lively_recognizer(0), features(4)
    encoded, calls = recognizer.encode(x, frames), []
    good_from = {"a": 0.0, "b": 0.4, "c": 9.0, "d": 0.0}  # temperature at which each row comes right

    def once(encoded, prompts, adapters, options):
        calls.append((options.temperature, options.beams, [p[0] for p in prompts], list(adapters), len(encoded.states)))
        return [_said(options.temperature, good=options.temperature >= good_from[name], adapter=name) for name in adapters]

    found = with_fallback(once, encoded, [[0], [1], [2], [3]], ["a", "b", "c", "d"], DecodingOptions(stop_loops=False, beams=4, fallback=True))
    assert [h.temperature for h in found] == [0.0, 0.4, TEMPERATURES[-1], 0.0] and [h.adapter for h in found] == list("abcd")
    assert calls[0] == (0.0, 4, [0, 1, 2, 3], list("abcd"), 4)
    assert calls[1] == (0.2, 1, [1, 2], ["b", "c"], 2) and calls[3] == (pytest.approx(0.6), 1, [2], ["c"], 1)


def test_a_row_where_nobody_speaks_is_empty_and_not_tried_again():
    recognizer, (x, frames) = lively_recognizer(0), features(1)
    calls = []

    def once(encoded, prompts, adapters, options):
        calls.append(options.temperature)
        return [_said(0.0, good=False, no_speech=0.9)]

    found = with_fallback(once, recognizer.encode(x, frames), [[0]], None, DecodingOptions(stop_loops=False, fallback=True))[0]
    assert (found.text, found.tokens, calls) == ("", (), [0.0])


def test_a_loop_that_was_cut_is_decoded_again():
    recognizer, (x, frames) = looping_recognizer(), features(2)
    encoded, prompts = recognizer.encode(x, frames), [recognizer.prompt(lang="sw")] * 2
    values = {"adapters": None, "options": DecodingOptions(max_new_tokens=40)}
    looped = search(recognizer, encoded, prompts, **values)
    again = search(recognizer, encoded, prompts, adapters=None, options=DecodingOptions(fallback=True, max_new_tokens=40))
    assert all(h.looped and h.temperature == 0 for h in looped) and all(h.temperature > 0 for h in again)
