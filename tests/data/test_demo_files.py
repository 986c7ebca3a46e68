"""What `data/demo` promises, read from the shipped files."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from scripts.synthesis import RESERVED_VARIANTS

DEMO = Path(__file__).parents[2] / "data" / "demo"
PARTS = ("sw-train", "sw-test", "speakers")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    return {part: pq.read_table(DEMO / f"{part}.parquet").to_pylist() for part in PARTS}


def words(entries: list[dict]) -> set[str]:
    return {word for entry in entries for word in entry["text"].split()}


def values(entries: list[dict], column: str) -> set[str]:
    return {entry[column] for entry in entries}


def test_the_demo_takes_at_most_ten_megabytes():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 10e6


@pytest.mark.parametrize("part", PARTS)
def test_every_row_has_the_columns_of_a_corpus(part, rows):
    expected = {"id", "audio", "text", "speaker", "lang", "duration", "voice"} | ({"split"} if part == "speakers" else set())
    for entry in rows[part]:
        assert set(entry) == expected
        assert all(entry[name] for name in expected)
    assert len(values(rows[part], "id")) == len(rows[part])


@pytest.mark.parametrize("part", PARTS)
def test_the_audio_column_is_declared_as_datasets_declares_it(part):
    schema = pq.read_schema(DEMO / f"{part}.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["audio"] == {"sampling_rate": 16_000, "_type": "Audio"}
    assert set(features) == set(schema.names)


@pytest.mark.parametrize("part", PARTS)
def test_texts_are_lower_case_words_without_punctuation(part, rows):
    for entry in rows[part]:
        assert entry["text"] == " ".join(entry["text"].split())
        assert entry["text"].replace(" ", "").isalpha() and entry["text"].islower()


@pytest.mark.parametrize("part", PARTS)
def test_every_recording_decodes_to_audible_speech_of_the_stated_length(part, rows):
    for entry in rows[part]:
        samples, rate = soundfile.read(io.BytesIO(entry["audio"]["bytes"]), dtype="float32")
        assert (rate, samples.ndim) == (16_000, 1), entry["id"]
        assert abs(len(samples) / rate - entry["duration"]) < 0.03, entry["id"]
        assert 0.9 <= entry["duration"] <= 4.2, entry["id"]
        assert np.sqrt(np.mean(samples**2)) > 0.02 and np.mean(np.abs(samples) > 0.999) < 1e-3, entry["id"]


@pytest.mark.parametrize("part", PARTS)
def test_only_voices_that_the_base_never_trains_on_speak(part, rows):
    assert values(rows[part], "voice") <= RESERVED_VARIANTS


def test_swahili_has_enough_utterances_speakers_and_words(rows):
    train, test = rows["sw-train"], rows["sw-test"]
    assert len(train) >= 1_300 and len(values(train, "speaker")) >= 16
    assert len(test) >= 300 and len(values(test, "speaker")) >= 12
    assert values(train + test, "lang") == {"sw"}
    assert len(words(train + test)) >= 800


def test_at_least_fifteen_percent_of_the_test_word_types_are_unseen_in_training(rows):
    train, test = words(rows["sw-train"]), words(rows["sw-test"])
    assert len(test - train) >= 0.15 * len(test)


@pytest.mark.parametrize("column", ["text", "speaker", "voice", "id"])
def test_swahili_train_and_test_share_nothing(column, rows):
    assert not values(rows["sw-train"], column) & values(rows["sw-test"], column)


def test_no_swahili_sentence_occurs_twice(rows):
    both = rows["sw-train"] + rows["sw-test"]
    assert len(values(both, "text")) == len(both)


def test_at_least_four_unusual_speakers_of_english_have_forty_utterances_and_both_splits(rows):
    entries = rows["speakers"]
    assert values(entries, "lang") == {"en"} and len(values(entries, "speaker")) >= 4
    for speaker in values(entries, "speaker"):
        own = [entry for entry in entries if entry["speaker"] == speaker]
        splits = [entry["split"] for entry in own]
        assert len(own) >= 40 and splits.count("train") >= 26 and splits.count("test") >= 14
        assert set(splits) == {"train", "test"}


def test_no_unusual_speaker_is_tested_on_a_sentence_that_anyone_adapts_on(rows):
    split = {name: [entry for entry in rows["speakers"] if entry["split"] == name] for name in ("train", "test")}
    assert not values(split["train"], "text") & values(split["test"], "text")


@pytest.mark.parametrize(("name", "shortest", "longest"), [("sw-example", 3, 10), ("stream-en", 30, 60)])
def test_the_recordings_have_their_length_and_say_sentences_of_their_own(name, shortest, longest, rows):
    samples, rate = soundfile.read(DEMO / f"{name}.ogg")
    said = (DEMO / f"{name}.txt").read_text().splitlines()
    assert rate == 16_000 and shortest <= len(samples) / rate <= longest
    assert said and not set(said) & {entry["text"] for part in PARTS for entry in rows[part]}


def test_the_stream_has_pauses_between_its_sentences():
    samples, rate = soundfile.read(DEMO / "stream-en.ogg")
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    quiet = np.sqrt(np.mean(frames**2, axis=1)) < 0.005
    lengths = [len(run) for run in "".join("q" if q else "." for q in quiet).split(".") if len(run) >= 40]  # at least 0.4 s
    assert len(lengths) >= len((DEMO / "stream-en.txt").read_text().splitlines()) - 1


def test_the_readme_states_the_counts_of_the_files():
    from scripts.demo.build import counts

    assert counts(DEMO) in (DEMO / "README.md").read_text()
