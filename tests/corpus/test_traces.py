"""What of a corpus is recognized again, and the record of it that travels with an adapter."""

import json

import pytest

from asrpeft.corpus import AudioRef, Corpus, Utterance, traces
from asrpeft.corpus.traces import MOST, Record, Trace, overlap
from tests.training.tones import utterance


def spoken(*numbers: int, prefix: str = "u", speaker: str = "s", name: str = "c", text: str | None = None) -> Corpus:
    """Utterances whose sound is their number's alone."""
    made = (utterance(i, audio=f"sound {i}".encode(), speaker=f"{speaker}{i % 2}", text=text or f"sentence {i}") for i in numbers)
    return Corpus([Utterance(f"{prefix}{u.id[1:]}", u.audio, u.text, u.speaker, duration=1.0) for u in made], name=name)


CALLED = ("the test", "the rest")


def test_recordings_are_found_under_other_names_and_speakers_and_sentences_beside_them():
    found = overlap(spoken(1, 2, 3, prefix="x", speaker="t"), spoken(3, 4, 5), called=CALLED)
    assert found.recordings == ("x003",) and found.sentences == ("x003",) and found.speakers == () and found.ids == ()
    assert overlap(spoken(1, 2), spoken(3, 4), called=CALLED).speakers == ("s0", "s1")
    assert not overlap(spoken(1, speaker="a"), spoken(2, speaker="b"), called=CALLED)


def test_equal_ids_of_other_sounds_are_told_only_with_equal_sentences():
    again = Corpus([Utterance(u.id, AudioRef(u.audio.source + b"x", "x"), u.text, duration=1.0) for u in spoken(1, 2)])  # encoded anew
    assert overlap(again, spoken(1, 2), called=CALLED).ids == ("u001", "u002")
    assert overlap(Corpus([Utterance("u001", AudioRef(b"y", "y"), "another", duration=1.0)]), spoken(1), called=CALLED).ids == ()


def test_a_record_goes_through_json_knows_what_it_saw_and_holds_no_text():
    corpus = spoken(*range(20), prefix="secret", speaker="Ann")
    report = json.dumps(Record.of(corpus).to_json())
    assert not any(word in report for word in ("secret", "Ann", "sentence", "sound"))
    record = Record.from_json(json.loads(report))
    assert record == Record.of(corpus) and record.recordings.whole
    found = overlap(spoken(19, 20, 21, prefix="secret", speaker="Ann"), record, called=CALLED)
    assert found.recordings == ("secret019",) and found.speakers == ("Ann0", "Ann1") and found.sentences == () and found.ids == ()
    assert len(overlap(spoken(*range(20), prefix="secret"), record, called=CALLED).recordings) == 20


def test_a_record_of_very_many_recordings_is_bounded_and_a_fair_sample(monkeypatch):
    monkeypatch.setitem(MOST, "recordings", 100)
    record = Record.of(spoken(*range(1_000)))
    assert len(record.recordings.digests) == 100 and record.recordings.count == 1_000 and not record.recordings.whole
    found = overlap(spoken(*range(500, 1_500)), record, called=CALLED)
    assert 25 <= len(found.recordings) <= 75 and not found.whole  # half of the hundred; and none of the others
    assert all(int(id_[1:]) < 1_000 for id_ in found.recordings)
    full = Trace.of(range(10**12, 10**12 + 2 * 8_192), 8_192)
    assert len(json.dumps(full.to_json())) < 66_000


def test_a_record_of_two_corpora_is_that_of_both(monkeypatch):
    monkeypatch.setitem(MOST, "recordings", 50)
    one, two = spoken(*range(40)), spoken(*range(40, 80), prefix="v")
    both = Corpus([*one, *two])
    assert (Record.of(one) | Record.of(two)).recordings.digests == Record.of(both).recordings.digests


@pytest.mark.parametrize("values", [None, [], {}, {"recordings": {"count": 1}}, {kind: {"count": 1, "digests": "?"} for kind in MOST}])
def test_a_record_that_cannot_be_read_says_nothing(values):
    assert Record.from_json(values) is None


def test_recordings_are_read_once_and_those_that_cannot_be_read_match_nothing(tmp_path, monkeypatch):
    gone = Corpus([Utterance(f"g{i}", AudioRef(tmp_path / "gone.wav", "gone.wav"), "text", duration=1.0) for i in range(2)])
    assert overlap(gone, gone, called=CALLED).recordings == ()
    corpus, read = spoken(1, 2), []
    real = AudioRef.key
    monkeypatch.setattr(AudioRef, "key", lambda self: read.append(self) or real(self))
    for _ in range(3):
        overlap(corpus, corpus, called=CALLED)
        Record.of(corpus)
    assert len(read) == 2 and traces.recording_keys(corpus)
