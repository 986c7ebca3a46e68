"""Beam search: the hypotheses `transformers` would choose, for rows that use different adapters too."""

from __future__ import annotations

import itertools

import pytest
import torch

from asrpeft.decoding import beam_search, greedy
from asrpeft.options import DecodingOptions
from tests.bases import tiny_recognizer
from tests.decoding.lively import features, generated, lively_recognizer, looping_recognizer
from tests.decoding.test_greedy import perturb


def beams(recognizer, x, frames, options, adapters=None):
    with recognizer.route(adapters), torch.no_grad():
        encoded = recognizer.encode(x, frames)
    return beam_search(recognizer, encoded, [recognizer.prompt(lang="sw")] * len(x), adapters=adapters, options=options)


@pytest.mark.parametrize(("seed", "penalty", "width"), [(5, 1.0, 3), (1, 1.0, 5), (2, 0.5, 4), (3, 2.0, 2), (4, 0.0, 3)])
def test_beam_search_writes_what_transformers_writes(seed, penalty, width):
    recognizer, (x, frames) = lively_recognizer(seed), features()
    with torch.no_grad():  # sharper, so that sums of log-probabilities are no ties
        recognizer.base.model.decoder.embed_tokens.weight *= 2
    found = beams(recognizer, x, frames, DecodingOptions(stop_loops=False, beams=width, length_penalty=penalty, max_new_tokens=30))
    theirs = generated(recognizer, x, num_beams=width, length_penalty=penalty, max_new_tokens=30)
    assert [list(h.tokens) for h in found] == theirs
    assert len({len(row) for row in theirs}) > 1


def test_one_beam_is_greedy():
    recognizer, (x, frames) = lively_recognizer(0), features()
    encoded, prompts = recognizer.encode(x, frames), [recognizer.prompt(lang="sw")] * len(x)
    one = beam_search(recognizer, encoded, prompts, options=DecodingOptions(stop_loops=False, beams=1))
    for ours, theirs in zip(one, greedy(recognizer, encoded, prompts)):
        assert ours.tokens == theirs.tokens and ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_a_row_of_a_mixed_batch_is_searched_as_that_row_alone():
    recognizer = lively_recognizer(2)
    recognizer.adapt("lora", name="weights", where="encoder,decoder")
    recognizer.adapt("prompt", name="prompt", tokens=4)
    recognizer.adapt("prefix", name="prefix", tokens=3)
    perturb(recognizer, "weights", 1)
    adapters, contexts = ["weights", None, "prompt", "prefix"], [50, 120, 150, 200]
    x, frames = features(4, frames=contexts)
    options = DecodingOptions(stop_loops=False, beams=3, max_new_tokens=25)
    together = beams(recognizer, x, frames, options, adapters)
    for i, name in enumerate(adapters):
        alone = beams(recognizer, x[i : i + 1], frames[i : i + 1], options, [name])[0]
        assert together[i].tokens == alone.tokens and together[i].adapter == name
        assert together[i].logprob == pytest.approx(alone.logprob, abs=1e-4)


def test_more_beams_never_find_a_worse_sum_where_length_does_not_count():
    recognizer, (x, frames) = lively_recognizer(1), features()
    sums = [
        [sum(h.token_logprobs) for h in beams(recognizer, x, frames, DecodingOptions(stop_loops=False, beams=width, length_penalty=0.0, max_new_tokens=12))]
        for width in (1, 8)
    ]
    assert sum(sums[1]) > sum(sums[0])


def test_beams_that_loop_are_stopped_and_cut_where_all_do():
    recognizer, (x, frames) = looping_recognizer(), features(2)
    whole = beams(recognizer, x, frames, DecodingOptions(stop_loops=False, beams=2))
    cut = beams(recognizer, x, frames, DecodingOptions(beams=2))
    assert all(h.looped and len(h.tokens) == 60 for h in whole)
    for short in cut:
        assert short.looped and not short.finished and len(short.tokens) < 30 and len(short.token_logprobs) == len(short.tokens)


def test_stopping_loops_changes_nothing_where_there_are_none():
    recognizer, (x, frames) = lively_recognizer(1), features()
    with_, without = (beams(recognizer, x, frames, DecodingOptions(stop_loops=stop, beams=3, max_new_tokens=20)) for stop in (True, False))
    assert [h.tokens for h in with_] == [h.tokens for h in without]


def scripted(recognizer, monkeypatch, probabilities) -> None:
    """Let the decoder give `probabilities(step)`: {token: p}, to every beam."""
    real, steps = recognizer.decode, itertools.count()

    def decode(encoded, tokens, **more):
        logits, cache = real(encoded, tokens, **more)
        p = torch.full_like(logits[:, -1], 1e-9)
        for token, rng in probabilities(next(steps)).items():
            p[:, token] = rng
        logits[:, -1] = p.log()
        return logits, cache

    monkeypatch.setattr(recognizer, "decode", decode)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_that_a_stopped_loop_leaves_with_fewer_beams_goes_on(rows, monkeypatch):
    recognizer, (x, frames) = tiny_recognizer(0, source=200), features(2)
    end = recognizer.end
    scripted(recognizer, monkeypatch, lambda step: {1: 0.7, 2: 0.29} if step == 0 else {3: 0.99} if step < 24 else {end: 0.5, 3: 0.3, 4: 0.2})
    found = beams(recognizer, x[:rows], frames[:rows], DecodingOptions(beams=2))
    assert len(found) == rows and all(h.finished and h.tokens[0] == 1 for h in found)


def test_beams_tell_the_log_probabilities_that_greedy_search_tells():
    recognizer, (x, frames) = lively_recognizer(0), features()
    with torch.no_grad():
        encoded = recognizer.encode(x, frames)
    prompts = [recognizer.prompt(lang="sw")] * len(x)
    never = tuple({h.tokens[0] for h in greedy(recognizer, encoded, prompts)})
    one, other = (search(recognizer, encoded, prompts, options=DecodingOptions(stop_loops=False, beams=1, suppress=never)) for search in (greedy, beam_search))
    assert [h.tokens for h in one] == [h.tokens for h in other]
    assert [h.logprob for h in one] == pytest.approx([h.logprob for h in other], abs=1e-4)
