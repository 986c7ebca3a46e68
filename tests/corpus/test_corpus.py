"""Rows become utterances, or are left out with a reason; corpora divide without leaking."""

import json
import pickle
import unicodedata

import numpy as np
import pytest

from asrpeft.corpus import AudioRef, Corpus, Utterance, read
from asrpeft.corpus.columns import match, parse
from asrpeft.corpus.corpus import sentence_key
from asrpeft.errors import BadAudio, BadCorpus, BadInput
from tests.audio.sounds import chirp, encoded, muxed, real_speech


def manifest(root, rows):
    path = root / "m.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def wav(root, name, seconds=0.5, **how):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(encoded(chirp(seconds), **how))


BAD = {
    "missing": (None, "hello", "no such file"),
    "an empty file": (b"", "hello", "the file is empty"),
    "random bytes": (np.random.default_rng(0).bytes(999), "hello", "not an audio format"),
    "a wav cut in half": (encoded(chirp(1.0))[:9_000], "hello", "truncated"),
    "no samples": (encoded(np.zeros(0, np.float32)), "hello", "no samples"),
    "too long": (encoded(np.zeros(8_000 * 31, np.float32), 8_000), "hello", "31.00 s long; at most 30 s"),
    "no text": (encoded(chirp(0.5)), None, "audio without text"),
    "blank text": (encoded(chirp(0.5)), " \n", "audio without text"),
    "text that is a number": (encoded(chirp(0.5)), 17, "not a string"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_left_out_by_name_and_with_a_reason(tmp_path, name):
    data, text, reason = BAD[name]
    wav(tmp_path, "good.wav")
    if data is not None:
        (tmp_path / "bad.wav").write_bytes(data)
    path = manifest(tmp_path, [{"id": "x", "audio": "bad.wav", "text": text}, {"id": "y", "audio": "good.wav", "text": "yes"}])
    corpus = read(path)
    assert [u.id for u in corpus] == ["y"]
    assert [s.id for s in corpus.skipped] == ["x"] and reason in corpus.skipped[0].reason
    with pytest.raises(BadCorpus, match=f"x: .*{reason}"):
        read(path, strict=True)


def test_text_without_audio_is_left_out(tmp_path):
    wav(tmp_path, "good.wav")
    rows = [{"audio": cell, "text": "hello"} for cell in (None, "", {"path": None, "bytes": None}, 5, [1, 2])]
    corpus = read(manifest(tmp_path, [*rows, {"audio": "good.wav", "text": "hello"}]))
    assert len(corpus) == 1 and len(corpus.skipped) == 5 and all("text without audio" in s.reason for s in corpus.skipped)


def test_a_corpus_of_nothing_usable_gives_the_first_reasons(tmp_path):
    with pytest.raises(BadCorpus, match="no usable utterance among 2 rows.*gone.wav"):
        read(manifest(tmp_path, [{"audio": "gone.wav", "text": "x"}, {"audio": "lost.wav", "text": "x"}]))


def test_untranscribed_rows_are_kept_when_no_text_is_needed(tmp_path):
    wav(tmp_path, "a.wav")
    assert read(manifest(tmp_path, [{"audio": "a.wav", "text": None}]), need_text=False)[0].text == ""
    assert read(manifest(tmp_path, [{"audio": "a.wav"}]), need_text=False)[0].text == ""


NAMES = ["with space.wav", "naïve – ʃwa 音.wav", "it's;a&b.wav", "sub/../a.wav", "../outside/a.wav", "%2e%2e.wav", "a.b.c.wav", "-rf.wav"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_found_and_give_harmless_ids(tmp_path, name):
    root = tmp_path / "corpus"
    (root / "sub").mkdir(parents=True)
    wav(root, name)
    utterance = read(manifest(root, [{"audio": name, "text": "x"}]))[0]
    assert utterance.samples().size == 8_000
    assert ".." not in utterance.id.split("/") and not utterance.id.startswith("/")


@pytest.mark.parametrize("name", ["nul\0byte.wav", "x" * 5_000 + ".wav", "/dev/null", "/etc", "http://example.org/a.wav"])
def test_names_of_no_file_are_left_out(tmp_path, name):
    with pytest.raises(BadCorpus, match="no such file"):
        read(manifest(tmp_path, [{"audio": name, "text": "x"}]))


def test_a_name_in_another_unicode_form_is_found(tmp_path):
    wav(tmp_path, unicodedata.normalize("NFD", "é.wav"))
    assert len(read(manifest(tmp_path, [{"audio": unicodedata.normalize("NFC", "é.wav"), "text": "x"}]))) == 1


@pytest.mark.parametrize(
    "data",
    [
        encoded(np.stack([chirp(1.0, 44_100)] * 2, axis=1), 44_100),
        encoded(chirp(1.0, 8_000), 8_000),
        encoded(chirp(1.0, 48_000), 48_000, "WAV", "PCM_24"),
        muxed(chirp(1.0, 44_100), 44_100, "ipod", "aac"),
        muxed(chirp(1.0, 48_000), 48_000, "webm", "libopus"),
    ],
    ids=["stereo 44.1 kHz", "8 kHz", "24 bits", "m4a", "webm"],
)
def test_any_rate_channels_and_container_become_sixteen_kilohertz(tmp_path, data):
    (tmp_path / "a.bin").write_bytes(data)
    utterance = read(manifest(tmp_path, [{"audio": "a.bin", "text": "x"}]))[0]
    assert utterance.samples().size == pytest.approx(16_000, rel=0.1)
    assert utterance.duration == pytest.approx(1.0, rel=0.1)


def test_text_is_nfc_and_otherwise_untouched(tmp_path):
    wav(tmp_path, "a.wav")
    text = "  Mósώsώώ NGÁ,  okándá! "
    got = read(manifest(tmp_path, [{"audio": "a.wav", "text": unicodedata.normalize("NFD", text)}]))[0].text
    assert got == text == unicodedata.normalize("NFC", text)


def test_ids_are_unique(tmp_path):
    wav(tmp_path, "a.wav")
    corpus = read(manifest(tmp_path, [{"id": i, "audio": "a.wav", "text": "x"} for i in ("a", "a", "a#2", "a", 7, None, None)]))
    assert [u.id for u in corpus] == ["a", "a#2", "a#2#2", "a#3", "7", "a#4", "a#5"]
    assert len({u.id for u in corpus}) == 7


def test_every_other_column_is_kept(tmp_path):
    wav(tmp_path, "a.wav")
    utterance = read(manifest(tmp_path, [{"audio": "a.wav", "text": "x", "speaker": 12, "locale": "sw", "age": 9, "tags": ["q"]}]))[0]
    assert utterance.speaker == "12" and utterance.lang == "sw" and utterance.extra == {"age": 9, "tags": ["q"]}


def test_an_utterance_survives_a_journey_to_another_process(tmp_path):
    wav(tmp_path, "a.wav")
    utterance = read(manifest(tmp_path, [{"audio": "a.wav", "text": "x"}]))[0]
    assert pickle.loads(pickle.dumps(utterance)) == utterance


def test_broken_audio_in_a_table_is_named_by_the_tables_name_for_it():
    with pytest.raises(BadAudio, match="clip7.ogg"):
        AudioRef(b"nonsense", "clip7.ogg").samples()


def test_a_recording_is_known_by_its_bytes_and_its_part_whatever_it_is_called(tmp_path):
    wav(tmp_path, "a.wav")
    wav(tmp_path, "elsewhere/copy.wav")
    wav(tmp_path, "other.wav", 0.6)
    data = (tmp_path / "a.wav").read_bytes()
    whole = AudioRef(tmp_path / "a.wav", "a").key()
    same = [AudioRef(tmp_path / "elsewhere" / "copy.wav", "b"), AudioRef(data, "c"), AudioRef(lambda: data, "d")]
    assert {one.key() for one in same} == {whole} and len(whole) == 16
    parts = [AudioRef(data, "a", 0.1), AudioRef(data, "a", 0.1, 0.2), AudioRef(data, "a", 0.0, 0.2), AudioRef(tmp_path / "other.wav", "a")]
    assert len({whole, *(part.key() for part in parts)}) == 5
    assert AudioRef(data, "a", 0.1, 0.2).key() == AudioRef(tmp_path / "a.wav", "b", 0.1, 0.19999999).key()
    with pytest.raises(BadAudio, match="gone.wav"):
        AudioRef(tmp_path / "gone.wav", "gone.wav").key()


@pytest.mark.parametrize(
    "columns, want",
    [
        (["path", "sentence", "client_id"], {"audio": "path", "text": "sentence", "speaker": "client_id"}),
        (["audio", "path", "transcription", "raw_transcription", "id"], {"audio": "audio", "text": "transcription", "id": "id"}),
        (["audio_filepath", "duration", "text"], {"audio": "audio_filepath", "duration": "duration", "text": "text"}),
        (["Audio", "TEXT", "Speaker_ID"], {"audio": "Audio", "text": "TEXT", "speaker": "Speaker_ID"}),
        (["file", "text", "speaker_id", "chapter_id", "id"], {"audio": "file", "text": "text", "speaker": "speaker_id", "id": "id"}),
    ],
)
def test_columns_are_guessed_by_common_names(columns, want):
    assert match(columns, where="x") == want


def test_the_columns_option_is_read_and_its_mistakes_are_explained():
    assert parse("text=sentence, speaker=client_id") == {"text": "sentence", "speaker": "client_id"}
    with pytest.raises(BadInput, match="ROLE=COLUMN"):
        parse("text:sentence")


# -- dividing --------------------------------------------------------------------------------------------------------------


def corpus_of(*rows) -> Corpus:
    return Corpus([Utterance(f"u{i}", AudioRef(b"", "x"), text, speaker, duration=2.0) for i, (text, speaker) in enumerate(rows)], name="c")


def many(speakers, each):
    return corpus_of(*[(f"sentence {i}", f"s{s}") for s in range(speakers) for i in range(each)])


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_is_on_both_sides(seed):
    train, held = many(20, 10).split_by_speaker(0.1, seed)
    assert len(held) == 20 and len(held.speakers) == 2 and not set(train.speakers) & set(held.speakers)
    assert {u.id for u in train} | {u.id for u in held} == {f"u{i}" for i in range(200)}


@pytest.mark.parametrize("seed", range(5))
def test_with_one_speaker_no_sentence_is_on_both_sides(seed):
    corpus = corpus_of(*[(f"Sentence, {i % 30}{'!' * (i // 30)}", "me") for i in range(90)])
    train, held = corpus.split_by_speaker(0.1, seed)
    assert len(held) == 9 and len(train) == 81
    assert not {sentence_key(u.text) for u in train} & {sentence_key(u.text) for u in held}


def test_few_speakers_are_not_sacrificed_for_a_small_part():
    train, held = many(3, 40).split_by_speaker(0.1, 0)
    assert len(train.speakers) == 3 and len(held) == 12 and "sentence" in held.name
    _, held = many(3, 40).split_by_speaker(0.1, 0, by="speaker")
    assert len(held.speakers) == 1 and len(held) == 40


def test_a_part_is_called_by_the_share_that_it_came_to():
    rows = [("a", "large")] * 90 + [(f"b {i}", f"s{i // 5}") for i in range(20)]  # 5 utterances a speaker, and one who has most
    _, held = corpus_of(*rows).split_by_speaker(0.02, 0, by="speaker")
    assert len(held) == 5 and "4.55 % held out by speaker" in held.name


def test_unknown_speakers_are_split_by_sentence():
    train, held = corpus_of(*[(f"text {i}", None) for i in range(50)]).split_by_speaker(0.2, 0)
    assert len(held) == 10 and "sentence" in held.name


def test_a_split_is_the_seeds_own():
    corpus = many(20, 5)
    ids = [[u.id for u in corpus.split_by_speaker(0.1, seed)[1]] for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]
    assert sorted(ids[0]) == sorted(u.id for u in corpus.shuffle(9).split_by_speaker(0.1, 0)[1])


@pytest.mark.parametrize("corpus", [corpus_of(("one", "a")), corpus_of(("same", "a"), ("Same.", "a"))], ids=["one row", "one sentence"])
def test_what_is_too_small_to_divide_is_refused(corpus):
    with pytest.raises(BadCorpus, match="too small"):
        corpus.split_by_speaker(0.1, 0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(BadInput, match="between 0 and 1"):
        many(3, 3).split_by_speaker(fraction, 0)


def test_a_corpus_is_a_sequence_that_never_changes():
    corpus = many(4, 5)
    assert len(corpus[3:9]) == 6 and isinstance(corpus[3:9], Corpus) and corpus[-1].id == "u19"
    assert corpus.shuffle(1)[0] != corpus[0] or corpus.shuffle(2)[0] != corpus[0]
    assert sorted(u.id for u in corpus.shuffle(1)) == sorted(u.id for u in corpus) and [u.id for u in corpus][:2] == ["u0", "u1"]
    assert [u.id for u in corpus.shuffle(1)] == [u.id for u in corpus.shuffle(1)]
    assert corpus.filter(lambda u: u.speaker == "s2").speakers == ("s2",)
    assert [len(c) for c in corpus.by_speaker().values()] == [5, 5, 5, 5]


def test_stats_count_what_there_is():
    stats = corpus_of(("ndiyo bwana", "a"), ("Ndiyo, bwana!", "b"), ("mti", "b")).stats()
    assert (stats.utterances, stats.speakers, stats.words, stats.types, stats.sentences) == (3, 2, 5, 5, 2)
    assert stats.hours == pytest.approx(6 / 3600) and stats.longest_s == 2.0 and stats.characters == 11 + 13 + 3


def test_checking_decodes_everything_and_leaves_out_what_fails(tmp_path):
    wav(tmp_path, "a.wav", 0.75)
    (tmp_path / "cut.flac").write_bytes(encoded(np.random.default_rng(0).standard_normal(32_000) * 0.1, kind="FLAC")[:30_000])
    corpus = read(manifest(tmp_path, [{"id": n, "audio": n, "text": "x"} for n in ("a.wav", "cut.flac")]))
    assert len(corpus) == 2  # the header of the second is whole
    seen = []
    checked = corpus.checked(progress=lambda done, of: seen.append((done, of)))
    assert [u.duration for u in checked] == [0.75] and checked.skipped[0].id == "cut.flac" and seen == [(1, 2), (2, 2)]
    with pytest.raises(BadAudio, match="cut.flac"):
        corpus.checked(strict=True)


@pytest.mark.parametrize("name, count, speakers", [("speechocean762/test.parquet", 1_200, 60), ("mboshi/test.parquet", 300, 3)])
def test_real_corpora_are_read_whole(name, count, speakers):
    corpus = read(real_speech(name))
    assert (len(corpus), len(corpus.speakers), corpus.skipped) == (count, speakers, ())
    assert all(abs(u.samples().size / 16_000 - u.duration) < 0.03 for u in corpus[:20])
    assert "duration" not in corpus[0].extra and len(corpus[0].extra) == 2
