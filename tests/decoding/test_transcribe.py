"""`transcribe`: audio of any length becomes segments in time order; silence becomes nothing."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from asrpeft.adapters.ctc import CTCHead
from asrpeft.audio import log_mel
from asrpeft.audio.vad import PIECE, SpeechEvent, speech_segments
from asrpeft.corpus import AudioRef, Corpus, Utterance
from asrpeft.decoding import decode_rows, make_row, transcribe_corpus
from asrpeft.errors import BadAudio, BadInput, BadRoute
from asrpeft.jobs import transcribe as job
from asrpeft.jobs.transcribe import spoken, stretches_of, transcribe
from asrpeft.options import DecodingOptions, VadOptions
from asrpeft.streaming import Session, stream_decoder
from asrpeft.streaming import stream as events
from tests.audio.sounds import encoded
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import wav
from tests.decoding.test_greedy import perturb


@pytest.fixture(scope="module")
def recognizer():
    made = lively_recognizer(1, source=1500)
    made.generation.begin_suppress_tokens = [made.end]  # it always says something
    made.generation.suppress_tokens = list(range(made.end + 1, made.generation.no_timestamps_token_id))
    made.adapt("lora", name="p", lang="sw", context="auto")
    perturb(made, "p", 1)
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
    monkeypatch.setattr(job, "speech_events", lambda pieces, detector: told_in(pieces, spans))
    monkeypatch.setattr(job, "MAX_SECONDS", 14.0)
    samples, messages = noise(35.0), []
    options = DecodingOptions(max_new_tokens=12, context=context)
    asked = {"lang": "sw", "vad": VadOptions(max_s=14.0), "decoding": options}
    found = list(transcribe(recognizer, samples, progress=lambda *step: messages.append(step), **asked))
    assert [(s.start, s.end) for s in found] == expected
    for segment in found:
        piece = samples[round(segment.start * 16_000) : round(segment.end * 16_000)]
        alone = decode_rows(recognizer, [make_row(recognizer, piece, lang="sw", context=context)], options=options)[0]
        assert segment.text == alone.text.strip()
    assert messages[-1] == (expected[-1][1], pytest.approx(35.0))


def test_silence_gives_nothing(recognizer):
    assert list(transcribe(recognizer, np.zeros(16_000 * 31, np.float32), lang="sw")) == []
    assert list(transcribe(recognizer, np.zeros(16_000 * 2, np.float32), lang="sw", vad=True)) == []


def told_in(pieces, spans, late: float = 0.9):
    """Pieces with the events of `spans`, each told `late` seconds after it happened, as a detector does."""
    events = sorted([("start", a) for a, _ in spans] + [("end", b) for _, b in spans], key=lambda event: (event[1], event[0] == "start"))
    at = 0.0
    for piece in pieces:
        at += len(piece) / 16_000
        yield piece, [SpeechEvent(*events.pop(0)) for _ in list(events) if events[0][1] + late <= at]
    yield np.zeros(0, np.float32), [SpeechEvent(*event) for event in events]


SPANS = {
    "few": [(0.0, 4.0), (5.0, 9.0), (9.5, 10.5), (30.0, 45.0)],
    "none": [],
    "one after the other": [(float(at), at + 0.7) for at in range(59)],
    "a long silence": [(1.0, 2.0), (8.0, 9.0), (55.0, 58.0)],
    "cut where it was too long": [(0.0, 4.0), (5.0, 9.9), (9.9, 25.0), (25.0, 31.0)],
}


@pytest.mark.parametrize("size", [512, 7_000, 262_144])
@pytest.mark.parametrize("join_s", [0.0, 10.0])
@pytest.mark.parametrize("spans", SPANS.values(), ids=list(SPANS))
def test_speech_comes_with_its_samples_and_neighbors_are_joined_while_they_fit(spans, join_s, size):
    samples = np.arange(16_000 * 60, dtype=np.float32)
    pieces = [samples[at : at + size] for at in range(0, len(samples), size)]
    found = list(spoken(told_in(pieces, spans), join_s=join_s, look_back_s=1.0))
    joined: list = []
    for start, end in spans:
        if joined and end - joined[-1][0] <= join_s:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    assert [span for span, _ in found] == joined
    for (start, end), heard in found:
        np.testing.assert_array_equal(heard, samples[round(start * 16_000) : round(end * 16_000)])


def test_of_hours_only_what_may_be_needed_is_kept(monkeypatch):
    kept, real = [], job.AudioBuffer.forget_before

    def forget(buffer, time):
        real(buffer, time)
        kept.append(buffer.seconds)

    monkeypatch.setattr(job.AudioBuffer, "forget_before", forget)
    piece, spans = np.zeros(PIECE, np.float32), [(100.0 * n + 3.0, 100.0 * n + 5.0 + 20 * (n % 2)) for n in range(100)]
    found = spoken(told_in((piece for _ in range(620)), spans), join_s=30.0, look_back_s=1.0)
    assert [span for span, _ in found] == spans and max(kept) < 70


@pytest.mark.parametrize("context", ["auto", "full"])
def test_long_speech_in_pieces_is_that_of_the_whole(context):
    from tests.audio.test_vad import silence, voice

    talk = np.concatenate([part for n in range(8) for part in (silence(0.4 + n % 3), voice(2.0 + n, n))])
    whole = speech_segments(talk)
    found = list(stretches_of(job.recording(talk), context=context, vad=VadOptions()))
    edges = [edge for span, _ in found for edge in span]
    assert len(whole) > 2 and set(edges) <= {edge for span in whole for edge in span}
    assert (edges == [edge for span in whole for edge in span]) is (context == "auto")
    assert len(talk) > 2 * PIECE


def test_without_the_search_for_speech_long_audio_is_cut_where_it_is_quiet(recognizer):
    samples = noise(75.0)
    for quiet in (26.0, 52.0):
        samples[round((quiet - 0.2) * 16_000) : round((quiet + 0.2) * 16_000)] *= 0.01
    found = list(stretches_of(job.recording(samples), context="auto", vad=VadOptions(False)))
    np.testing.assert_allclose([span for span, _ in found], [(0, 26.0), (26.0, 52.0), (52.0, 75.0)], atol=0.2)
    np.testing.assert_array_equal(np.concatenate([heard for _, heard in found]), samples)
    short = list(transcribe(recognizer, noise(1.0), lang="sw", vad=False, decoding=DecodingOptions(stop_loops=False, max_new_tokens=3)))
    assert short == list(transcribe(recognizer, noise(1.0), lang="sw", decoding=DecodingOptions(stop_loops=False, max_new_tokens=3)))
    with pytest.raises(BadInput, match="30 s at most"):
        list(stretches_of(job.recording(samples), context="auto", vad=VadOptions(max_s=40.0)))
    with pytest.raises(BadInput, match="pad_s"):
        list(transcribe(recognizer, noise(1.0), lang="sw", vad=VadOptions(pad_s=3.0)))


def test_a_truncated_end_of_long_audio_is_told_before_the_work(recognizer, monkeypatch):
    monkeypatch.setattr(sys.modules["asrpeft.audio.decode"], "HELD_S", 1.0)
    whole = encoded(noise(40.0), kind="FLAC")
    with pytest.raises(BadAudio, match="truncated|cannot be decoded"):
        next(transcribe(recognizer, whole[: len(whole) // 2], lang="sw", vad=False))


def test_a_recording_that_comes_through_a_pipe_is_transcribed_and_errors_name_the_pipe(recognizer, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for data in (wav(1.2, 3), b"no audio"):
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        if data[:4] == b"RIFF":
            assert list(transcribe(recognizer, pipe, lang="sw")) == list(transcribe(recognizer, data, lang="sw"))
        else:
            with pytest.raises(BadAudio, match=f"^{pipe}: not an audio format"):
                list(transcribe(recognizer, str(pipe), lang="sw"))
        writer.join()


FORMS = [list, tuple, torch.tensor, np.float64, np.float16, lambda a: torch.tensor(a, requires_grad=True), lambda a: a[::-1].copy()[::-1]]


@pytest.mark.parametrize("form", FORMS)
def test_samples_come_in_any_form_that_holds_floats(recognizer, form):
    samples = noise(0.9).astype(np.float16).astype(np.float32)
    assert list(transcribe(recognizer, form(samples), lang="sw")) == list(transcribe(recognizer, samples, lang="sw"))
    assert make_row(recognizer, form(samples), lang="sw").samples.dtype == np.float32
    assert list(transcribe(recognizer, [0, 0, 0] * 400, lang="sw"))


@pytest.mark.parametrize(
    ("samples", "error", "said"),
    [
        ([], BadAudio, "no samples"),
        ([0.1, float("nan")], BadAudio, "NaN"),
        (np.array([0.1, np.inf]), BadAudio, "infinity"),
        (np.full(9, 1e300), BadAudio, "numbers over"),
        (torch.tensor([0.1, torch.nan]), BadAudio, "NaN"),
        ([1, 2, 3], BadInput, "16-bit PCM"),
        (np.zeros(9, np.int16), BadInput, "16-bit PCM"),
        (np.zeros((9, 2), np.float32), BadInput, r"float32 of shape \(9, 2\). Average"),
        ([[0.1, 0.2], [0.3]], BadInput, "got list"),
        (np.array(["a", "b"]), BadInput, "samples|Samples"),
        (np.zeros(9, np.complex64), BadInput, "complex64"),
        (None, BadInput, "NoneType"),
        (0.5, BadInput, "one array"),
        ({"array": [0.1]}, BadInput, "got dict"),
    ],
    ids=repr,
)
def test_samples_that_are_none_are_refused_in_words_by_every_door(recognizer, samples, error, said):
    doors = (
        lambda: list(transcribe(recognizer, samples, lang="sw")),
        lambda: make_row(recognizer, samples, lang="sw"),
        lambda: Session(stream_decoder(recognizer, lang="sw")).feed(samples),
        lambda: speech_segments(samples),
    )
    for number, door in enumerate(doors):
        if number > 1 and said == "no samples":
            continue  # a stream may pause
        with pytest.raises(error, match=said):
            door()


def test_contexts_of_nothing_are_refused_in_words(recognizer):
    for context in (0, "", "none"):
        with pytest.raises(BadInput, match="There is no audio context"):
            list(transcribe(recognizer, noise(0.5), lang="sw", decoding=DecodingOptions(context=context)))
    row = make_row(recognizer, noise(0.5), lang="sw", context="auto")
    with pytest.raises(BadInput, match="one frame at least|Contexts of"):
        decode_rows(recognizer, [replace(row, frames=0)])
    features = torch.zeros(1, recognizer.n_mels, 100)
    for frames in (torch.tensor([0]), torch.tensor([-1])):
        with pytest.raises(BadInput, match="do not fit"):
            recognizer.encode(features, frames)
    with pytest.raises(BadInput, match="do not fit"):
        recognizer.encode(features[:0], torch.zeros(0, dtype=torch.long))
    with pytest.raises(BadInput, match="one frame"):
        log_mel(torch.zeros(0))
    assert decode_rows(recognizer, []) == []


def test_a_stream_of_one_array_is_one_chunk(recognizer):
    talk = noise(1.0)
    forms = (talk, [talk], [list(talk[:900]), talk[900:]], torch.tensor(talk))
    message = [[(e.type, e.text) for e in events(Session(stream_decoder(recognizer, lang="sw")), given)] for given in forms]
    assert message[0] == message[1] == message[2] == message[3]


def test_timestamps_of_the_model_divide_a_segment(recognizer, monkeypatch):
    first = recognizer.generation.no_timestamps_token_id + 1
    written = [first, 1, 2, first + 30, first + 30, 3, first + 50, first + 50, 4, 5]
    real = job.decode_aligned

    def decode(recognizer, rows, **options):
        ((found, words),) = real(recognizer, rows, **options)
        assert rows[0].prompt[-1] != first - 1  # it was not told <|notimestamps|>
        return [(type(found)(**{**vars(found), "tokens": tuple(written)}), words)]

    monkeypatch.setattr(job, "decode_aligned", decode)
    found = list(transcribe(recognizer, noise(1.5), lang="sw", decoding=DecodingOptions(stop_loops=False, timestamps=True)))
    assert [(s.start, pytest.approx(s.end), s.text) for s in found] == [
        (0.0, 0.6, "bc"),
        (0.6, 1.0, "d"),
        (1.0, 1.5, "ef"),
    ]


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_base_whose_generation_config_has_none_of_whispers_tables_decodes_as_with_them(timestamps):
    whole, bare = (lively_recognizer(1, source=1500) for _ in range(2))
    message = whole.generation
    table = {**message.lang_to_id, "<|notimestamps|>": message.no_timestamps_token_id, **{f"<|{k}|>": v for k, v in message.task_to_id.items()}}
    bare.tokenizer.convert_tokens_to_ids, bare.tokenizer.unk_token_id, bare.tokenizer.unk_token = table.get, None, None
    for key in ("lang_to_id", "no_timestamps_token_id", "task_to_id"):
        delattr(bare.generation, key)
    bare.__dict__.pop("languages", None)  # known anew
    found = [
        list(transcribe(one, noise(1.2), lang="sw", decoding=DecodingOptions(stop_loops=False, timestamps=timestamps, max_new_tokens=8)))
        for one in (whole, bare)
    ]
    assert found[0] == found[1]
    spoken = Corpus([Utterance("u", AudioRef(wav(1.2, 3), "u"), "a", lang="sw", duration=1.2)])
    assert transcribe_corpus(bare, spoken, proxy_lang="en", options=DecodingOptions(stop_loops=False, max_new_tokens=4)).texts


def test_word_times_come_from_the_ctc_head_of_the_adapter_else_are_spread(recognizer):
    samples = noise(1.3)
    spread = list(transcribe(recognizer, samples, lang="sw", word_times=True))[0]
    assert [w.text for w in spread.words] == spread.text.split()
    head = CTCHead(16, ["<blank>", *"abcdefghijklmnopqrstuvwxyz "])
    adapter = recognizer.adapters["p"]
    adapter.ctc = head
    try:
        aligned = list(transcribe(recognizer, samples, adapter="p", decoding=DecodingOptions(stop_loops=False, max_new_tokens=10), word_times=True))[0]
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
        assert list(transcribe(recognizer, noise(0.9), lang="sw", decoding=DecodingOptions(prompt="Kwa heri")))[0].text


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
    report = json.loads(write(found, "json"))
    assert (report["text"], report["language"]) == (found[0].text, "sw") and len(report["words"]) == len(found[0].words)
