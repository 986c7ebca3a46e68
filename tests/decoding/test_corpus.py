"""A corpus in batches: every utterance as it would be alone, in the corpus' order, with what was skipped."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from asrpeft.batching import by_budget
from asrpeft.decoding import decode_rows, make_row, transcribe_corpus
from asrpeft.decoding.batch import encode_rows
from asrpeft.errors import BadAudio, BadInput, BadRoute
from asrpeft.options import DecodingOptions
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import corpus
from tests.decoding.test_greedy import perturb

SECONDS = [1.3, 0.4, 2.2, 0.8, 3.1, 1.9]


@pytest.fixture(scope="module")
def recognizer():
    made = lively_recognizer(1, source=1500)
    languages = sorted(made.generation.lang_to_id.values())
    with torch.no_grad():  # languages that matter, and are never written
        made.base.model.decoder.embed_tokens.weight[languages] *= 10
    made.generation.suppress_tokens = languages
    for number, name in enumerate("pq"):
        made.adapt("lora", name=name, lang="sw" if name == "p" else None, context="auto")
        perturb(made, name, number)
    return made


def by_length(utterance):
    return {0: "p", 1: None, 2: "q"}[int(utterance.id[1:]) % 3]


def test_every_utterance_is_written_as_it_is_alone_whatever_shares_its_batch(recognizer):
    spoken = corpus(SECONDS)
    for budget in (200, 100_000):
        heard = transcribe_corpus(recognizer, spoken, adapter=by_length, options=DecodingOptions(batch_frames=budget))
        assert [u.id for u in heard.utterances] == [u.id for u in spoken]
        for utterance, found in zip(heard.utterances, heard.hypotheses):
            row = make_row(recognizer, utterance.samples(), adapter=by_length(utterance), lang="sw")
            alone = decode_rows(recognizer, [row])[0]
            assert (found.tokens, found.adapter) == (alone.tokens, by_length(utterance))
    assert len(set(heard.texts)) > 3
    assert heard.audio_seconds == pytest.approx(sum(SECONDS), abs=1e-3) and heard.seconds > 0


@pytest.mark.parametrize("half", ["autocast", "bfloat16"])
def test_in_half_precision_rows_of_other_contexts_change_nothing_and_the_decoder_sums_in_float32(recognizer, half):
    if half == "bfloat16":
        recognizer = copy.deepcopy(recognizer)
        recognizer.base.model.encoder.bfloat16()
    rows = [make_row(recognizer, u.samples(), adapter=by_length(u), lang="sw") for u in corpus([0.4, 1.3, 0.2, 2.2, 0.3, 1.2])]
    together = encode_rows(recognizer, rows, autocast=half == "autocast")
    assert len(set(together.frames.tolist())) == 3 and together.mask.sum(1).tolist() == together.frames.tolist()
    for frames in set(together.frames.tolist()):
        own = [i for i, row in enumerate(rows) if row.frames == frames]
        alone = encode_rows(recognizer, [rows[i] for i in own], autocast=half == "autocast")
        assert alone.mask is None and torch.equal(together.states[own, :frames], alone.states)  # the very same computation
        assert not together.states[own, frames:].any() and torch.equal(together.speech[own], alone.speech)
    seen = []
    hook = recognizer.base.proj_out.register_forward_hook(lambda _, given, logits: seen.append((logits.dtype, torch.is_autocast_enabled("cpu"))))
    found = decode_rows(recognizer, rows[:2], options=DecodingOptions(stop_loops=False, max_new_tokens=3), autocast=half == "autocast")
    hook.remove()
    assert seen and set(seen) == {(torch.float32, False)} and len(found) == 2


def test_what_cannot_be_read_is_skipped_with_its_reason(recognizer):
    spoken = corpus(SECONDS, broken=(1, 4))
    events = []
    heard = transcribe_corpus(recognizer, spoken, progress=lambda done, total: events.append((done, total)))
    assert [u.id for u in heard.utterances] == ["u0", "u2", "u3", "u5"] and len(heard.texts) == 4
    assert sorted(one.id for one in heard.skipped) == ["u1", "u4"] and all("u" in one.reason for one in heard.skipped)
    assert events[-1] == (6, 6)
    with pytest.raises(BadAudio, match="u[14]"):
        transcribe_corpus(recognizer, spoken, options=DecodingOptions(strict=True))


def test_an_utterance_over_thirty_seconds_is_skipped(recognizer):
    spoken = corpus([0.5, 30.5])
    assert [one.id for one in transcribe_corpus(recognizer, spoken).skipped] == ["u1"]


def test_the_language_is_the_given_one_else_the_utterances_else_the_adapters(recognizer):
    samples = corpus([0.5])[0].samples()
    token = recognizer.generation.lang_to_id
    mixed = corpus([0.5, 0.5], langs=("de", None))
    texts = {}
    for lang in ("de", "sw", "en"):
        row = make_row(recognizer, samples, lang=lang, adapter="p")
        assert row.prompt[1] == token[f"<|{lang}|>"]
        texts[lang] = decode_rows(recognizer, [row])[0].text
    assert len(set(texts.values())) > 1
    assert make_row(recognizer, samples, adapter="p").prompt[1] == token["<|sw|>"]
    heard = transcribe_corpus(recognizer, mixed, adapter="p")
    seen = [make_row(recognizer, mixed[i].samples(), adapter="p", lang=lang) for i, lang in enumerate(("de", "sw"))]
    assert [h.tokens for h in heard.hypotheses] == [decode_rows(recognizer, [row])[0].tokens for row in seen]
    with pytest.raises(BadInput, match="--lang"):
        transcribe_corpus(recognizer, mixed)


def test_a_language_the_base_has_no_token_for_needs_an_adapter_that_learned_it_or_a_proxy(recognizer):
    samples = corpus([0.5], langs=("bam",))
    with pytest.raises(BadInput, match="no token for the language 'bam'"):
        transcribe_corpus(recognizer, samples)
    assert transcribe_corpus(recognizer, samples, proxy_lang="yo").texts == transcribe_corpus(recognizer, samples, lang="yo").texts
    own = lively_recognizer(1, source=1500)
    own.adapt("lora", name="bam", lang="bam", context="auto")
    assert len(transcribe_corpus(own, samples, adapter="bam").texts) == 1


def test_a_context_nobody_was_trained_for_is_refused(recognizer):
    stock = lively_recognizer(1, source=1500)
    stock.info = dataclasses.replace(stock.info, contexts=("full",))
    with pytest.raises(BadInput, match="never trained on short"):
        transcribe_corpus(stock, corpus([0.5]), options=DecodingOptions(context="auto"))
    row = make_row(stock, corpus([0.5])[0].samples(), lang="sw")
    assert row.frames == 1500
    with pytest.raises(BadRoute):
        transcribe_corpus(recognizer, corpus([0.5]), adapter="nobody")


def test_rows_of_different_prompts_are_decoded_side_by_side(recognizer):
    samples = [u.samples() for u in corpus([0.6, 0.6, 1.1])]
    rows = [make_row(recognizer, x, lang="sw") for x in samples]
    rows[1] = dataclasses.replace(rows[1], prompt=(*range(5), *rows[1].prompt))
    assert [h.tokens for h in decode_rows(recognizer, rows)] == [decode_rows(recognizer, [row])[0].tokens for row in rows]


def test_batches_hold_as_many_padded_frames_as_were_asked_for():
    sizes = [10, 20, 30, 40, 50, 500, 5]
    batches = list(by_budget(sizes, lambda n: n, batch_frames=100))
    assert [n for batch in batches for n in batch] == sizes
    assert all(len(batch) * max(batch) <= 100 or len(batch) == 1 for batch in batches) and len(batches) < len(sizes)
    assert max(map(len, by_budget(sizes, lambda n: n, batch_frames=10_000, batch_size=2))) == 2
    assert list(by_budget([], len, batch_frames=1)) == []


def test_timestamps_stay_out_of_the_text(recognizer):
    stamped = transcribe_corpus(recognizer, corpus([0.6]), options=DecodingOptions(stop_loops=False, timestamps=True)).hypotheses[0]
    first = recognizer.generation.no_timestamps_token_id + 1
    assert stamped.tokens[0] >= first
    assert len(stamped.text) == sum(t < 60 for t in stamped.tokens)


def test_half_precision_is_an_option(recognizer):
    spoken = corpus([0.6, 1.1])
    plain, half = (
        transcribe_corpus(recognizer, spoken, adapter="p", options=DecodingOptions(stop_loops=False, max_new_tokens=6, autocast=on)) for on in (False, True)
    )
    for a, b in zip(plain.hypotheses, half.hypotheses):
        assert b.logprob == pytest.approx(a.logprob, abs=0.3) and b.logprob != a.logprob
