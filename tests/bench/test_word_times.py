"""What is said of word times."""

from types import SimpleNamespace

import numpy as np
import pytest

from asrpeft.decoding.words import Word
from scripts import synthesis
from scripts.bench import word_times
from scripts.bench.word_times import Said, apart, measured, table

TRUTH = (Word("a", 0.5, 1.0), Word("b", 1.0, 1.6))
HEADS = SimpleNamespace(
    base=SimpleNamespace(config=SimpleNamespace(decoder_layers=2, decoder_attention_heads=2)), generation=SimpleNamespace(alignment_heads=[[0, 1]])
)


def test_a_way_is_told_by_how_far_and_how_late_it_is():
    found = apart([0.4, 1.0, 1.9], [0.5, 1.0, 1.6])
    assert found == {"off_s": pytest.approx(0.1), "later_s": 0, "within_0.1_s": pytest.approx(2 / 3), "within_0.2_s": pytest.approx(2 / 3)}


def test_ways_are_compared_on_the_sentences_that_all_could_time(monkeypatch):
    late = tuple(word.later(0.15) for word in TRUTH)
    answers, asked = iter([{"one": TRUTH, "two": late}, {"one": TRUTH, "two": None}]), []
    monkeypatch.setattr(word_times, "ways", lambda recognizer, said, others: asked.append(others) or next(answers))
    found = measured(HEADS, [Said(np.zeros(32_000, np.float32), TRUTH)] * 2, seed=0)
    assert {way: one["words"] for way, one in found.items()} == {"one": 2, "two": 2}
    assert found["one"]["start"]["off_s"] == 0 and found["two"]["end"]["later_s"] == pytest.approx(0.15)
    assert found["two"]["start"]["within_0.1_s"] == 0 and found["two"]["start"]["within_0.2_s"] == 1
    assert len(asked[0]) == 1 and [0, 1] not in map(list, asked[0])
    assert "+0.150" in str(table("some", found))


def test_words_begin_after_pauses_as_the_synthesizer_tells_them(tmp_path):
    """Labels as festival writes them: ends and names."""
    (tmp_path / "0.words").write_text("#\n0.5000 100 One \n1.2000 100 two \n1.5000 100 three \n")
    (tmp_path / "0.segs").write_text("#\n0.2000 100 pau\n0.5000 100 w\n0.7000 100 pau\n1.2000 100 t\n1.5000 100 th\n1.9000 100 pau\n")
    assert synthesis._read_words(tmp_path / "0", "latin-1") == [("one", 0.2, 0.5), ("two", 0.7, 1.2), ("three", 1.2, 1.5)]
