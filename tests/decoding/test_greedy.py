"""Greedy search: what `transformers` writes, for rows that use different adapters and contexts too."""

from __future__ import annotations

import pytest
import torch

from asrpeft.decoding import greedy
from asrpeft.decoding.hypothesis import GREEDY
from asrpeft.errors import BadInput, BadRoute
from asrpeft.methods import method, names
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import Recognizer
from tests.decoding.lively import features, generated, lively_recognizer, looping_recognizer


def perturb(recognizer: Recognizer, name: str, seed: int, scale: float = 0.3) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in recognizer.adapters[name].parameters():
            parameter.add_(torch.randn_like(parameter) * scale)


def written(recognizer: Recognizer, x, frames, adapters=None, options=GREEDY, lang="sw") -> list[list[int]]:
    """Encode and decode under the same adapters."""
    with recognizer.route(adapters), torch.no_grad():
        encoded = recognizer.encode(x, frames)
    found = greedy(recognizer, encoded, [recognizer.prompt(lang=lang)] * len(x), adapters=adapters, options=options)
    return [list(h.tokens) for h in found]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_writes_what_transformers_writes(seed):
    recognizer, (x, frames) = lively_recognizer(seed), features()
    ours = written(recognizer, x, frames)
    assert ours == generated(recognizer, x)
    assert len({len(row) for row in ours}) > 2, "the rows must end at different steps for this to say much"


def test_greedy_obeys_the_suppressed_tokens_of_the_generation_config():
    recognizer, (x, frames) = lively_recognizer(0), features()
    free = written(recognizer, x, frames)
    recognizer.generation.suppress_tokens = sorted({row[3] for row in free})
    recognizer.generation.begin_suppress_tokens = sorted({row[0] for row in free})
    ours = written(recognizer, x, frames)
    assert ours == generated(recognizer, x)
    assert not {t for row in ours for t in row} & set(recognizer.generation.suppress_tokens)
    assert not {row[0] for row in ours} & set(recognizer.generation.begin_suppress_tokens)


@pytest.mark.parametrize("latest_first", [None, 50])
def test_greedy_with_timestamps_writes_what_transformers_writes(latest_first):
    recognizer, (x, frames) = lively_recognizer(3), features()
    recognizer.generation.max_initial_timestamp_index = latest_first
    first = recognizer.generation.no_timestamps_token_id + 1
    with torch.no_grad():
        recognizer.base.model.decoder.embed_tokens.weight[first:] *= 3
    encoded = recognizer.encode(x, frames)
    prompts = [recognizer.prompt(lang="sw", timestamps=True)] * len(x)
    ours = [list(h.tokens) for h in greedy(recognizer, encoded, prompts, options=DecodingOptions(stop_loops=False, timestamps=True))]
    assert ours == generated(recognizer, x, return_timestamps=True)
    stamps = [[t for t in row if t >= first] for row in ours]
    assert all(row and row[0] >= first for row in ours) and all(s == sorted(s) for s in stamps)
    assert any(t < recognizer.end for row in ours for t in row)


@pytest.mark.parametrize("name", names())
def test_generate_of_transformers_on_an_adapted_base_writes_what_greedy_writes(name):
    recognizer, (x, frames) = lively_recognizer(1), features(4)
    recognizer.adapt(name, name="a")
    perturb(recognizer, "a", 5)
    options = {"max_new_tokens": 8}
    with recognizer.route("a"):
        theirs = generated(recognizer, x, **options)
    assert written(recognizer, x, frames, "a", DecodingOptions(stop_loops=False, **options)) == theirs
    assert theirs != generated(recognizer, x, **options), "the adapter must matter for this to say much"


