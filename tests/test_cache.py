"""The cache on disk: what is found is what was put, whoever else writes there, whatever the disk does, and never too much of it."""

import io
import json
import multiprocessing
import os
import pickle
import shutil
import time

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from typer.testing import CliRunner

from asrpeft import cache
from asrpeft.audio import cached
from asrpeft.cache import DiskCache, key_of
from asrpeft.cli import main
from asrpeft.corpus import AudioRef, read
from asrpeft.corpus.formats import parquet
from asrpeft.errors import BadAudio, BadInput

ARRAYS = {
    "float32": np.linspace(-1, 1, 999, dtype=np.float32),
    "int16": np.arange(-500, 500, dtype=np.int16),
    "nothing": np.zeros(0, np.float32),
    "half": np.linspace(-9, 9, 24, dtype=np.float16).reshape(2, 3, 4),
    "signed zeros and huge": np.array([-0.0, 0.0, 1e38, 1e-40], np.float32),
}


@pytest.fixture
def disk(tmp_path):
    return DiskCache(tmp_path / "cache", limit=10_000_000)


@pytest.fixture
def in_use(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.delenv(cache.SIZE, raising=False)
    monkeypatch.setattr(cached, "WORTH_S", 0.0)
    return cache.current()


def files(disk):
    return sorted(path for path in disk.folder.glob("*/*/*") if path.is_file())


def put(disk, n, *, at=None, size=1000):
    """Array number `n`, of `size` float32, as if used at a time."""
    disk.put("samples", key_of(n), np.full(size, n, np.float32))
    if at is not None:
        os.utime(disk.folder / "samples" / key_of(n)[:2] / key_of(n), (at, at))


@pytest.mark.parametrize("case", ARRAYS)
def test_what_is_found_is_what_was_put_to_the_bit(disk, case):
    assert disk.get("samples", key_of(1)) is None
    disk.put("samples", key_of(1), ARRAYS[case])
    found = disk.get("samples", key_of(1))
    assert found.dtype == ARRAYS[case].dtype and found.shape == ARRAYS[case].shape and found.tobytes() == ARRAYS[case].tobytes()
    found += 1  # its own memory


def test_kinds_and_keys_are_kept_apart(disk):
    put(disk, 1), put(disk, 2)
    assert disk.get("samples", key_of(1))[0] == 1 and disk.get("samples", key_of(2))[0] == 2 and disk.get("states", key_of(1)) is None


def test_another_dtype_is_refused(disk):
    with pytest.raises(BadInput, match="float32, float16 and int16"):
        disk.put("samples", key_of(1), np.zeros(3))


@pytest.mark.parametrize("place", [0, 8, 12, 15, 20, 300, -1])
def test_a_flipped_bit_is_noticed_and_the_file_removed(disk, place):
    put(disk, 1)
    (path,) = files(disk)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert disk.get("samples", key_of(1)) is None and not path.exists()


@pytest.mark.parametrize("left", [0, 5, 14, 15, 20, 1000])
def test_a_torn_file_is_noticed(disk, left):
    put(disk, 1)
    (path,) = files(disk)
    path.write_bytes(path.read_bytes()[:left])
    assert disk.get("samples", key_of(1)) is None
    put(disk, 1)
    assert disk.get("samples", key_of(1)) is not None


def test_no_more_than_the_limit_is_kept_and_what_was_used_least_recently_goes(tmp_path):
    disk, now = DiskCache(tmp_path, limit=100_000), time.time()
    for n in range(20):
        put(disk, n, at=now - 10_000 + n)
    assert disk.get("samples", key_of(0)) is not None  # used now: it stays
    for n in range(20, 35):
        put(disk, n)
        assert disk.usage().total <= 100_000
    kept = {n for n in range(35) if disk.get("samples", key_of(n)) is not None}
    assert 0 in kept and 34 in kept and not kept & set(range(1, 12)) and len(kept) > 15


def test_processes_that_write_at_once_keep_within_the_limit_and_spoil_nothing(tmp_path):
    def work(seed):
        disk = DiskCache(tmp_path, limit=200_000)
        for i in range(60):
            n = (i * 7 + seed * 13) % 90
            found = disk.get("samples", key_of(n))
            if found is None:
                put(disk, n)
            elif not (found == n).all() or len(found) != 1000:
                os._exit(1)
        os._exit(0)

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(seed,)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert DiskCache(tmp_path, limit=200_000).usage().total <= 200_000 * (1 + 3 * cache.SLACK)
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_what_a_dead_process_left_half_written_is_removed(disk):
    put(disk, 1)
    half, fresh = (files(disk)[0].with_name(name) for name in (".half-1-x", ".fresh-1-x"))
    for path in (half, fresh):
        path.write_bytes(b"x")
    os.utime(half, (time.time() - 9_999,) * 2)
    disk.shrink_to(1.0)
    assert not half.exists() and fresh.exists() and disk.get("samples", key_of(1)) is not None


def test_a_disk_that_cannot_be_written_to_ends_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    disk = DiskCache(tmp_path / "file" / "cache", limit=10_000)
    put(disk, 1)
    assert disk.get("samples", key_of(1)) is None
    full = DiskCache(tmp_path / "cache", limit=1_000_000)
    put(full, 1)
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "no space left")))
    put(full, 2)
    monkeypatch.undo()
    put(full, 3)  # not tried again
    assert [full.get("samples", key_of(n)) is not None for n in (1, 2, 3)] == [True, False, False]


