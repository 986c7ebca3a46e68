"""A stream through a recogniser: the adapter that was chosen is the one that hears, and the words are the offline
ones."""

from __future__ import annotations

import numpy as np
import pytest

from asrpeft.audio.vad import speech_segments
from asrpeft.decoding import Options, decode_rows, make_row
from asrpeft.errors import BadInput, BadRoute
from asrpeft.jobs.transcribe import transcribe
from asrpeft.streaming import ear, names, transcript
from tests.audio.test_vad import silence, voice
from tests.decoding.lively import lively_recognizer
from tests.decoding.test_greedy import stir
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
        stir(made, name, number)
    return made


@pytest.fixture(scope="module")
def talk():
    return np.concatenate([silence(0.6), voice(1.6), silence(1.0), voice(1.3, 1), silence(0.8)])


def test_the_chosen_adapter_is_the_one_that_hears(recognizer, talk):
    heard = {}
    for name in (None, "p", "q"):
        events = run(talk, [4_000, 333], decode=ear(recognizer, adapter=name, lang="sw"), settings={"step_s": 5})
        offline = list(transcribe(recognizer, talk, adapter=name, lang="sw", vad=True))
        heard[name] = transcript(events)
        assert heard[name] == " ".join(one.text for one in offline)
    assert len(set(heard.values())) == 3


@pytest.mark.parametrize("policy", names())
def test_a_stream_through_a_recogniser_does_not_depend_on_its_chunks(recognizer, talk, policy):
    hear = ear(recognizer, adapter="p", options=Options(max_new_tokens=20))
    whole = run(talk, decode=hear, policy=policy, settings={"step_s": 0.5})
    assert run(talk, [777] * 40, decode=hear, policy=policy, settings={"step_s": 0.5}) == whole
    assert transcript(whole)


def test_committed_words_are_continued_not_repeated(recognizer, talk):
    (a, b), *_ = speech_segments(talk)
    samples = talk[round(a * 16_000) : round(b * 16_000)]
    hear = ear(recognizer, adapter="p", options=Options(max_new_tokens=8))
    said = " ".join(word.text for word in hear(samples)[:2])
    row = make_row(recognizer, samples, adapter="p")
    prompted = type(row)(samples, row.frames, (*row.prompt, *recognizer.encode_text(" " + said)), "p")
    want = decode_rows(recognizer, [prompted], options=Options(max_new_tokens=8))[0].text.split()
    assert [word.text for word in hear(samples, said)] == want


def test_what_does_not_fit_is_said_before_the_stream_begins(recognizer):
    with pytest.raises(BadRoute, match="no adapter 'nobody'"):
        ear(recognizer, adapter="nobody")
    with pytest.raises(BadInput, match="--lang"):
        ear(recognizer)
    with pytest.raises(BadInput, match="timestamp"):
        ear(recognizer, lang="sw", options=Options(timestamps=True))
