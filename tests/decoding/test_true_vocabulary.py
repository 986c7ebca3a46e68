"""Greedy search with Whisper's own vocabulary, and on the embedded base: token for token what `transformers` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from asrpeft.corpus import read
from asrpeft.decoding import decode_rows, make_row
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import BaseInfo, Recognizer, load
from asrpeft.recognizer.load import embedded
from tests.decoding import multilingual
from tests.decoding.lively import generated

needs_vocabulary = pytest.mark.skipif(multilingual.vocabulary() is None, reason="openai-whisper, whose package holds the vocabulary, is not installed")


def sounds(n: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    times = [np.arange(16_000 * (i + 1)) / 16_000 for i in range(n)]
    return [(0.3 * np.sin(2 * np.pi * (150 + 90 * i) * t * (1 + 0.2 * t)) + 0.05 * rng.standard_normal(len(t))).astype(np.float32) for i, t in enumerate(times)]


@needs_vocabulary
@pytest.mark.parametrize(
    ("text", "ids"),
    [(" hello world", [7751, 1002]), ("<|sw|>", [50318]), ("<|notimestamps|>", [50363]), (" Habari ya asubuhi", None)],
)
def test_the_tokenizer_made_for_these_tests_is_whispers_own(text, ids):
    made = multilingual.tokenizer()
    if ids is None:
        from whisper.tokenizer import get_tokenizer

        ids = get_tokenizer(True).encode(text)
    assert made(text, add_special_tokens=False).input_ids == ids
    assert made.decode(ids, skip_special_tokens=False) == text


@needs_vocabulary
def test_greedy_on_whisper_tinys_shape_writes_what_transformers_writes():
    recognizer = Recognizer(multilingual.tiny_shape(), multilingual.tokenizer(), BaseInfo(id="tiny-shape"))
    rows = [make_row(recognizer, x, lang="swahili") for x in sounds(2)]
    assert [row.frames for row in rows] == [1500] * 2
    found = decode_rows(recognizer, rows, options=DecodingOptions(stop_loops=False, max_new_tokens=16))
    extract = WhisperFeatureExtractor(feature_size=80)
    x = torch.from_numpy(np.stack([extract(s, sampling_rate=16_000).input_features[0] for s in sounds(2)])).double()
    ours = [list(h.tokens) for h in found]
    assert ours == generated(recognizer, x, lang="swahili", max_new_tokens=16)
    assert len(set(map(tuple, ours))) == 2 and all(len(set(row)) > 2 for row in ours)
    assert not {t for row in ours for t in row} & set(recognizer.generation.suppress_tokens)
    assert found[0].text == multilingual.tokenizer().decode([t for t in ours[0] if t < 50_257])


DEMO = Path(__file__).parents[2] / "data" / "demo" / "sw-test.parquet"


@pytest.mark.skipif(embedded() is None or not DEMO.is_file(), reason="this checkout has no data/mini or no data/demo")
def test_greedy_on_the_embedded_base_writes_what_transformers_writes():
    recognizer = load(device="cpu")
    spoken = [u.samples() for u in read(DEMO, limit=3)]
    extract = WhisperFeatureExtractor(feature_size=recognizer.n_mels)
    x = torch.from_numpy(np.stack([extract(s, sampling_rate=16_000).input_features[0] for s in spoken]))
    rows = [make_row(recognizer, s, lang="en", context="full") for s in spoken]
    found = decode_rows(recognizer, rows, options=DecodingOptions(stop_loops=False, max_new_tokens=60))
    assert [list(h.tokens) for h in found] == generated(recognizer, x, lang="en", max_new_tokens=60)
    assert all(h.finished and h.text.strip() for h in found)
