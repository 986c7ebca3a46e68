"""Recordings from strangers: every container spoilt, playlists, nothing, noise that says it is sound."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

from asrpeft.audio.decode import decode, pieces, probe
from tests.attack.runner import Surface, Wrong, spoil_bytes
from tests.audio.sounds import encoded, muxed

PLAYLISTS = (
    "ffconcat version 1.0\nfile {path}\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n{path}\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    "[playlist]\nFile1={path}\nNumberOfEntries=1\n",
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{path}</BaseURL></Period></MPD>',
    "ffconcat version 1.0\n" + "file {path}\n" * 2000,
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n" + "#EXTINF:9,\n{path}\n" * 500,
)
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".webm", ".m3u8", ".txt", ".bin", "")


def prepare(folder: Path):
    samples = 0.3 * np.sin(np.arange(12_000) / 8).astype(np.float32)
    held = []
    for kind, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "IMA_ADPCM"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
        ("AU", "ULAW"),
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
    ):
        held.append(encoded(samples, kind=kind, subtype=subtype))
    for container, codec in (
        ("mp4", "aac"),
        ("webm", "libopus"),
        ("matroska", "aac"),
        ("adts", "aac"),
        ("mpegts", "mp2"),
        ("flv", "aac"),
        ("avi", "mp2"),
        ("ipod", "alac"),
    ):
        held.append(muxed(samples, 48_000 if codec == "libopus" else 16_000, container, codec))
    (folder / "secret.wav").write_bytes(held[0])
    return folder / "secret.wav", held


def case(rng: random.Random, shared, own: Path) -> None:
    secret, held = shared
    turn = rng.random()
    playlist = turn < 0.15
    if playlist:
        path = rng.choice([str(secret), "../shared/secret.wav", f"file:{secret}", "http://127.0.0.1:9/x.wav", "given.wav", "concat:a|b", "tcp://127.0.0.1:9"])
        data = rng.choice(PLAYLISTS).format(path=path).encode()
        data = rng.choice([b"", b"", b"\xef\xbb\xbf", b"\n"]) + data
    elif turn < 0.2:
        data = rng.choice([b"", b"RIFF", b"fLaC", b"OggS", b"\xff\xfb", b"ID3", b"\0" * 5_000, rng.randbytes(3_000), b"RIFF" + rng.randbytes(3_000)])
    else:
        data = spoil_bytes(rng.choice(held), rng)
    source: bytes | Path = data
    if rng.random() < 0.6:
        source = own / f"given{rng.choice(SUFFIXES)}"
        source.write_bytes(data)
    turn = rng.random()
    if turn < 0.15:
        if not math.isfinite(probe(source)):
            raise Wrong("a length that is not a number")
    elif turn < 0.3:
        _check(decode(source, start=rng.choice([0.0, 0.2, 5.0]), duration=rng.choice([None, 0.1, 1e9])), playlist)
    elif turn < 0.5:
        _check(np.concatenate([np.zeros(0, np.float32), *pieces(source)]), playlist)
    else:
        _check(decode(source, most_s=30.0), playlist)


def _check(samples: np.ndarray, playlist: bool) -> None:
    if samples.dtype != np.float32 or samples.ndim != 1 or not np.isfinite(samples).all():
        raise Wrong(f"samples of {samples.dtype}, {samples.shape}, finite: {np.isfinite(samples).all()}")
    if playlist:
        raise Wrong("a playlist was taken for a recording")


SURFACE = Surface("recordings", prepare, case, weight=3.0)