def test_a_disk_that_is_nearly_full_is_left_to_others(disk, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 1000, 1000))
    put(disk, 1)
    assert disk.get("samples", key_of(1)) is None


def test_clearing_removes_what_is_kept_and_nothing_else(disk):
    for n in range(5):
        put(disk, n)
    (disk.folder / "notes.txt").write_text("mine")
    before = disk.clear()
    assert before.files == {"samples": 5} and before.total > 20_000 and disk.usage().total == 0
    assert {path.name for path in disk.folder.iterdir()} == {".lock", "notes.txt"}
    put(disk, 1)
    assert disk.get("samples", key_of(1)) is not None


def test_shrinking_leaves_what_was_used_last(disk):
    for n in range(5):
        put(disk, n, at=time.time() - 100 + n)
    disk.shrink_to(2e-5 / 2)  # 10 kB: two of them
    assert [disk.get("samples", key_of(n)) is not None for n in range(5)] == [False] * 3 + [True] * 2
    with pytest.raises(BadInput, match="no size"):
        disk.shrink_to(-1)


def test_a_copy_in_another_process_goes_on_in_the_same_folder(disk):
    put(disk, 1)
    assert pickle.loads(pickle.dumps(disk)).get("samples", key_of(1)) is not None


# -- which one -----------------------------------------------------------------------------------------------------------
def test_the_environment_says_where_and_how_much(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path)), monkeypatch.setenv(cache.SIZE, "2.5")
    assert (cache.current().folder, cache.current().limit) == (tmp_path, 2_500_000_000)
    monkeypatch.setenv(cache.SIZE, "0")
    assert cache.current() is None
    monkeypatch.setenv(cache.FOLDER, "off"), monkeypatch.delenv(cache.SIZE)
    assert cache.current() is None
    monkeypatch.delenv(cache.FOLDER), monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path)), monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache.current().folder.name == "asrpeft" and cache.current().limit == cache.DEFAULT_GB * 1e9


def test_what_cannot_be_meant_is_refused_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    monkeypatch.delenv(cache.SIZE, raising=False)
    (tmp_path / "file").write_bytes(b"")
    for wrong in ({"gigabytes": -1}, {"gigabytes": float("nan")}, {"folder": tmp_path / "file"}):
        with pytest.raises(BadInput, match="GB|file"):
            cache.use(**wrong)
        assert cache.current().folder == tmp_path


