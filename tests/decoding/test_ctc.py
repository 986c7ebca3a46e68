"""Decoding by the CTC head alone: exact against enumeration, and used wherever an adapter was trained without the decoder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import ctc_loss

from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.export import export_merged
from asrpeft.decoding.batch import decode_aligned, decode_rows, make_row, search, text_prefix
from asrpeft.decoding.ctc import best_path, prefix_beam_search
from asrpeft.errors import BadInput
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.transcribe import transcribe
from asrpeft.options import AdapterOptions, Data, DecodingOptions
from asrpeft.recognizer import load
from asrpeft.streaming.session import stream_decoder
from tests.bases import tiny_recognizer
from tests.decoding.test_joint import logprobs, spelled_by
from tests.recognizer.checkpoint import tiny_checkpoint
from tests.training.tones import options, tones

ALONE = DecodingOptions(stop_loops=False, ctc_weight=1.0, beams=1)


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(round(16_000 * seconds)).astype(np.float32) * 0.1


def with_head(recognizer, name: str = "c", *, decode_by: str = "ctc", seed: int = 0):
    """An adapter with a head that says something: random weights, large enough for characters to beat the blank."""
    torch.manual_seed(seed)
    adapter = recognizer.adapt("ia3", name=name, lang="en")
    adapter.ctc = CTCHead.for_texts(recognizer.base.config.d_model, ["abcdefg hij"])
    with torch.no_grad():
        adapter.ctc.weight.normal_(std=1.5)
        space, often = adapter.ctc.index[" "], adapter.ctc.index["g"]
        adapter.ctc.weight[[space, often]] = adapter.ctc.weight[[often, space]]
    recognizer.adapters.describe(name, ctc_vocabulary=adapter.ctc.vocabulary, decode_by=decode_by)
    return recognizer


def with_letters(recognizer):
    """The same recognizer with a tokenizer of letters, which gives back what it was given."""

    class Characters:
        unk_token, unk_token_id = "<unk>", -1
        letters = " abcdefghijklmnopqrstuvwxyz"

        def __call__(self, text, add_special_tokens=False):
            return type("Ids", (), {"input_ids": [self.letters.index(c) for c in text.lower() if c in self.letters]})

        def decode(self, tokens, skip_special_tokens=True):
            return "".join(self.letters[t] for t in tokens if t < len(self.letters))

        def convert_ids_to_tokens(self, ids):
            return [self.letters[t].replace(" ", "Ġ") if t < len(self.letters) else "" for t in ids]

        def convert_tokens_to_ids(self, text):
            return -1

    recognizer.tokenizer = Characters()
    return recognizer


@pytest.mark.parametrize("seed", range(8))
def test_prefix_beams_find_the_likeliest_text_among_all_texts(seed):
    table = logprobs(1, 6, 4, seed)[0]
    every: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=6):
        every[spelled_by(path)] = every.get(spelled_by(path), 0.0) + float(table[range(6), path].sum().exp())
    found = prefix_beam_search(table, 10_000)
    best = max(every, key=every.get)
    assert found[0][0] == best and found[0][1] == pytest.approx(np.log(every[best]), abs=1e-6)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


def test_a_text_of_long_audio_has_the_probability_that_torch_ctc_loss_gives_it():
    table = (4 * logprobs(1, 300, 12, 3)).log_softmax(-1)[0]  # peaked, as trained heads are
    text, value = prefix_beam_search(table, 30)[0]
    whole = -float(ctc_loss(table[:, None], torch.tensor([text]), [300], [len(text)], reduction="sum"))
    greedy = -float(ctc_loss(table[:, None], torch.tensor([best_path(table)]), [300], [len(best_path(table))], reduction="sum"))
    assert value <= whole + 1e-4 and value == pytest.approx(whole, rel=0.02) and whole >= greedy - 1e-4


def test_the_best_path_joins_repeats_and_drops_blanks():
    table = torch.full((9, 3), -9.0)
    table[range(9), [0, 1, 1, 0, 1, 2, 2, 2, 0]] = -0.01
    assert best_path(table) == (1, 1, 2)


def test_nothing_but_blanks_is_an_empty_text_that_is_sure_of_silence():
    recognizer = with_head(tiny_recognizer())
    with torch.no_grad():
        recognizer.adapters["c"].ctc.weight.zero_()
        recognizer.adapters["c"].ctc.bias[0] = 40.0
    for beams in (1, 3):
        [found] = decode_rows(recognizer, [make_row(recognizer, noise(1.0, 0), adapter="c")], options=DecodingOptions(stop_loops=False, beams=beams))
        assert found.text == "" and found.tokens == () and found.no_speech_prob == pytest.approx(1.0, abs=1e-4) and found.finished


@pytest.mark.parametrize("beams", [1, 4])
def test_in_a_mixed_batch_each_row_is_written_by_what_its_adapter_was_trained_for(beams):
    recognizer = with_head(tiny_recognizer())
    recognizer.adapt("lora", name="d", lang="en", rank=2)
    how = DecodingOptions(stop_loops=False, beams=beams, max_new_tokens=12)
    rows = [make_row(recognizer, noise(1.0 + 0.4 * n, n), adapter=name, lang="en", context="full") for n, name in enumerate(["c", "d", None, "c"])]
    together = decode_rows(recognizer, rows, options=how)
    alone = [decode_rows(recognizer, [row], options=how)[0] for row in rows]
    assert [one.text for one in together] == [one.text for one in alone]
    head = recognizer.adapters["c"].ctc
    letters = set(head.vocabulary[1:])
    assert set(together[0].text) <= letters and len(together[0].text.split()) and together[0].joint_logprobs == ()
    assert [one.adapter for one in together] == ["c", "d", None, "c"]


def test_an_adapter_trained_by_ctc_alone_never_asks_the_decoder_on_any_way_to_use_it(tmp_path, monkeypatch):
    recognizer = load(str(tiny_checkpoint(tmp_path / "base", n_mels=80)))
    done = finetune(
        recognizer,
        Data(tones(), dev=tones(4)),
        lang="en",
        method=AdapterOptions(name="c"),
        out=tmp_path / "c",
        training=options(steps=6, lr=0.05, head_lr=0.05, loss="ctc", dev_every=3),
    )
    assert done.training.kind == "wer" and recognizer.adapters["c"].manifest.decode_by == "ctc"

    def never(*_, **__):
        raise AssertionError("the decoder was asked")

    said = noise(1.2, 5)
    with torch.no_grad():  # so that something is said at all after six steps
        recognizer.adapters["c"].ctc.weight.normal_(std=2.0, generator=torch.Generator().manual_seed(0))
        recognizer.adapters["c"].ctc.bias.zero_()[0] = -5.0
    recognizer.adapters["c"].save(tmp_path / "c2")
    export_merged(recognizer, "c", tmp_path / "merged")
    monkeypatch.setattr(type(recognizer), "decode", never)
    want = "".join(segment.text for segment in transcribe(recognizer, said, adapter="c"))
    assert want
    again = load(str(tmp_path / "base"))
    again.adapters.load(tmp_path / "c2", name="x")
    merged = load(str(tmp_path / "merged"))
    assert merged.info.decode_by == "ctc"
    assert "".join(s.text for s in transcribe(again, said, adapter="x")) == want
    assert "".join(s.text for s in transcribe(merged, said)) == want
    assert " ".join(word.text for word in stream_decoder(recognizer, adapter="c")(said)) == want


def test_words_have_times_in_order_and_probabilities_of_the_head():
    recognizer = with_letters(with_head(tiny_recognizer()))
    [(found, words)] = decode_aligned(recognizer, [make_row(recognizer, noise(2.0, 1), adapter="c")])
    assert [word.text for word in words] == found.text.split() and len(words) > 1
    assert all(0 < word.probability <= 1 and 0 <= word.start <= word.end <= 2.0 + 0.1 for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert len({round(word.probability, 6) for word in words}) > 1


def test_committed_words_of_the_same_audio_are_not_written_again():
    recognizer = with_letters(with_head(tiny_recognizer()))
    row = make_row(recognizer, noise(2.0, 1), adapter="c", lang="en", context="full")
    [whole] = decode_rows(recognizer, [row])
    words = whole.text.split()
    [rest] = decode_rows(recognizer, [text_prefix(recognizer, row, " ".join(words[:2]))])
    assert rest.text.split() == words[2:]


def test_the_head_alone_can_be_asked_for_and_must_be_there():
    recognizer = with_head(tiny_recognizer(), decode_by="attention")
    row = make_row(recognizer, noise(1.5, 2), adapter="c", lang="en", context="full")
    [by_head] = decode_rows(recognizer, [row], options=ALONE)
    recognizer.adapters.describe("c", decode_by="ctc")
    assert by_head == decode_rows(recognizer, [row], options=DecodingOptions(stop_loops=False))[0]
    with pytest.raises(BadInput, match="has no CTC head"):
        decode_rows(recognizer, [make_row(recognizer, noise(1.0, 0), lang="en", context="full")], options=ALONE)
    encoded = recognizer.encode(torch.randn(1, recognizer.n_mels, 200), torch.tensor([100]))
    assert search(recognizer, encoded, [row.prompt], adapters="c", options=ALONE)[0].adapter == "c"
