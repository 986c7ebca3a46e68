"""What is checked on a decoder of others: that the check sees what is right and what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from asrpeft.corpus import Corpus, read
from asrpeft.decoding.words import Word
from asrpeft.recognizer.load import embedded, load
from asrpeft.streaming import policies
from scripts.bench import real_decoder
from tests.methods.cases import perturb

DEMO = Path(__file__).parents[2] / "data" / "demo" / "sw-test.parquet"
pytestmark = pytest.mark.skipif(embedded() is None or not DEMO.is_file(), reason="this checkout has no data/mini or no data/demo")


@pytest.fixture(scope="module")
def base():
    return load()


@pytest.fixture(scope="module")
def spoken():
    """Some utterances of one speaker."""
    corpus = read(DEMO)
    return corpus.filter(lambda u: u.speaker == corpus.speakers[0])[:3]


def words(*starts):
    return tuple(Word("w", start, start + 0.1) for start in starts)


def test_times_are_compared_word_by_word_with_those_of_the_aligner(base, monkeypatch):
    named, asked = [tuple(head) for head in base.generation.alignment_heads], []
    found = iter([words(0.3, 0.9, 1.4), words(0.9, 0.9, 1.8)])

    def by_heads(recognizer, samples, text, heads):
        asked.append(heads)
        return next(found)

    monkeypatch.setattr(real_decoder, "by_heads", by_heads)
    monkeypatch.setattr(real_decoder, "by_ctc", lambda aligner, samples, text: words(0.2, 0.9, 1.6))
    monkeypatch.setattr(real_decoder, "heard", lambda recognizer, corpus: [(np.zeros(16_000, np.float32), "a b c")])
    measured = real_decoder.times(base, base, Corpus([]), seed=0)
    own, other = measured["alignment heads"], measured["other heads"]
    assert asked[0] == named and not set(asked[1]) & set(named)
    assert own["words"] == 3 and own["offset_s"] == 0 and own["median_s"] == pytest.approx(0.1) and own["near"] == pytest.approx(2 / 3)
    assert other["offset_s"] == pytest.approx(0.2) and other["median_s"] == pytest.approx(0.2)


def test_words_by_heads_are_the_true_ones_and_the_base_keeps_its_own_heads(base, spoken):
    before = base.generation.alignment_heads
    samples, text = next(iter(real_decoder.heard(base, spoken)))
    found = real_decoder.by_heads(base, samples, text, [[0, 2], [1, 0]])
    assert " ".join(word.text for word in found) == text and base.generation.alignment_heads == before
    assert all(a.start <= b.start for a, b in zip(found, found[1:]))


def test_streams_are_scored_as_the_recording_is(base, spoken, monkeypatch):
    """Against what the recording gives, the recording has no errors and streams have few."""
    score, written = real_decoder.score, []
    monkeypatch.setattr(real_decoder, "score", lambda references, hypotheses: written.append(hypotheses) or score(written[0], hypotheses))
    found = real_decoder.streams(base, spoken)
    assert set(found) == {"recording", *policies.names()} and found["recording"]["wer"] == 0 and found["vad"]["wer"] < 0.3
    assert found["vad"]["commits"] >= 2 and 0 < found["vad"]["latency_s"] < 3


def test_an_exported_adapter_writes_the_same(base, spoken):
    perturb(base.adapt("lora", name=real_decoder.ADAPTER, lang="en", where="attention"), by=0.02)
    try:
        found = real_decoder.exported(base, spoken[:2])
    finally:
        base.adapters.detach(real_decoder.ADAPTER)
    assert found["same"] == found["utterances"] == 2 and found["wer"] == found["wer_of_transformers"] > 0