# -- audio ---------------------------------------------------------------------------------------------------------------
def encoded(kind, subtype, rate=16_000):
    out = io.BytesIO()
    sound = 0.4 * np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32)
    soundfile.write(out, sound, rate, format=kind, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(
    "kind, subtype, rate, half",
    [
        ("WAV", "PCM_16", 16_000, True),
        ("OGG", "VORBIS", 16_000, False),
        ("WAV", "FLOAT", 16_000, False),
        ("FLAC", "PCM_24", 16_000, False),
        ("MP3", "MPEG_LAYER_III", 44_100, False),
    ],
)
def test_audio_from_the_cache_is_what_decoding_gives_to_the_bit(in_use, monkeypatch, kind, subtype, rate, half):
    audio = AudioRef(encoded(kind, subtype, rate), "a")
    fresh = audio.decoded()
    first = audio.samples()
    monkeypatch.setattr("asrpeft.corpus.utterance.decode", None)  # nothing is decoded again
    second = audio.samples()
    assert first.tobytes() == fresh.tobytes() == second.tobytes() and second.dtype == np.float32 and second.flags.writeable
    assert in_use.get("samples", files(in_use)[0].name).dtype == (np.int16 if half else np.float32)


def test_parts_of_a_recording_and_other_content_under_its_name_are_kept_apart(in_use, tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(encoded("OGG", "VORBIS"))
    whole, part = AudioRef(path, "a"), AudioRef(path, "a", start=0.5, duration=1.0)
    assert len(whole.samples()) == 32_000 and len(part.samples()) == 16_000 and len(part.samples()) == 16_000
    path.write_bytes(encoded("WAV", "PCM_16")[:-8000])
    soundfile.write(path, np.zeros(8_000), 16_000, format="WAV")
    assert len(whole.samples()) == 8_000 and not whole.samples().any()
    path.unlink()
    with pytest.raises(BadAudio, match="no such file|cannot be read"):
        whole.samples()


def test_damaged_audio_in_the_cache_is_decoded_anew(in_use):
    audio = AudioRef(encoded("OGG", "VORBIS"), "a")
    fresh = audio.samples()
    for path in files(in_use):
        path.write_bytes(path.read_bytes()[:-7])
    assert audio.samples().tobytes() == fresh.tobytes() == audio.samples().tobytes() and len(files(in_use)) == 1


def test_audio_that_cannot_be_decoded_is_not_kept(in_use):
    for _ in range(2):
        with pytest.raises(BadAudio, match="broken"):
            AudioRef(b"nothing that sounds", "broken.wav").samples()
    assert not files(in_use)


def test_what_decodes_as_fast_as_it_is_read_back_is_not_kept(in_use, monkeypatch):
    monkeypatch.setattr(cached, "WORTH_S", 60.0)
    AudioRef(encoded("WAV", "PCM_16"), "a").samples()
    assert not files(in_use)


def test_cells_of_a_big_table_are_known_without_being_fetched(in_use, tmp_path, monkeypatch):
    def written(sounds):
        table = pyarrow.table({"audio": [{"bytes": sound, "path": "x"} for sound in sounds], "text": ["a", "b"], "duration": [2.0, 2.0]})
        pyarrow.parquet.write_table(table, tmp_path / "x.parquet")

    monkeypatch.setattr(parquet, "IN_MEMORY", 10)
    written([encoded("WAV", "PCM_16"), encoded("OGG", "VORBIS")])
    first = [u.samples() for u in read(tmp_path / "x.parquet")]
    fetch = parquet.Cell.__call__
    monkeypatch.setattr(parquet.Cell, "__call__", None)
    again = [u.samples() for u in read(tmp_path / "x.parquet")]
    assert [a.tobytes() for a in again] == [f.tobytes() for f in first] and first[0].tobytes() != first[1].tobytes()
    monkeypatch.setattr(parquet.Cell, "__call__", fetch)
    written([encoded("WAV", "PCM_16")[:-20_000], encoded("OGG", "VORBIS")])
    parquet._column.cache_clear()
    with pytest.raises(BadAudio, match="truncated"):
        read(tmp_path / "x.parquet")[0].samples()


# -- the command ---------------------------------------------------------------------------------------------------------
def data_cache(*arguments):
    done = CliRunner().invoke(main.app, ["data", "cache", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_says_what_is_kept_and_removes_it(in_use):
    for n in range(4):
        put(in_use, n, at=time.time() - 100 + n)
    in_use.put("states", key_of("s"), np.zeros((3, 4), np.float32))
    found = json.loads(data_cache("--json"))
    assert found["kinds"]["samples"]["files"] == 4 and found["kinds"]["states"]["files"] == 1 and found["folder"] == str(in_use.folder)
    assert sum(kind["bytes"] for kind in found["kinds"].values()) == found["bytes"] == in_use.usage().total
    assert "samples" in data_cache() and "4" in data_cache()
    assert json.loads(data_cache("--shrink", "0.000009", "--json"))["bytes"] <= 9_000
    left = in_use.usage().total
    assert json.loads(data_cache("--clear", "--json"))["removed_bytes"] == left > 0 and in_use.usage().total == 0


def test_the_command_looks_at_another_cache_and_says_where_there_is_none(in_use, tmp_path):
    put(DiskCache(tmp_path / "other", limit=10**7), 1)
    assert json.loads(data_cache("--cache", str(tmp_path / "other"), "--json"))["kinds"]["samples"]["files"] == 1
    assert "off" in data_cache("--cache", "off") and json.loads(data_cache("--cache", "off", "--json"))["folder"] is None
