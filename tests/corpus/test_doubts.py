"""What can be read is looked at too: whatever a linguist would stumble over in a corpus is told by kind, with rows named."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from asrpeft.cli.main import run
from asrpeft.cli.options import read_corpus
from asrpeft.corpus import AudioRef, Corpus, Utterance, open_corpus, read
from asrpeft.corpus.corpus import Skipped, Tally, sentence_key
from asrpeft.corpus.distinct import FIRST, Distinct
from asrpeft.corpus.doubts import TOLD, Inspection, loudness, script, scripts, silent
from asrpeft.errors import BadCorpus
from tests.audio.sounds import chirp, encoded

SECOND = chirp(1.0)


def one(id_, text="habari ya asubuhi", *, samples=SECOND, lang=None, speaker=None, data=None):
    data = data if data is not None else encoded(samples) + id_.encode()  # bytes after the end make another file of the same sound
    return Utterance(id_, AudioRef(data, f"{id_}.wav"), text, speaker, lang, samples.size / 16_000)


def found(*rows, listen=False):
    looked = Inspection()
    for row in rows:
        looked.inspect(row, row.samples(), listen=listen)
    return {doubt.kind: doubt for doubt in looked.doubts()}


SPOKEN = [one(f"u{i}", "habari ya asubuhi bwana"[: 12 + i % 8]) for i in range(20)]


def test_of_a_clean_corpus_nothing_is_doubted():
    assert found(*SPOKEN) == {} == found()


QUIET = {"digital": np.zeros(16_000, np.float32), "faint": SECOND * 1e-3, "one click": np.pad([0.005], (8_000, 8_000)).astype(np.float32)}
CASES = {
    "repeated id": [one("u3", "another text", data=encoded(SECOND) + b"another file")],
    "repeated recording": [one("new", SPOKEN[4].text, data=SPOKEN[4].audio.source)],
    "recording with two texts": [one("new", "something else", data=SPOKEN[4].audio.source)],
    "silence": [one(name, samples=samples) for name, samples in QUIET.items()],
    "clipped": [one("loud", samples=np.clip(SECOND * 20, -1, 1))],
    "text without a letter": [one("x", "... – !")],
    "damaged letters": [one("x", "caf\ufffd"), one("y", "na\x07me of"), one("z", "\ue000 abc")],
    "marks": [one("x", "so [laughter] ok"), one("y", "<unk> here we"), one("z", "{cough} word"), one("w", "*breath* word")],
    "another script": [one("x", "Здравствуйте мир"), one("y", "Γειά σου κόσμε")],
    "two scripts in a word": [one("x", "habari уa asubuhi")],  # a Cyrillic у
    "text too long for its audio": [one("x", "habari ya asubuhi " * 4)],
    "audio too long for its text": [one("x", "a", samples=chirp(6.0))],
    "no speaker": [one("x", speaker="s")],
    "no language": [one("x", lang="sw")],
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_is_told_with_its_rows(kind):
    doubts = found(*SPOKEN, *CASES[kind])
    assert set(doubts) == {kind}
    rows = [id_ for id_, _ in doubts[kind].examples]
    if kind.startswith("no "):
        assert doubts[kind].rows == 20 and rows == [u.id for u in SPOKEN[:10]]
    elif kind == "another script":
        assert doubts[kind].rows == 1 and rows == ["y"] and "Latin" in doubts[kind].message
    else:
        assert doubts[kind].rows == len(CASES[kind]) and rows == [u.id for u in CASES[kind]] and len(json.dumps(doubts[kind].to_json())) < 2_000


def test_every_kind_that_can_be_told_was_tried_above():
    assert set(CASES) == set(TOLD) - {"no speech heard"}


def test_each_language_has_a_script_of_its_own():
    rows = [one(f"r{i}", "Здравствуйте", lang="ru") for i in range(5)] + [one(f"e{i}", "good morning", lang="en") for i in range(5)]
    assert "another script" not in found(*rows)
    doubts = found(*rows, one("odd", "zdravstvujte", lang="ru"))
    assert doubts["another script"].examples == (("odd", "zdravstvujte"),) and "of 6 rows in ru are in Cyrillic" in doubts["another script"].message


@pytest.mark.parametrize(
    "text, want",
    [
        ("naïve ɛkɔ́ Ŋkà ʼa", {"Latin"}),
        ("日本のカタカナ", {"Han and kana"}),
        ("አማርኛ", {"Ethiopic"}),
        ("हिन्दी", {"Devanagari"}),
        ("עברית 12", {"Hebrew"}),
        ("ߒߞߏ", {"Nko"}),
        ("123 …", set()),
        ("µ ª ʰ", set()),
        ("ⵜⴰⵎⴰⵣⵉⵖⵜ", {"Tifinagh"}),
        ("العربية", {"Arabic"}),
    ],
)
def test_letters_have_the_script_that_people_call_them_by(text, want):
    assert set(scripts(text)) == want and script(" ") is None


def test_loudness_is_that_of_the_loudest_moment():
    assert loudness(np.zeros(999, np.float32)) == loudness(np.zeros(0, np.float32)) == -200
    assert loudness(np.ones(5, np.float32)) == pytest.approx(0) and loudness(SECOND) == pytest.approx(20 * np.log10(0.3 / 2**0.5), abs=0.3)
    assert loudness(np.pad(SECOND, (100_000, 100_000))) == pytest.approx(loudness(SECOND), abs=0.3)


def test_a_detector_hears_no_speech_in_a_tone_and_is_asked_only_where_told():
    assert found(one("tone"), listen=True)["no speech heard"].rows == 1 and found(one("tone")) == {}


def corpus_of(*samples):
    return Corpus([one(f"u{i}", samples=s) for i, s in enumerate(samples)], name="c")


def test_silent_recordings_are_counted_in_a_sample_and_a_silent_corpus_is_refused():
    nothing = np.zeros(800, np.float32)
    looked, ids = silent(corpus_of(*[SECOND, nothing] * 100))
    assert looked == 50 and 10 < len(ids) < 40
    assert silent(corpus_of(SECOND, SECOND)) == (2, ())
    with pytest.raises(BadCorpus, match="c is silent: none of its 60 recordings"):
        silent(corpus_of(*[nothing] * 60))
    looked, ids = silent(corpus_of(*[nothing] * 70, SECOND))
    assert len(ids) in (looked, looked - 1) and looked >= 50  # it went on until it heard something
    assert silent(Corpus([one("x", data=b"broken")])) == (0, ())


# -- in little memory ------------------------------------------------------------------------------------------------------


def test_different_things_are_counted_without_being_held():
    seen = Distinct()
    for i in range(3 * FIRST):
        seen.update((f"w{i}", f"w{i // 2}", (i, "x") if i % 1000 == 0 else f"w{i}"))
    assert len(seen) == 3 * FIRST + -(-3 * FIRST // 1000)
    assert seen._sorted.nbytes == 8 * len(seen)
    again = Distinct()
    first = [again.add(f"w{i % 70_000}") for i in range(140_000)]
    assert all(first[:70_000]) and not any(first[70_000:]) and len(again) == 70_000


def test_a_tally_of_rows_is_the_statistics_of_their_corpus():
    tally = Tally()
    for row in (*SPOKEN, Skipped("x", "y")):
        tally.add(row)
    assert tally.stats() == Corpus(SPOKEN, skipped=[Skipped("x", "y")]).stats()


@pytest.mark.parametrize("text, key", [("Ndiyo, Bwana!", "ndiyo bwana"), ("a-b_c", "a b c"), ("$5 + «é»", "5 é"), ("ÇA\u0301", "çá"), ("", "")])
def test_sentences_are_compared_without_case_and_punctuation(text, key):
    assert sentence_key(text) == key


def manifest(root: Path, n: int) -> Path:
    (root / "a.wav").write_bytes(encoded(chirp(0.05)))
    with (root / "m.jsonl").open("w") as file:
        for i in range(n):
            file.write(json.dumps({"audio": "a.wav", "text": f"word{i} and others {i}", "id": f"utterance number {i}", "note": "x" * 50}) + "\n")
    return root / "m.jsonl"


def test_counting_a_corpus_holds_no_utterances(tmp_path, monkeypatch):
    path = manifest(tmp_path, 4_000)
    monkeypatch.setattr(sys.modules["asrpeft.corpus.read"], "_seconds", lambda audio, cells: 1.0)  # headers take time, not memory
    monkeypatch.setattr("asrpeft.corpus.distinct.FIRST", 100)

    def most(count):
        tracemalloc.start()
        try:
            return count(), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def tallied():
        tally = Tally()
        for item in open_corpus(path).items:
            tally.add(item)
        return tally.stats()

    tallied()  # what is imported once a process is no part of it
    stats, little = most(tallied)
    held, much = most(lambda: read(path).stats())
    assert stats == held and stats.utterances == stats.sentences == 4_000
    assert little < 4_000 * 200 < 4_000 * 800 < much  # bytes


def test_rows_are_read_as_they_are_wanted(tmp_path):
    reading = open_corpus(manifest(tmp_path, 50))
    assert reading.size == 50 and next(reading.items).id == "utterance number 0"
    (tmp_path / "a.wav").unlink()
    assert "no such file" in next(reading.items).reason


def test_reading_tells_how_far_it_is(tmp_path, monkeypatch, capsys):
    path = manifest(tmp_path, 250)
    events = []
    read(path, progress=lambda done, total: events.append((done, total)))
    assert events == [(100, 250), (200, 250)]
    monkeypatch.setattr("asrpeft.cli.progress._LINE_EVERY_S", 0.0)
    read_corpus([str(path)], quiet=False)
    assert "reading: 100/250" in capsys.readouterr().err
    read_corpus([str(path)])
    assert capsys.readouterr().err == ""


# -- on the command line ---------------------------------------------------------------------------------------------------


def asrpeft(*arguments):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(list(arguments))
        except SystemExit as end:
            status = end.code or 0
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def odd(tmp_path):
    rows = [{"id": u.id, "audio": "a.wav", "text": u.text} for u in SPOKEN[:6]]
    rows += [{"id": "u1", "audio": "b.wav", "text": "gone"}, {"id": "x", "audio": "a.wav", "text": "Здравствуйте"}, {"id": "z", "audio": "a.wav", "text": None}]
    (tmp_path / "a.wav").write_bytes(encoded(SECOND))
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "m.jsonl"


def test_check_prints_the_reasons_and_the_doubts_as_json(odd):
    status, out, _ = asrpeft("data", "check", str(odd), "--json", "--quiet")
    report = json.loads(out)
    assert status == 1 and report["usable"] == 7 and report["utterances"] == 7 and report["corpus"] == "m.jsonl"
    assert [s["id"] for s in report["skipped"]] == ["u1", "z"] and "no such file" in report["skipped"][0]["reason"]
    assert "audio without text" in report["skipped"][1]["reason"] and "m.jsonl:9" in report["skipped"][1]["reason"]
    assert [d["kind"] for d in report["doubtful"]] == ["recording with two texts", "no speech heard", "another script"]
    assert report["doubtful"][2]["examples"] == [{"id": "x", "detail": "Здравствуйте"}] and report["listened_to"] == 7


def test_check_tells_a_person_the_same(odd):
    status, out, _ = asrpeft("data", "check", str(odd))
    rows = [line.split() for line in out.splitlines()]
    assert status == 1 and "1 row: written in Cyrillic" in out and ["x", "Здравствуйте"] in rows
    assert [row[:4] for row in rows if "file:" in row] == [["u1", "no", "such", "file:"]]  # once
    assert out.rstrip().endswith("7 utterances can be used, 2 cannot. 3 kinds of doubt.")


def test_check_fails_at_the_first_bad_row_when_told_and_looks_at_several_corpora_at_once(odd, tmp_path):
    status, _, err = asrpeft("data", "check", str(odd), "--strict", "--quiet")
    assert status == 2 and "u1: no such file" in err
    (tmp_path / "again.jsonl").write_text(json.dumps({"id": "u0", "audio": "a.wav", "text": SPOKEN[0].text}))
    _, out, _ = asrpeft("data", "check", str(odd), str(tmp_path / "again.jsonl"), "--json", "--quiet")
    doubts = {d["kind"]: d["rows"] for d in json.loads(out)["doubtful"]}
    assert doubts["repeated id"] == 1 and doubts["repeated recording"] == 1
    _, out, _ = asrpeft("data", "stats", str(odd), str(tmp_path / "again.jsonl"), "--json", "--by", "corpus")
    assert json.loads(out)["by"]["corpus"] == {"m.jsonl": 7, "again.jsonl": 1} and json.loads(out)["skipped"] == 2


def test_statistics_read_row_by_row_are_those_of_the_corpus(odd):
    _, out, _ = asrpeft("data", "stats", str(odd), "--json")
    stats = read(odd).stats()
    assert json.loads(out) == {"corpus": "m.jsonl", **{key: getattr(stats, key) for key in stats.__dataclass_fields__}}
