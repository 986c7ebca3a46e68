"""A stream through a recognizer: the adapter that was chosen is the one that hears, and the words are the offline
ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from asrpeft.adapters import Conditioned
from asrpeft.adapters.conditions import Condition, Conditions
from asrpeft.adapters.ctc import CTCHead
from asrpeft.audio.vad import speech_segments
from asrpeft.corpus import AudioRef, Corpus, Utterance
from asrpeft.decoding import decode_rows, make_row, transcribe_corpus
from asrpeft.decoding.rules import SuppressFirst, rules_for
from asrpeft.errors import BadInput, BadRoute
from asrpeft.jobs.checks import confidences
from asrpeft.jobs.transcribe import transcribe
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import load
from asrpeft.scoring import score
from asrpeft.streaming import names, stream_decoder, transcript
from tests.audio.test_vad import silence, voice
from tests.decoding.lively import lively_recognizer
from tests.decoding.test_greedy import perturb
from tests.streaming.hearing import run


class Wordy:
    """The tests' tokenizer with a space before every third letter, so that there are words."""

    def __init__(self, plain):
        self.plain = plain

    def __getattr__(self, name):
        return getattr(self.plain, name)

    def __call__(self, text, add_special_tokens=False):
        return self.plain(text)

    def decode(self, tokens, skip_special_tokens=True):
        return "".join((" " if t % 3 == 0 else "") + chr(97 + t % 26) for t in tokens if t < 60)


@pytest.fixture(scope="module")
def recognizer():
    made = lively_recognizer(1, source=1500)
    made.tokenizer = Wordy(made.tokenizer)
    for number, name in enumerate("pq"):
        made.adapt("lora", name=name, lang="sw", context="auto")
        perturb(made, name, number)
    return made


@pytest.fixture(scope="module")
def talk():
    return np.concatenate([silence(0.6), voice(1.6), silence(1.0), voice(1.3, 1), silence(0.8)])


def test_the_chosen_adapter_is_the_one_that_hears(recognizer, talk):
    heard = {}
    for name in (None, "p", "q"):
        events = run(talk, [4_000, 333], decode=stream_decoder(recognizer, adapter=name, lang="sw"), settings={"step_s": 5})
        offline = list(transcribe(recognizer, talk, adapter=name, lang="sw", vad=True))
        heard[name] = transcript(events)
        assert heard[name] == " ".join(one.text for one in offline)
    assert len(set(heard.values())) == 3


@pytest.mark.parametrize("method", ["parallel", "encoder_prompt", "dept", "special_token", "lst"])
def test_an_adapter_of_whatever_place_hears_a_stream_as_it_hears_the_recording(recognizer, talk, method):
    recognizer.adapt(method, name=method, lang="sw", context="auto")
    perturb(recognizer, method, 3)
    try:
        options = DecodingOptions(stop_loops=False, max_new_tokens=12)
        events = run(talk, [4_000, 333], decode=stream_decoder(recognizer, adapter=method, options=options), settings={"step_s": 5})
        offline = list(transcribe(recognizer, talk, adapter=method, vad=True, decoding=options))
        assert transcript(events) == " ".join(one.text for one in offline) != ""
    finally:
        recognizer.adapters.detach(method)


def test_a_stream_hears_with_what_is_told_of_its_speaker(recognizer, talk):
    adapter = recognizer.adapters.add(
        "film", name="told", language="sw", context="auto", conditions=Conditions([Condition("speaker", "category", ("anna", "ben"))])
    )
    perturb(recognizer, "told", 3, scale=1.0)
    try:
        options, heard = DecodingOptions(stop_loops=False, max_new_tokens=12), {}
        for speaker in ("anna", "ben"):
            row = Conditioned("told", speaker=speaker)
            heard[speaker] = transcript(
                run(talk, [4_000, 333], decode=stream_decoder(recognizer, adapter=row, lang="sw", options=options), settings={"step_s": 5})
            )
            offline = list(transcribe(recognizer, talk, adapter=row, lang="sw", vad=True, decoding=options))
            assert heard[speaker] == " ".join(one.text for one in offline) != ""
        assert heard["anna"] != heard["ben"] and adapter.conditions is not None
    finally:
        recognizer.adapters.detach("told")


@pytest.mark.parametrize("policy", names())
def test_a_stream_through_a_recognizer_does_not_depend_on_its_chunks(recognizer, talk, policy):
    hear = stream_decoder(recognizer, adapter="p", options=DecodingOptions(stop_loops=False, max_new_tokens=20))
    whole = run(talk, decode=hear, policy=policy, settings={"step_s": 0.5})
    assert run(talk, [777] * 40, decode=hear, policy=policy, settings={"step_s": 0.5}) == whole
    assert transcript(whole)


