import contextlib
import io
import os
import re
import struct
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import soundfile

from asrpeft.audio import decode, pieces, probe, recording
from asrpeft.audio.piped import on_disk
from asrpeft.audio.quiet import without_chatter
from asrpeft.errors import BadAudio, Failure
from tests.audio.sounds import chirp, encoded, muxed

module = sys.modules["asrpeft.audio.decode"]  # the package gives the function of that name

LIBSNDFILE = [
    ("WAV", "PCM_16", 16_000),
    ("WAV", "PCM_24", 48_000),
    ("WAV", "PCM_U8", 8_000),
    ("WAV", "FLOAT", 44_100),
    ("WAV", "ULAW", 8_000),
    ("FLAC", "PCM_16", 22_050),
    ("FLAC", "PCM_24", 96_000),
    ("OGG", "VORBIS", 44_100),
    ("OGG", "OPUS", 16_000),
    ("MP3", None, 44_100),
    ("AIFF", "PCM_16", 11_025),
    ("CAF", "PCM_16", 32_000),
]
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


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {name}\n",
    "concat of itself": "ffconcat version 1.0\nfile list.wav\nfile list.wav\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{name}\n#EXT-X-ENDLIST\n",
    "hls after a blank line": "\n#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{name}\n#EXT-X-ENDLIST\n",
    "pls": "[playlist]\nFile1={name}\nNumberOfEntries=1\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 96\na=rtpmap:96 opus/48000/2\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{name}</BaseURL></Period></MPD>',
    "tedcaptions": '{{"captions":[{{"duration":1000,"content":"{name}","startOfParagraph":true,"startTime":0}}]}}',
    "a script that draws sound": "lavfi\nsine=frequency=440\n",
}


