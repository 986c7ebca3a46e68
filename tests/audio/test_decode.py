import contextlib
import io
import struct
import sys

import numpy as np
import pytest
import soundfile

from asrpeft.audio import decode, probe
from asrpeft.errors import BadAudio
from tests.audio.sounds import chirp, encoded, muxed

LIBSNDFILE = [
    ("WAV", "PCM_16", 16_000), ("WAV", "PCM_24", 48_000), ("WAV", "PCM_U8", 8_000), ("WAV", "FLOAT", 44_100), ("WAV", "ULAW", 8_000),
    ("FLAC", "PCM_16", 22_050), ("FLAC", "PCM_24", 96_000), ("OGG", "VORBIS", 44_100), ("OGG", "OPUS", 16_000), ("MP3", None, 44_100),
    ("AIFF", "PCM_16", 11_025), ("CAF", "PCM_16", 32_000),
]  # fmt: skip
FFMPEG = [("ipod", "aac", 44_100), ("mp4", "aac", 16_000), ("adts", "aac", 32_000), ("webm", "libopus", 48_000), ("matroska", "aac", 8_000)]


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The best correlation over delays of -50 to 80 ms: encoders such as AAC put silence in front."""
    middle = b[4_000:28_000].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(a[3_200:29_300].astype(np.float64), middle.size)
    return float(np.max(windows @ middle / np.sqrt((windows**2).sum(axis=1) * (middle @ middle))))


@pytest.mark.parametrize("kind, subtype, rate", LIBSNDFILE)
def test_every_rate_and_format_of_libsndfile_becomes_the_same_sixteen_kilohertz(kind, subtype, rate):
    got = decode(encoded(chirp(2.0, rate), rate, kind, subtype))
    assert got.dtype == np.float32 and got.ndim == 1 and got.flags["C_CONTIGUOUS"]
    assert abs(got.size - 32_000) <= 1
    tolerance = 2e-3 if (subtype or "").startswith(("PCM_16", "PCM_24", "FLOAT")) else 0.08
    assert np.abs(got[800:-800] - chirp(2.0)[800 : got.size - 800]).max() < tolerance


@pytest.mark.parametrize("container, codec, rate", FFMPEG)
def test_what_libsndfile_cannot_open_goes_through_ffmpeg(container, codec, rate):
    data = muxed(chirp(2.0, rate), rate, container, codec)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.SoundFile(io.BytesIO(data))
    got = decode(data)
    assert abs(got.size - 32_000) < 0.2 * 16_000  # AAC pads to whole frames
    assert likeness(got, chirp(2.0)) > 0.95  # half a sample of delay is 8 % at 2 kHz


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_channels_are_averaged(channels):
    loud = np.zeros((16_000, channels), np.float32)
    loud[:, 0] = chirp(1.0)
    np.testing.assert_allclose(decode(encoded(loud, 16_000, "WAV", "FLOAT")), chirp(1.0) / channels, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 5, 12, 31])
def test_ffmpeg_averages_any_number_of_channels(channels, monkeypatch):
    def unknown(*_):
        raise soundfile.SoundFileError("libsndfile does not know this")

    loud = np.zeros((16_000, channels), np.float32)
    loud[:, -1] = chirp(1.0)
    data = encoded(loud, 16_000, "WAV", "FLOAT")
    monkeypatch.setattr(soundfile, "SoundFile", unknown)
    np.testing.assert_allclose(decode(data), chirp(1.0) / channels, atol=1e-6)


def test_channels_are_averaged_in_ffmpegs_containers_too():
    both = np.stack([chirp(2.0, 48_000), np.zeros(96_000, np.float32)])
    mixed, alone = (decode(muxed(sound, 48_000, "webm", "libopus")) for sound in (both, both[0]))
    assert np.std(mixed) / np.std(alone) == pytest.approx(0.5, abs=0.03)


def test_resampling_lets_no_tone_alias():
    high = (0.3 * np.sin(2 * np.pi * 9_500 * np.arange(48_000) / 48_000)).astype(np.float32)  # 9.5 kHz: over half of 16 kHz
    assert np.abs(decode(encoded(high, 48_000, "WAV", "FLOAT"))[400:-400]).max() < 3e-4


@pytest.mark.parametrize("kind, rate", [("WAV", 16_000), ("WAV", 44_100), ("FLAC", 48_000), ("OGG", 16_000), ("MP3", 44_100)])
def test_a_part_is_the_slice_of_the_whole(kind, rate, tmp_path):
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(encoded(chirp(4.0, rate), rate, kind))
    whole, part = decode(path), decode(path, start=1.5, duration=1.25)
    assert part.size == 20_000
    np.testing.assert_allclose(part, whole[24_000:44_000], atol=2e-3)
    np.testing.assert_allclose(decode(path, start=2.0), whole[32_000:], atol=2e-3)


def test_a_part_of_an_m4a_is_the_slice_of_the_whole():
    data = muxed(chirp(6.0, 44_100), 44_100, "ipod", "aac")
    whole = decode(data)
    np.testing.assert_allclose(decode(data, start=3.0, duration=1.0), whole[48_000:64_000], atol=2e-3)


def test_a_duration_beyond_the_end_gives_what_there_is():
    assert decode(encoded(chirp(1.0)), start=0.75, duration=9.0).size == 4_000


@pytest.mark.parametrize("name", ["plain.wav", "with space.wav", "naïve – ʃwa 音.wav", "a;b&c'd.wav", "-rf.wav", "%2e%2e.wav"])
def test_hostile_names_are_just_names(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(chirp(0.5)))
    assert decode(tmp_path / name).size == decode(str(tmp_path / name)).size == 8_000


def test_a_suffix_that_lies_does_not_matter(tmp_path):
    (tmp_path / "a.mp3").write_bytes(encoded(chirp(0.5), kind="FLAC"))
    assert decode(tmp_path / "a.mp3").size == 8_000


@pytest.mark.parametrize("kind, subtype, rate", LIBSNDFILE)
def test_probe_reads_the_length_from_the_header(kind, subtype, rate):
    assert probe(encoded(chirp(2.0, rate), rate, kind, subtype)) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("container, codec, rate", FFMPEG)
def test_probe_knows_the_length_of_ffmpegs_containers(container, codec, rate):
    assert probe(muxed(chirp(2.0, rate), rate, container, codec)) == pytest.approx(2.0, abs=0.3)  # whole AAC frames, 0.13 s each at 8 kHz


def _with_rate(rate: int) -> bytes:
    data = bytearray(encoded(chirp(0.5)))
    data[24:28] = struct.pack("<I", rate)
    return bytes(data)


BROKEN = {
    "nothing": b"",
    "random bytes": np.random.default_rng(3).bytes(5_000),
    "text": b"this is no audio, it is a text that somebody named .wav\n" * 20,
    "a header cut off": encoded(chirp(1.0))[:20],
    "a header alone": encoded(chirp(1.0))[:44],
    "a wav cut in half": encoded(chirp(1.0))[:16_000],
    "a flac cut in half": encoded(np.random.default_rng(0).standard_normal(32_000) * 0.1, kind="FLAC")[:20_000],
    "an mp3 cut to its first bytes": encoded(chirp(1.0), 44_100, "MP3")[:60],
    "an ogg cut to its first bytes": encoded(chirp(1.0), kind="OGG")[:60],
    "an m4a cut in half": (lambda data: data[: len(data) // 2])(muxed(chirp(2.0, 44_100), 44_100, "ipod", "aac")),
    "an mp4 without audio": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"\x00\x00\x00\x08moov",
    "no samples": encoded(np.zeros(0, np.float32)),
    "no samples in flac": encoded(np.zeros(0, np.float32), kind="FLAC"),
    "not a number": encoded(np.array([0.1, np.nan, 0.1] * 100, np.float32), subtype="FLOAT"),
    "infinity": encoded(np.array([0.1, np.inf, 0.1] * 100, np.float32), subtype="FLOAT"),
    "absurdly loud": encoded(np.full(300, 1e30, np.float32), subtype="FLOAT"),
    "a rate of 0": _with_rate(0),
    "a rate of 7": _with_rate(7),
    "a rate of two thousand million": _with_rate(2_000_000_000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_audio_is_refused_by_name_and_with_a_remedy(name, tmp_path):
    path = tmp_path / f"{name}.wav"
    path.write_bytes(BROKEN[name])
    with pytest.raises(BadAudio, match=rf"{name}\.wav: ") as error:
        decode(path)
    assert len(str(error.value)) < 700 and "0x" not in str(error.value)
    with pytest.raises(BadAudio):
        decode(BROKEN[name])


def test_random_bytes_never_raise_anything_but_bad_audio():
    random = np.random.default_rng(7)
    whole = [encoded(chirp(0.3, r), r, k) for k, r in [("WAV", 16_000), ("FLAC", 16_000), ("OGG", 16_000), ("MP3", 44_100)]]
    whole.append(muxed(chirp(0.3, 44_100), 44_100, "ipod", "aac"))
    for trial in range(200):
        data = bytearray(whole[trial % len(whole)])
        for _ in range(random.integers(1, 30)):
            data[random.integers(len(data))] = random.integers(256)
        try:
            samples = decode(bytes(data[: random.integers(1, len(data) + 1)]))
        except BadAudio:
            continue
        assert samples.size and np.isfinite(samples).all()


def test_damaged_headers_print_no_traceback(monkeypatch):
    """libsndfile seeks to impossible places in some of these; what goes wrong in its callbacks is printed, not raised."""
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    random = np.random.default_rng(1)
    for trial in range(300):
        data = bytearray(encoded(chirp(0.05), kind=["WAV", "AIFF", "CAF"][trial % 3]))
        for place in random.integers(0, 100, 6):
            data[place % len(data)] = random.integers(256)
        with contextlib.suppress(BadAudio):
            decode(bytes(data))
    assert printed == []


@pytest.mark.parametrize("where", ["missing.wav", "no/such/folder/a.wav", "nul\0byte.wav", "x" * 5_000])
def test_a_missing_file_is_said_to_be_missing(tmp_path, where):
    with pytest.raises(BadAudio, match="no such file|cannot be opened"):
        decode(tmp_path / where)


def test_a_folder_is_no_audio(tmp_path):
    with pytest.raises(BadAudio, match="a folder"):
        decode(tmp_path)


@pytest.mark.parametrize("part", [{"start": -1.0}, {"duration": 0.0}, {"duration": -3.0}, {"start": 5.0}])
def test_a_part_that_is_not_there_is_refused(part):
    with pytest.raises(BadAudio):
        decode(encoded(chirp(1.0)), **part)


def test_a_wav_written_by_a_program_that_could_not_seek_back_is_read():
    data = bytearray(encoded(chirp(1.0)))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    assert decode(bytes(data)).size == 16_000


def test_a_raw_file_says_nothing_of_itself_and_is_refused(tmp_path):
    (tmp_path / "x.raw").write_bytes(bytes(3_200))
    with pytest.raises(BadAudio, match="x.raw: (not an audio format|it has no audio track)"):
        decode(tmp_path / "x.raw")
