"""The voices, sounds and files of the demo; what needs espeak-ng skips without it."""

import io
from collections import Counter

import numpy as np
import pytest
import soundfile

from scripts.demo import opus, sound, voices
from scripts.demo.build import build, counts, refresh, utterances
from scripts.synthesis import RESERVED_VARIANTS

ALL = (*voices.SWAHILI_TRAIN, *voices.SWAHILI_TEST, *voices.UNUSUAL, *voices.NARRATORS)
TONE = (0.3 * np.sin(2 * np.pi * 220 * np.arange(32_000) / 16_000)).astype(np.float32)


def pitch_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 16_000 / len(samples))


def test_speakers_have_different_names_and_reserved_voices():
    assert max(Counter(voice.name for voice in ALL).values()) == 1
    assert {voice.variant for voice in ALL} <= RESERVED_VARIANTS


def test_no_voice_of_the_synthesizer_speaks_in_both_swahili_parts():
    assert not {voice.variant for voice in voices.SWAHILI_TRAIN} & {voice.variant for voice in voices.SWAHILI_TEST}


def test_voices_of_one_variant_differ_in_pitch_and_size():
    for part in (voices.SWAHILI_TRAIN, voices.SWAHILI_TEST):
        assert len({(voice.variant, voice.pitch) for voice in part}) == len(part)
        assert len({(voice.variant, voice.size) for voice in part}) == len(part)


def test_habits_substitute_and_drop_phonemes_but_leave_no_word_empty():
    words = [["r", "'E", "d"], ["h"], ["l", "I", "z"]]
    assert voices.changed(words, {"r": "w", "h": ""}, frozenset("z")) == [["w", "'E", "d"], ["h"], ["l", "I"]]


def test_a_smaller_vocal_tract_raises_frequencies_and_shortens():
    small = sound.resize(TONE, 1.25)
    assert len(small) == pytest.approx(len(TONE) / 1.25, rel=0.01)
    assert pitch_hz(small) == pytest.approx(275, rel=0.01)


def test_stretching_lengthens_at_the_same_pitch():
    slow = sound.stretch(TONE, 1.5)
    assert len(slow) == pytest.approx(len(TONE) * 1.5, rel=0.01)
    assert pitch_hz(slow) == pytest.approx(220, rel=0.01)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_noise_has_the_power_it_was_asked_for(snr_db):
    noisy = sound.noise(TONE, snr_db, np.random.default_rng(0))
    assert 20 * np.log10(sound.rms(TONE) / sound.rms(noisy - TONE)) == pytest.approx(snr_db, abs=0.1)


def test_level_sets_loudness_and_never_clips():
    assert 20 * np.log10(sound.rms(sound.level(TONE, -23))) == pytest.approx(-23, abs=0.01)
    assert np.max(np.abs(sound.level(TONE, 10.0))) <= 0.891


def test_a_room_answers_alike_each_time_and_lengthens():
    once, again = (sound.room(TONE, 0.3, 0.5, seed=4) for _ in range(2))
    assert np.array_equal(once, again) and len(once) > len(TONE)
    assert np.array_equal(sound.room(TONE, 0.3, 0.0, seed=4), TONE)


def test_encoding_gives_the_same_bytes_each_time_and_decodes():
    first, second = (opus.encode(TONE, serial=77) for _ in range(2))
    assert first == second != opus.encode(TONE, serial=78)
    samples, rate = soundfile.read(io.BytesIO(first))
    assert rate == 16_000 and len(samples) == len(TONE)
    assert pitch_hz(samples) == pytest.approx(220, rel=0.01)


def test_a_page_checksum_is_the_one_that_libsndfile_writes():
    file = io.BytesIO()
    soundfile.write(file, TONE, 16_000, format="OGG", subtype="OPUS")
    page = bytearray(file.getvalue()[: 27 + 1 + 19])  # the first page: one segment, the 19 bytes of OpusHead
    stored = int.from_bytes(page[22:26], "little")
    page[22:26] = bytes(4)
    assert opus.checksum(bytes(page)) == stored


@pytest.mark.parametrize("voice", voices.UNUSUAL, ids=lambda voice: voice.name)
def test_every_unusual_speaker_can_speak(voice):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the wheel `espeakng-loader`")
    samples = voice.say("open the door please", language="en-us", rng=np.random.default_rng(0))
    assert samples.dtype == np.float32 and 0.8 < len(samples) / 16_000 < 4
    assert -28 < 20 * np.log10(sound.rms(samples)) < -18 and np.max(np.abs(samples)) < 0.9


def test_running_out_of_sentences_is_said():
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the wheel `espeakng-loader`")
    with pytest.raises(ValueError, match="ran out at turn 0"):
        utterances(voices.SWAHILI_TRAIN[:2], 1, ["habari ya leo mama"], lang="sw", language="sw", prefix="x", seed=1)


def test_a_small_build_writes_every_file_and_counts_it(tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the wheel `espeakng-loader`")
    for name in ("SWAHILI_TRAIN", "SWAHILI_TEST", "UNUSUAL"):
        monkeypatch.setattr(voices, name, getattr(voices, name)[:1])
    build(tmp_path, scale=0.001)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("sw-train.parquet", "sw-test.parquet", "speakers.parquet"),
        *("sw-example.ogg", "sw-example.txt", "stream-en.ogg", "stream-en.txt"),
    }
    assert "| sw-test | 2 | 1 |" in counts(tmp_path)


def test_refreshing_the_readme_changes_only_what_stands_between_the_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n<!-- counts -->\nold\n<!-- end of counts -->\nrest\n")
    for _ in range(2):
        refresh(readme, "| new |")
        assert readme.read_text() == "# Title\n<!-- counts -->\n| new |\n<!-- end of counts -->\nrest\n"
    readme.write_text("no marks\n")
    refresh(readme, "| new |")
    assert readme.read_text() == "no marks\n"