@pytest.mark.parametrize("kind", names())
def test_a_row_of_a_mixed_batch_is_written_as_that_row_alone(kind):
    recognizer = lively_recognizer(2)
    for number, name in enumerate("pq"):
        recognizer.adapt(kind, name=name)
        perturb(recognizer, name, number)
    if kind in ("prompt", "prefix"):  # of other lengths, so that padding is tested
        recognizer.adapt(kind, name="long", tokens=21)
        recognizer.adapters["long"].pieces.requires_grad_(False)
    adapters = ["p", None, "q", "long" if "long" in recognizer.adapters else "p"]
    contexts = [100, 170, 150, 50]
    x, frames = features(6, frames=[100, 200, 150, 50, 170, 100])
    x, frames = x[[0, 4, 2, 3]], frames[[0, 4, 2, 3]]
    options = DecodingOptions(stop_loops=False, max_new_tokens=None if "long" in recognizer.adapters else 8)
    together = written(recognizer, x[..., :340], frames, adapters, options)
    assert len(together[1]) == 5, "the base's row must end, and leave the batch, before the others"
    for i, name in enumerate(adapters):
        alone = written(recognizer, x[i : i + 1, :, : 2 * contexts[i]], frames[i : i + 1], name, options)
        # The mixed batch has fewer positions left where another row's prompt is long.
        room = 64 - 4 - max(recognizer.adapters[adapter].prompt_rows() for adapter in adapters if adapter)
        assert together[i] == alone[0][: len(together[i])] and len(together[i]) in (len(alone[0]), room), (i, name)


@pytest.mark.parametrize("name", [name for name in names() if method(name).mergeable])
def test_a_merged_adapter_writes_what_the_routed_one_wrote(name):
    recognizer, (x, frames) = lively_recognizer(3), features(4)
    recognizer.adapt(name, name="a")
    perturb(recognizer, "a", 7)
    options = DecodingOptions(stop_loops=False, max_new_tokens=8)
    plain, routed = written(recognizer, x, frames, None, options), written(recognizer, x, frames, "a", options)
    recognizer.adapters.merge("a")
    assert routed == written(recognizer, x, frames, "a", options) != plain
    recognizer.adapters.unmerge()
    assert written(recognizer, x, frames, None, options) == plain


def test_methods_of_different_kinds_share_a_batch():
    recognizer = lively_recognizer(4)
    recognizer.adapt("lora", name="weights", where="encoder,decoder.*.q_proj")
    recognizer.adapt("prompt", name="prompt", tokens=5)
    recognizer.adapt("prefix", name="prefix", tokens=3)
    perturb(recognizer, "weights", 0)
    adapters, contexts = ["prompt", "weights", None, "prefix"], [50, 120, 150, 200]
    x, frames = features(4, frames=contexts)
    options = DecodingOptions(stop_loops=False, max_new_tokens=40)
    together = written(recognizer, x, frames, adapters, options)
    alone = [written(recognizer, x[i : i + 1, :, : 2 * contexts[i]], frames[i : i + 1], adapters[i], options)[0] for i in range(4)]
    assert together == alone


def test_the_longest_prompt_may_leave_the_batch_first():
    recognizer = lively_recognizer(0)
    recognizer.adapt("prompt", name="short", tokens=2)
    recognizer.adapt("prompt", name="long", tokens=9)
    x, frames = features(6)
    options = DecodingOptions(stop_loops=False, max_new_tokens=40)
    ends = [len(row) for row in written(recognizer, x, frames, "long", options)]
    first = min(range(6), key=ends.__getitem__)
    adapters = ["long" if i == first else "short" if i % 2 else None for i in range(6)]
    together = written(recognizer, x, frames, adapters, options)
    assert len(together[first]) < max(map(len, together))
    assert together == [written(recognizer, x[i : i + 1], frames[i : i + 1], adapters[i], options)[0] for i in range(6)]


def test_log_probabilities_and_no_speech_are_those_of_one_teacher_forced_pass():
    recognizer, (x, frames) = lively_recognizer(1), features()
    encoded, prompt = recognizer.encode(x, frames), recognizer.prompt(lang="sw")
    for row, found in enumerate(greedy(recognizer, encoded, [prompt] * len(x))):
        tokens = [*prompt, *found.tokens] + [recognizer.end] * found.finished
        with torch.no_grad():
            logits, _ = recognizer.decode(encoded.take(torch.tensor([row])), torch.tensor([tokens]))
        logprobs = logits[0].float().log_softmax(-1)
        result = [float(logprobs[i - 1, tokens[i]]) for i in range(len(prompt), len(tokens))]
        assert found.token_logprobs == pytest.approx(result, abs=1e-3)
        assert found.logprob == pytest.approx(sum(result) / len(result), abs=1e-3)
        assert found.no_speech_prob == pytest.approx(float(logprobs[0].exp()[recognizer.generation.no_timestamps_token_id - 1]), abs=1e-5)


