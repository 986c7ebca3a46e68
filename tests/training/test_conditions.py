"""Training with facts of rows: an adapter learns what a speaker means, and what to do for strangers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from asrpeft.adapters.conditions import Told, fit
from asrpeft.adapters.routing import Conditioned
from asrpeft.corpus import Corpus
from asrpeft.decoding.corpus import transcribe_corpus
from asrpeft.errors import BadCorpus
from asrpeft.training import TrainingData, train
from asrpeft.training.evaluation import loss_on
from asrpeft.training.examples import Examples
from tests.bases import tiny_recognizer
from tests.training.tones import options, tone, utterance

SOUND = tone(440, 0.4)


def alike(n: int = 8, swap: bool = False) -> Corpus:
    """Recordings that all sound the same: who speaks alone decides what was said."""
    return Corpus([utterance(i, speaker="ab"[(i + swap) % 2], audio=SOUND, seconds=0.4, text=("ab", "kl kl kl")[i % 2]) for i in range(n)], name="alike")


def loss(recognizer, corpus: Corpus, how) -> float:
    adapter = recognizer.adapters["x"]
    examples = Examples(TrainingData(corpus, recognizer.prompt(lang="en", adapter="x")), recognizer, context="auto")
    examples.told = Told(adapter.conditions)
    return loss_on(examples, recognizer, adapter, how.terms(), how, skip=lambda _: None)


@pytest.fixture(scope="module")
def trained():
    recognizer = tiny_recognizer()
    torch.manual_seed(0)
    recognizer.adapters.add(
        "flix", name="x", where="attention,ff", language="en", context="auto", conditions=fit(["speaker"], alike(), n_mels=recognizer.n_mels)
    )
    how = options(steps=25, lr=0.02, schedule="constant", warmup=0.0, batch_seconds=60.0)
    train(recognizer, "x", TrainingData(alike(), recognizer.prompt(lang="en", adapter="x")), options=how)
    return recognizer, how


def test_an_adapter_learns_what_a_speaker_means(trained):
    recognizer, how = trained
    right, wrong = loss(recognizer, alike(), how), loss(recognizer, alike(swap=True), how)
    nobody = loss(recognizer, Corpus([replace(u, speaker="c") for u in alike()], name="strangers"), how)
    assert right + 0.3 < min(nobody, wrong)


def test_decoding_a_corpus_tells_each_row_its_speaker_and_a_given_one_wins(trained):
    recognizer, _ = trained
    found = transcribe_corpus(recognizer, alike(), adapter="x", lang="en")
    one, other = found.texts[0], found.texts[1]
    assert one != other and found.texts == [one, other] * 4
    fixed = transcribe_corpus(recognizer, alike(), adapter=Conditioned("x", speaker="b"), lang="en")
    assert fixed.texts == [other] * 8


def test_a_stream_and_a_row_of_a_batch_hear_the_speaker_that_they_are_told(trained):
    from asrpeft.decoding.batch import decode_rows, make_row

    recognizer, _ = trained
    samples = alike()[0].samples()
    rows = [make_row(recognizer, samples, adapter=Conditioned("x", speaker=who), lang="en") for who in ("b", "a")] + [
        make_row(recognizer, samples, adapter="x", lang="en")
    ]
    texts = [found.text for found in decode_rows(recognizer, rows)]
    assert texts[0] != texts[1] and texts == [decode_rows(recognizer, [row])[0].text for row in rows]


def test_a_share_of_the_rows_is_told_nothing_the_same_ones_in_every_run():
    recognizer = tiny_recognizer()
    corpus = alike(60)
    told = Told(fit(["speaker", "audio:mel"], corpus, n_mels=recognizer.n_mels), unknown=0.25)
    examples = Examples(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, context="auto", nonspeech_share=0.2)
    examples.told = told
    facts = [examples.example(row, 1).facts for row in range(60)]
    again = [examples.example(row, 1).facts.keys() for row in range(60)]
    missing = sum("speaker" not in one for one in facts)
    assert 6 <= missing <= 26 and [one.keys() for one in facts] == again
    assert [examples.example(row, 2).facts.keys() for row in range(60)] != again
    assert all(examples.example(row, None).facts.keys() == {"speaker", "audio:mel"} for row in range(4))
    assert "speaker" not in examples.example(-1, 0).facts


def test_what_the_audio_says_is_the_same_in_training_and_in_decoding():
    from asrpeft.decoding.facts import listened

    recognizer = tiny_recognizer()
    corpus = alike(4)
    conditions = fit(["audio:mel"], corpus, n_mels=recognizer.n_mels)
    recognizer.adapters.add("film", name="x", language="en", context="auto", conditions=conditions)
    examples = Examples(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, context="auto")
    examples.told = Told(conditions)
    heard = listened(recognizer, "x", corpus[0].samples())
    assert conditions.encode(heard.facts) == pytest.approx(conditions.encode(examples.example(0, None).facts), abs=1e-4)


def test_a_corpus_that_cannot_tell_what_is_asked_is_refused_and_strangers_are_counted(trained):
    from asrpeft.decoding.facts import check_columns

    recognizer, _ = trained
    silent = Corpus([replace(u, speaker=None) for u in alike()], name="silent")
    with pytest.raises(BadCorpus, match="'x' is told the speaker of each row, and the corpus 'silent' has no such column.*--condition speaker="):
        check_columns(recognizer, silent, ["x"])
    assert check_columns(recognizer, silent, [None, Conditioned("x", speaker="a")]) == []
    strange = Corpus([replace(u, speaker="c" if i else "a") for i, u in enumerate(alike())], name="strange")
    assert check_columns(recognizer, strange, ["x"]) == ["1 of 2 values of 'speaker' are new to 'x' (c): it hears them as somebody unknown."]
