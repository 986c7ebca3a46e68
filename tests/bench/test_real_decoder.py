"""What is checked on a decoder of others, checked on our own."""

from pathlib import Path

import pytest

from asrpeft.corpus import read
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
