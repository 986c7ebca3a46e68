"""`transcribe`: audio of any length becomes segments in time order; silence becomes nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from asrpeft.adapters.ctc import CTCHead
from asrpeft.corpus import AudioRef, Corpus, Utterance
from asrpeft.decoding import Options, decode_rows, make_row, transcribe_corpus
from asrpeft.errors import BadAudio, BadInput, BadRoute
from asrpeft.jobs import transcribe as job
from asrpeft.jobs.transcribe import pack, transcribe
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import wav
from tests.decoding.test_greedy import stir


@pytest.fixture(scope="module")
def recognizer():
    made = lively_recognizer(1, source=1500)
    made.generation.begin_suppress_tokens = [made.end]  # it always says something
    made.generation.suppress_tokens = list(range(made.end + 1, made.generation.no_timestamps_token_id))
    made.adapt("lora", name="p", lang="sw", context="auto")
    stir(made, "p", 1)
    return made


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))).astype(np.float32)


def test_short_audio_is_one_segment_whatever_form_it_comes_in(recognizer, tmp_path):
    data = wav(1.2, 3)
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    from_file, from_bytes = list(transcribe(recognizer, path, lang="sw")), list(transcribe(recognizer, data, lang="sw"))
    assert from_file == from_bytes and len(from_file) == 1
    one = from_file[0]
    assert (one.start, one.end, one.language, one.adapter) == (0.0, pytest.approx(1.2), "sw", None)
    assert one.text and one.text == one.text.strip()
    adapted = list(transcribe(recognizer, path, adapter="p"))[0]
    assert (adapted.adapter, adapted.language) == ("p", "sw") and adapted.text != one.text


@pytest.mark.parametrize(
    ("context", "expected"),
    [("auto", [(1.0, 3.0), (4.0, 9.0), (20.0, 31.5), (33.0, 34.0)]), ("full", [(1.0, 9.0), (20.0, 34.0)])],
)
def test_long_audio_is_read_where_speech_is(recognizer, monkeypatch, context, expected):
    spans = [(1.0, 3.0), (4.0, 9.0), (20.0, 31.5), (33.0, 34.0)]
    monkeypatch.setattr(job, "speech_segments", lambda samples, max_s: spans)
    monkeypatch.setattr(job, "MAX_SECONDS", 14.0)
    samples, told = noise(35.0), []
    options = Options(stop_loops=True, max_new_tokens=12)
    found = list(
        transcribe(
            recognizer, samples, lang="sw", context=context, options=options, progress=lambda *step: told.append(step)
        )
    )
    assert [(s.start, s.end) for s in found] == expected
    for segment in found:
        piece = samples[round(segment.start * 16_000) : round(segment.end * 16_000)]
        alone = decode_rows(recognizer, [make_row(recognizer, piece, lang="sw", context=context)], options=options)[0]
        assert segment.text == alone.text.strip()
    assert told[-1] == (expected[-1][1], pytest.approx(35.0))


def test_silence_gives_nothing(recognizer):
    assert list(transcribe(recognizer, np.zeros(16_000 * 31, np.float32), lang="sw")) == []
    assert list(transcribe(recognizer, np.zeros(16_000 * 2, np.float32), lang="sw", vad=True)) == []


def test_neighbours_are_packed_while_they_fit():
    spans = [(0.0, 4.0), (5.0, 9.0), (9.5, 10.5), (30.0, 45.0)]
    assert pack(spans, 10.0) == [(0.0, 9.0), (9.5, 10.5), (30.0, 45.0)]
    assert pack([], 10.0) == []


def test_timestamps_of_the_model_divide_a_segment(recognizer, monkeypatch):
    first = recognizer.generation.no_timestamps_token_id + 1
    written = [first, 1, 2, first + 30, first + 30, 3, first + 50, first + 50, 4, 5]
    real = job.decode_aligned

    def decode(recognizer, rows, **options):
        ((found, words),) = real(recognizer, rows, **options)
        assert rows[0].prompt[-1] != first - 1  # it was not told <|notimestamps|>
        return [(type(found)(**{**vars(found), "tokens": tuple(written)}), words)]

    monkeypatch.setattr(job, "decode_aligned", decode)
    found = list(transcribe(recognizer, noise(1.5), lang="sw", options=Options(timestamps=True)))
    assert [(s.start, pytest.approx(s.end), s.text) for s in found] == [
        (0.0, 0.6, "bc"),
        (0.6, 1.0, "d"),
        (1.0, 1.5, "ef"),
    ]


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_base_whose_generation_config_has_none_of_whispers_tables_decodes_as_with_them(timestamps):
    whole, bare = (lively_recognizer(1, source=1500) for _ in range(2))
    told = whole.generation
    table = {**told.lang_to_id, "<|notimestamps|>": told.no_timestamps_token_id, **{f"<|{k}|>": v for k, v in told.task_to_id.items()}}
    bare.tokenizer.convert_tokens_to_ids, bare.tokenizer.unk_token_id, bare.tokenizer.unk_token = table.get, None, None
    for key in ("lang_to_id", "no_timestamps_token_id", "task_to_id"):
        delattr(bare.generation, key)
    bare.__dict__.pop("languages", None)  # known anew
    found = [list(transcribe(one, noise(1.2), lang="sw", options=Options(timestamps=timestamps, max_new_tokens=8))) for one in (whole, bare)]
    assert found[0] == found[1]
    spoken = Corpus([Utterance("u", AudioRef(wav(1.2, 3), "u"), "a", lang="sw", duration=1.2)])
    assert transcribe_corpus(bare, spoken, proxy_lang="en", options=Options(max_new_tokens=4)).texts


def test_word_times_come_from_the_ctc_head_of_the_adapter_else_are_spread(recognizer):
    samples = noise(1.3)
    spread = list(transcribe(recognizer, samples, lang="sw", word_times=True))[0]
    assert [w.text for w in spread.words] == spread.text.split()
    head = CTCHead(16, ["<blank>", *"abcdefghijklmnopqrstuvwxyz "])
    adapter = recognizer.adapters["p"]
    adapter.ctc = head
    try:
        aligned = list(
            transcribe(recognizer, samples, adapter="p", word_times=True, options=Options(max_new_tokens=10))
        )[0]
    finally:
        adapter.ctc = None
    assert [w.text for w in aligned.words] == aligned.text.split()
    assert 0 <= aligned.words[0].start < aligned.words[-1].end <= 1.3
    assert not list(transcribe(recognizer, samples, lang="sw"))[0].words


def test_a_prompt_is_read_before_the_audio(recognizer, monkeypatch):
    monkeypatch.setattr(type(recognizer), "token", lambda self, text: {"<|startofprev|>": 65}[text])
    row = make_row(recognizer, noise(0.5), lang="sw", text_prompt=" Kwa heri ")
    plain = make_row(recognizer, noise(0.5), lang="sw")
    assert row.prompt == (65, *recognizer.encode_text(" Kwa heri"), *plain.prompt)
    assert len(make_row(recognizer, noise(0.5), lang="sw", text_prompt="x" * 500).prompt) < 40
    with torch.no_grad():
        assert list(transcribe(recognizer, noise(0.9), lang="sw", prompt="Kwa heri"))[0].text


def test_what_cannot_be_transcribed_is_said(recognizer, tmp_path):
    broken = tmp_path / "b.wav"
    broken.write_bytes(b"RIFFnothing")
    for source, error in (
        (broken, BadAudio),
        (tmp_path / "absent.wav", BadAudio),
        (np.zeros(0, np.float32), BadAudio),
        (np.zeros((2, 9), np.float32), BadInput),
    ):
        with pytest.raises(error):
            list(transcribe(recognizer, source, lang="sw"))
    with pytest.raises(BadInput, match="--lang"):
        list(transcribe(recognizer, noise(0.5)))
    with pytest.raises(BadRoute, match="no adapter"):
        list(transcribe(recognizer, noise(0.5), adapter="nobody"))


def test_the_json_of_a_transcript_can_be_read_back(recognizer):
    from asrpeft.decoding.writers import write

    found = list(transcribe(recognizer, noise(1.1), lang="sw", word_times=True))
    told = json.loads(write(found, "json"))
    assert (told["text"], told["language"]) == (found[0].text, "sw") and len(told["words"]) == len(found[0].words)
