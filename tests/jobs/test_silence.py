"""A corpus of silence is not trained on, and one with much of it is not without a word."""

from __future__ import annotations

import pytest

from asrpeft.corpus import Corpus
from asrpeft.errors import BadCorpus
from asrpeft.jobs.finetune import finetune
from asrpeft.options import Data
from asrpeft.training import Message
from tests.bases import tiny_recognizer
from tests.training.tones import options, tone, utterance


def corpus(n_silent, n_sounding):
    silence = [utterance(i, audio=tone(0.0, 0.5), seconds=0.5) for i in range(n_silent)]
    return Corpus([*silence, *(utterance(n_silent + i) for i in range(n_sounding))], name="c")


def notes(data) -> list[str]:
    said = []
    finetune(tiny_recognizer(), Data(data, dev=Corpus([utterance(99)])), lang="en", training=options(steps=1), progress=said.append)
    return [e.text for e in said if isinstance(e, Message) and "hold no sound" in e.text]


def test_a_silent_corpus_is_refused_before_anything_is_attached():
    recognizer = tiny_recognizer()
    with pytest.raises(BadCorpus, match="c is silent: none of its 8 recordings.*-60 dB"):
        finetune(recognizer, Data(corpus(8, 0), dev=Corpus([utterance(99)])), lang="en", training=options(steps=1))
    assert len(recognizer.adapters) == 0


def test_much_silence_is_warned_of_and_a_little_is_not():
    (warning,) = notes(corpus(4, 8))
    assert "4 of 12 recordings" in warning and "data check" in warning
    assert notes(corpus(1, 11)) == []
