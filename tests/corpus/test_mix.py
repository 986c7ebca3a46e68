"""Several corpora as one: what they are called, how often each is drawn, and that nothing of a path is taken for a weight."""

from __future__ import annotations

import json

import pytest

from asrpeft.corpus import Corpus, read
from asrpeft.corpus.mix import called, draws, listed, weighted
from asrpeft.errors import BadCorpus, BadInput
from tests.audio.sounds import chirp, encoded


def manifest(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "a.wav").write_bytes(encoded(chirp(0.5)))
    path.write_text("\n".join(json.dumps({"audio": "a.wav", **row}) for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "given, want",
    [
        ("sw.jsonl:2", ("sw.jsonl", 2.0)),
        ("sw.jsonl:0.5", ("sw.jsonl", 0.5)),
        ("sw.jsonl:.25", ("sw.jsonl", 0.25)),
        ("sw.jsonl", ("sw.jsonl", 1.0)),
        ("sw.jsonl:1e2", ("sw.jsonl", 100.0)),
        ("sw.jsonl:x2", ("sw.jsonl:x2", 1.0)),
        ("sw.jsonl:", ("sw.jsonl:", 1.0)),
        (r"C:\data\sw.jsonl", (r"C:\data\sw.jsonl", 1.0)),
        (r"C:\data\sw.jsonl:2", (r"C:\data\sw.jsonl", 2.0)),
        ("C:/2:3", ("C:/2", 3.0)),
        ("hub:google/fleurs:sw_ke:train", ("hub:google/fleurs:sw_ke:train", 1.0)),
        ("hub:google/fleurs:sw_ke:train:2", ("hub:google/fleurs:sw_ke:train", 2.0)),
        ("hub:me/corpus:train:0.3", ("hub:me/corpus:train", 0.3)),
        ("hub:me/corpus:2", ("hub:me/corpus:2", 1.0)),
        ("hub:me/corpus:2:1", ("hub:me/corpus:2", 1.0)),
        ("hub:me/corpus:train[:10%]", ("hub:me/corpus:train[:10%]", 1.0)),
        ("hub:me/corpus:train[100:200]:2", ("hub:me/corpus:train[100:200]", 2.0)),
        ("hub:me/corpus:train[100:200]", ("hub:me/corpus:train[100:200]", 1.0)),
        ("data/train-*.parquet:2", ("data/train-*.parquet", 2.0)),
    ],
)
def test_a_weight_is_the_last_number_and_nothing_else_is(given, want):
    assert weighted(given) == want


def test_what_exists_as_it_is_written_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take:2").mkdir()
    assert weighted("take:2") == ("take:2", 1.0) and weighted("take:2:3") == ("take:2", 3.0) and weighted("take:3") == ("take", 3.0)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "0.0001", "1e9", "1001"])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(BadInput, match="0.001 to 1000"):
        weighted(f"a.jsonl:{weight}")


def test_specs_come_alone_in_a_list_or_with_weights_beside_them(tmp_path):
    assert listed("a:2") == [("a", 2.0)] and listed([tmp_path / "b", "c:3"]) == [(str(tmp_path / "b"), 1.0), ("c", 3.0)]
    assert listed({"a": 2, "b": 0.5}) == [("a", 2.0), ("b", 0.5)]
    for bad in ([], {"a": 0}):
        with pytest.raises(BadInput):
            listed(bad)


def test_corpora_of_one_name_are_told_apart_by_their_folders():
    assert called(["sw/train.jsonl", "en/train.jsonl", "de/test.jsonl"]) == ["sw/train.jsonl", "en/train.jsonl", "test.jsonl"]
    assert called(["a/x/t.csv", "b/x/t.csv", "t.csv"]) == ["a/x/t.csv", "b/x/t.csv", "t.csv"]
    assert called(["a.csv", "a.csv", "hub:x/y:train"]) == ["a.csv", "a.csv#2", "hub:x/y:train"]


def test_over_time_a_weight_is_kept_to_the_row_and_whole_weights_each_time():
    for weight in (0.1, 1 / 3, 0.5, 1.7):
        for i in range(50):
            times = [draws(weight, f"u{i}", seed=1, epoch=e) for e in range(60)]
            assert abs(sum(times) - 60 * weight) <= 1 and max(times) - min(times) <= 1
    assert {draws(w, f"u{i}", seed=0, epoch=e) - w for w in (1, 2, 1000) for i in range(50) for e in (0, 1, 99_999)} == {0}
    first = [draws(0.5, f"u{i}", seed=0, epoch=0) for i in range(400)]
    assert 150 < sum(first) < 250 and first != [draws(0.5, f"u{i}", seed=1, epoch=0) for i in range(400)]


def test_several_corpora_are_read_as_one(tmp_path):
    a = manifest(tmp_path / "a" / "m.jsonl", [{"id": "x", "text": "moja", "lang": "sw", "speaker": "1"}, {"id": "y", "text": "mbili", "lang": "sw"}])
    b = manifest(tmp_path / "b" / "m.jsonl", [{"id": "x", "text": "one", "lang": "en", "speaker": "1"}, {"id": "z", "text": None}])
    corpus = read([f"{a}:2", b])
    assert [(u.id, u.text, u.lang, u.corpus, u.weight) for u in corpus] == [
        ("x", "moja", "sw", "a/m.jsonl", 2.0),
        ("y", "mbili", "sw", "a/m.jsonl", 2.0),
        ("x#2", "one", "en", "b/m.jsonl", 1.0),
    ]
    assert corpus.name == "2·a/m.jsonl + b/m.jsonl" and [s.id for s in corpus.skipped] == ["z"] and corpus.speakers == ("1",)
    assert [(p.name, p.weight, p.utterances, p.drawn) for p in corpus.parts] == [("a/m.jsonl", 2.0, 2, 4.0), ("b/m.jsonl", 1.0, 1, 1.0)]
    assert corpus[0].column("corpus") == "a/m.jsonl" and [u.id for u in corpus] == [u.id for u in read({a: 2, b: 1})]
    mixed = Corpus.mix([(read(a), 2), read(b)])
    assert [(u.id, u.weight) for u in mixed] == [("x", 2.0), ("y", 2.0), ("x#2", 1.0)] and len(mixed.skipped) == 1
    assert {u.weight for part in corpus.split_by_speaker(0.5, 0, by="sentence") for u in part} == {1.0, 2.0}
    assert [u.weight for u in Corpus.mix([(mixed, 3)])] == [6.0, 6.0, 3.0]


def test_a_corpus_among_several_that_gives_nothing_is_told(tmp_path):
    a = manifest(tmp_path / "a.jsonl", [{"text": "moja"}])
    b = manifest(tmp_path / "b.jsonl", [{"text": ""}])
    with pytest.raises(BadCorpus, match="b.jsonl: no usable utterance among 1 rows"):
        read([a, b])
    with pytest.raises(BadCorpus, match="no such file"):
        read([a, str(tmp_path / "c.jsonl")])


def test_columns_are_told_to_the_corpora_that_have_them(tmp_path):
    a = manifest(tmp_path / "a.jsonl", [{"text": "wrong", "better": "moja"}])
    b = manifest(tmp_path / "b.jsonl", [{"text": "one"}])
    assert [u.text for u in read([a, b], columns={"text": "better"})] == ["moja", "one"]
    with pytest.raises(BadCorpus, match="no column 'bettre'"):
        read([a, b], columns={"text": "bettre"})