@pytest.mark.parametrize("suffix", ["wav", "m3u8", "ffconcat", "sdp"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_no_audio_and_opens_no_neighbor(kind, suffix, tmp_path):
    (tmp_path / "other.wav").write_bytes(encoded(chirp(0.5)))
    (tmp_path / f"list.{suffix}").write_text(PLAYLISTS[kind].format(name="other.wav"))
    for use in (decode, probe):
        with pytest.raises(BadAudio, match=r"list\.\w+: (it begins with .* a playlist|not an audio format)"):
            use(tmp_path / f"list.{suffix}")


def test_ffmpeg_is_allowed_no_format_that_names_other_files_even_without_our_look_at_its_beginning(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_PLAYLIST", re.compile(b"never$^"))
    (tmp_path / "other.wav").write_bytes(encoded(chirp(0.5)))
    for text in PLAYLISTS.values():
        (tmp_path / "list.m3u8").write_text(text.format(name="other.wav"))
        with pytest.raises(BadAudio, match="not an audio format"):
            decode(tmp_path / "list.m3u8")


@pytest.mark.parametrize("name", ["concat:a.m4a|b.m4a", "http:a.m4a", "subfile,,start,1,end,9,,:a.m4a", "pipe:0"])
def test_a_name_that_is_an_address_to_ffmpeg_is_just_a_name(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open(name, "wb").write(muxed(chirp(1.0, 44_100), 44_100, "ipod", "aac"))
    assert decode(name).size > 15_000


CONVERTED = [("WAV", 16_000), ("WAV", 44_100), ("FLAC", 48_000), ("OGG", 16_000), ("MP3", 44_100), ("ipod", 44_100), ("webm", 48_000)]


@pytest.mark.parametrize("kind, rate", CONVERTED)
def test_pieces_are_the_whole_cut_anywhere(kind, rate, monkeypatch):
    sound = chirp(7.0, rate)
    data = muxed(sound, rate, kind, {"ipod": "aac", "webm": "libopus"}[kind]) if kind.islower() else encoded(sound, rate, kind)
    whole = decode(data)
    monkeypatch.setattr(module, "BLOCK", 30_001)
    got = list(pieces(data))
    assert len(got) > 3 and max(map(len, got)) < 80_000
    np.testing.assert_array_equal(np.concatenate(got), whole)
    np.testing.assert_array_equal(np.concatenate(list(pieces(data, start=1.25, duration=2.5))), decode(data, start=1.25, duration=2.5))


@pytest.mark.parametrize("held_s", [600.0, 2.0])
def test_a_recording_is_read_through_before_any_of_it_is_used(held_s, monkeypatch):
    monkeypatch.setattr(module, "HELD_S", held_s)
    monkeypatch.setattr(module, "BLOCK", 10_000)
    data = encoded(chirp(4.0), kind="FLAC")
    whole = decode(data)
    read = recording(data)
    assert read.seconds == 4.0 and bool(read.held) is (held_s > 4)
    for size in (1_000, 7_777, 70_000):
        got = list(read.pieces(size))
        assert {len(part) for part in got[:-1]} <= {size} and 0 < len(got[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(got), whole)
    with pytest.raises(BadAudio, match="truncated|cannot be decoded"):
        recording(BROKEN["a flac cut in half"])


def test_hours_of_audio_take_no_more_memory_than_minutes():
    """In a process of its own, whose peak is its own: half an hour would be 115 MB."""
    code = """
        import io, resource, sys
        import numpy as np, soundfile
        from asrpeft.audio import decode, probe, recording
        sys.modules["asrpeft.audio.decode"].HELD_S = 60.0
        from asrpeft.errors import BadAudio
        file = io.BytesIO()
        with soundfile.SoundFile(file, "w", 16_000, 1, format="FLAC", subtype="PCM_16") as out:
            for _ in range(30):
                out.write(np.zeros(60 * 16_000, np.int16))
        data = file.getvalue()
        unknown = bytearray(data)
        unknown[21] &= 0xF0; unknown[22:26] = bytes(4)
        decode(data, duration=1.0); decode(bytes(unknown), duration=1.0)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        before = peak()
        read = recording(data)
        assert read.seconds == probe(bytes(unknown)) == 1_800 and sum(len(p) for p in read.pieces(262_144)) == 1_800 * 16_000
        for what in (data, bytes(unknown)):
            try: decode(what, most_s=30.0)
            except BadAudio as error: assert "longer than 30 s" in str(error)
            else: raise SystemExit("taken")
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40


def test_a_flac_of_unknown_length_is_read():
    data = bytearray(encoded(chirp(2.0), kind="FLAC"))
    data[21] &= 0xF0  # STREAMINFO: the number of samples is 0, as programs write it that cannot seek back
    data[22:26] = bytes(4)
    whole = decode(encoded(chirp(2.0), kind="FLAC"))
    np.testing.assert_array_equal(decode(bytes(data)), whole)
    np.testing.assert_allclose(decode(bytes(data), start=1.5, duration=0.25), whole[24_000:28_000], atol=1e-5)
    assert probe(bytes(data)) == 2.0


def test_a_part_past_the_most_is_refused_before_the_rest_is_decoded(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1_000)
    read = []
    real = module._Sndfile.blocks
    monkeypatch.setattr(module._Sndfile, "blocks", lambda self, *part: (read.append(len(b)) or b for b in real(self, *part)))
    data = encoded(chirp(4.0))
    with pytest.raises(BadAudio, match="longer than 0.5 s"):
        decode(data, most_s=0.5)
    assert sum(read) <= 10_000
    assert decode(data, most_s=4.0).size == 64_000


def test_lack_of_memory_is_not_called_a_damaged_file(monkeypatch):
    def full(self, *part):
        raise MemoryError
        yield

    monkeypatch.setattr(module._Sndfile, "blocks", full)
    with pytest.raises(Failure, match="not enough memory"):
        decode(encoded(chirp(0.5)))


@pytest.mark.parametrize("part", [{"start": float("nan")}, {"start": float("inf")}, {"duration": float("nan")}, {"duration": float("inf")}])
def test_times_that_are_no_numbers_are_refused(part):
    with pytest.raises(BadAudio, match="asked for"):
        decode(encoded(chirp(1.0)), **part)


def test_what_a_decoder_library_says_on_standard_error_is_not_shown_and_what_others_say_is(capfd, tmp_path):
    data = bytearray(encoded(0.1 * np.random.default_rng(0).standard_normal(44_100), 44_100, "MP3"))
    data[4_000:5_000] = bytes(1_000)
    soundfile_says = len(_said_by_soundfile(bytes(data), capfd))
    with contextlib.suppress(BadAudio):
        decode(bytes(data))
    assert soundfile_says and capfd.readouterr().err == ""
    (tmp_path / "a.mp3").write_bytes(b"\0" * 50 + data[1_000:])  # known to be MPEG by its suffix alone
    with contextlib.suppress(BadAudio):
        decode(tmp_path / "a.mp3")
    assert capfd.readouterr().err == ""
    with without_chatter(), without_chatter():
        os.write(2, b"Note: Illegal Audio-MPEG-Header 0x00 at offset 3.\n[src/libmpg123/layer3.c:x():1] error: no\nsaid by another\n")
    assert capfd.readouterr().err == "said by another\n"


def _said_by_soundfile(data: bytes, capfd) -> str:
    with contextlib.suppress(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(data))
    return capfd.readouterr().err


def test_a_pipe_is_refused_by_decode_and_taken_from_a_writer(tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    with pytest.raises(BadAudio, match="pipe.wav: it is a pipe"):
        decode(pipe)
    with pytest.raises(BadAudio, match="nothing came through this pipe for 0.1 s"), on_disk(pipe, patience_s=0.1):
        pass
    data = muxed(chirp(2.0, 44_100), 44_100, "ipod", "aac")  # needs to be read back and forth
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with on_disk(pipe) as path:
        assert decode(path).size == decode(data).size
    writer.join()
    assert not path.exists()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with pytest.raises(BadAudio, match="more than 0.0 GB"), on_disk(pipe, most_bytes=1_000):
        pass
    writer.join()
    with on_disk(tmp_path / "plain.wav") as path:
        assert path == tmp_path / "plain.wav"


def test_a_device_is_no_audio():
    with pytest.raises(BadAudio, match="a pipe, a socket or a device"):
        decode("/dev/zero")