def test_the_limit_is_the_decoders_positions_or_what_was_asked():
    recognizer, (x, frames) = lively_recognizer(0), features(2)
    recognizer.generation.suppress_tokens = [recognizer.end]
    assert [len(row) for row in written(recognizer, x, frames)] == [60, 60]
    assert [len(row) for row in written(recognizer, x, frames, options=DecodingOptions(stop_loops=False, max_new_tokens=7))] == [7, 7]
    assert not any(h.finished for h in greedy(recognizer, recognizer.encode(x, frames), [recognizer.prompt(lang="sw")] * 2))
    recognizer.adapt("prompt", name="p", tokens=16)
    assert [len(row) for row in written(recognizer, x, frames, "p")] == [44, 44]


def test_generate_beyond_the_positions_says_what_is_too_long():
    recognizer, (x, _) = lively_recognizer(0), features(1)
    recognizer.generation.suppress_tokens = [recognizer.end]
    recognizer.adapt("prompt", name="p", tokens=16)
    with recognizer.route("p"), pytest.raises(BadInput, match="16 prompt rows"):
        generated(recognizer, x, max_new_tokens=50)


def test_a_draw_is_a_function_of_the_row_and_the_seed():
    recognizer, (x, frames) = lively_recognizer(0), features(3)
    warm = DecodingOptions(stop_loops=False, temperature=1.0, seed=3)
    together = written(recognizer, x, frames, options=warm)
    assert together == written(recognizer, x, frames, options=warm)
    assert together != written(recognizer, x, frames, options=DecodingOptions(stop_loops=False, temperature=1.0, seed=4))
    assert together[1] == written(recognizer, x[1:2], frames[1:2], options=warm)[0]


def test_a_loop_is_reported_and_can_be_stopped():
    recognizer, (x, frames) = looping_recognizer(), features(2)
    encoded, prompts = recognizer.encode(x, frames), [recognizer.prompt(lang="sw")] * 2
    whole = greedy(recognizer, encoded, prompts)
    assert all(h.looped and len(h.tokens) == 60 for h in whole)
    cut = greedy(recognizer, encoded, prompts, options=DecodingOptions())
    for short, long in zip(cut, whole):
        assert short.looped and not short.finished and len(short.tokens) < 12
        assert short.tokens == long.tokens[: len(short.tokens)] and len(short.token_logprobs) == len(short.tokens)


def test_what_does_not_fit_is_refused_with_a_remedy():
    recognizer, (x, frames) = lively_recognizer(0), features(2)
    encoded, prompt = recognizer.encode(x, frames), recognizer.prompt(lang="sw")
    with pytest.raises(BadInput, match="of one length"):
        greedy(recognizer, encoded, [prompt, prompt[:-1]])
    with pytest.raises(BadInput, match="one name"):
        greedy(recognizer, encoded, [prompt] * 2, adapters=["a"])
    with pytest.raises(BadRoute, match="no adapter 'a'"):
        greedy(recognizer, encoded, [prompt] * 2, adapters=["a", None])
    with pytest.raises(BadInput, match="no room"):
        greedy(recognizer, encoded, [prompt * 16] * 2)
    for wrong in ({"max_new_tokens": 0}, {"beams": 0}, {"temperature": -1}, {"beams": 2, "temperature": 0.5}):
        with pytest.raises(BadInput):
            DecodingOptions(stop_loops=False, **wrong)


def test_a_loop_that_began_after_the_last_look_is_cut_too(monkeypatch):
    recognizer, (x, frames) = lively_recognizer(), features(1)
    real = recognizer.decode

    def decode(encoded, tokens, **more):  # 9, then 5 twenty-eight times, then the end
        logits, cache = real(encoded, tokens, **more)
        step = len(seen)
        seen.append(step)
        logits[:, -1] = -50.0
        logits[:, -1, 9 if step == 0 else 5 if step < 29 else recognizer.end] = 0.0
        return logits, cache

    seen = []
    monkeypatch.setattr(recognizer, "decode", decode)
    with torch.no_grad():
        (found,) = greedy(recognizer, recognizer.encode(x, frames), [recognizer.prompt(lang="sw")], options=DecodingOptions())
    assert found.looped and found.tokens == (9, 5) and len(found.token_logprobs) == 2