def test_committed_words_are_continued_not_repeated(recognizer, talk):
    (a, b), *_ = speech_segments(talk)
    samples = talk[round(a * 16_000) : round(b * 16_000)]
    hear = stream_decoder(recognizer, adapter="p", options=DecodingOptions(stop_loops=False, max_new_tokens=8))
    said = " ".join(word.text for word in hear(samples)[:2])
    row = make_row(recognizer, samples, adapter="p")
    prompted = type(row)(samples, row.frames, (*row.prompt, *recognizer.encode_text(" " + said)), "p")
    want = decode_rows(recognizer, [prompted], options=DecodingOptions(stop_loops=False, max_new_tokens=8))[0].text.split()
    assert [word.text for word in hear(samples, said)] == want


@pytest.mark.parametrize("times", ["spread", "attention", "ctc"])
@pytest.mark.parametrize(
    "options",
    [DecodingOptions(stop_loops=False, max_new_tokens=12), DecodingOptions(stop_loops=False, max_new_tokens=12, beams=2, ctc_weight=0.3)],
    ids=["greedy", "joint"],
)
def test_a_word_has_one_probability_in_transcripts_streams_and_evaluations_wherever_its_times_come_from(recognizer, talk, monkeypatch, times, options):
    torch.manual_seed(0)  # the head is random: some say one word only
    head = CTCHead(16, ["<blank>", *"abcdefghijklmnopqrstuvwxyz "])
    monkeypatch.setattr(recognizer, "ctc_head", lambda name: head)
    monkeypatch.setattr(recognizer.generation, "alignment_heads", [[0, 0]] if times == "attention" else None, raising=False)
    if times != "ctc":
        monkeypatch.setattr("asrpeft.decoding.batch.align", lambda *_: None)
    (a, b), *_ = speech_segments(talk)
    samples = talk[round(a * 16_000) : round(b * 16_000)]
    offline = [word for one in transcribe(recognizer, samples, adapter="p", decoding=options, word_times=True) for word in one.words]
    live = stream_decoder(recognizer, adapter="p", options=options)(samples)
    spoken = Corpus([Utterance("u", AudioRef(lambda: wav_of(samples), "u"), "x", duration=len(samples) / 16_000)])
    heard = transcribe_corpus(recognizer, spoken, adapter="p", options=options)
    known = confidences(recognizer, score(["x"], heard.texts, normalizer="none"), heard, normalizer="none")[0]
    assert len(known) > 1 and len(set(known)) > 1
    assert [word.probability for word in offline] == pytest.approx(known) == [word.probability for word in live]


def wav_of(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def test_what_does_not_fit_is_said_before_the_stream_begins(recognizer):
    with pytest.raises(BadRoute, match="no adapter 'nobody'"):
        stream_decoder(recognizer, adapter="nobody")
    with pytest.raises(BadInput, match="--lang"):
        stream_decoder(recognizer)
    with pytest.raises(BadInput, match="timestamp"):
        stream_decoder(recognizer, lang="sw", options=DecodingOptions(stop_loops=False, timestamps=True))


def test_where_nothing_is_left_to_say_nothing_is_said_though_a_text_may_not_begin_with_its_end():
    made = lively_recognizer(1, source=1500)
    prompt = made.prompt(lang="sw")
    made.generation.begin_suppress_tokens = [made.end]
    logits = torch.zeros(2, made.base.config.vocab_size)
    (rule,) = [one for one in rules_for(made, prompts=[prompt, [*prompt, 5, 6]]) if isinstance(one, SuppressFirst)]
    ruled = rule(logits, torch.zeros(2, 0, dtype=torch.long))
    assert ruled[0, made.end] == float("-inf") and ruled[1, made.end] == 0


def test_what_goes_on_after_committed_words_begins_with_a_new_word():
    base = load()
    prompt = base.prompt(lang="en")
    said, thai = [*prompt, *base.encode_text(" the sch")], [*prompt, *base.encode_text(" สวัส")]
    word, ending = base.encode_text(" the")[0], base.encode_text("s")[0]
    rules = [one for one in rules_for(base, prompts=[prompt, said, thai]) if isinstance(one, SuppressFirst)]
    logits = torch.zeros(3, base.base.config.vocab_size)
    for rule in rules:
        logits = rule(logits, torch.zeros(3, 0, dtype=torch.long))
    assert (logits[:, word] == 0).all() and (logits[:, base.end] == 0).all()
    assert (logits[:, ending] == float("-inf")).tolist() == [False, True, False]


@pytest.mark.parametrize("prompt", [None, "names " * 30])
def test_a_long_sentence_never_leaves_the_decoder_without_room(prompt):
    made = lively_recognizer(1, source=1500)
    made.tokenizer = Wordy(made.tokenizer)
    if prompt is not None:
        real = made.tokenizer.plain.convert_tokens_to_ids
        made.tokenizer.plain.convert_tokens_to_ids = lambda text: 69 if text == "<|startofprev|>" else real(text)
        made.tokenizer.plain.unk_token_id = None
    hear = stream_decoder(made, lang="sw", options=DecodingOptions(context="full", prompt=prompt))
    assert isinstance(hear(np.zeros(16_000, np.float32), "ab " * 200), list)
