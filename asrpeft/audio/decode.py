"""Encoded audio of any kind → mono float32 samples at 16 kHz.

libsndfile (through soundfile) opens WAV, FLAC, Ogg, Opus, MP3, AIFF and some twenty more; what it cannot open (m4a, mp4, webm,
aac, …) goes to FFmpeg's libraries through PyAV. Channels are averaged; rates are converted by soxr at its HQ setting
(-100 dB of aliasing, about 1 ms for ten seconds of 44.1 kHz). Everything is read, mixed and converted in pieces, so that
an hours-long recording takes no more memory than a short one.

FFmpeg also knows files that name other files: playlists (HLS, concat, DASH, …) and addresses on the network. Of its formats only
those are allowed that hold the sound themselves, and nothing but the given file or bytes is ever opened.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from asrpeft.audio.features import SAMPLE_RATE
from asrpeft.audio.quiet import without_chatter
from asrpeft.errors import BadAudio, BadInput, Failure

RATES = range(2_000, 400_001)  # outside it a header is broken, not unusual
LOUDEST = 1e6  # float files are at most 1.0 by custom, 32,768 by mistake; beyond this they hold no sound
MARGIN_S = 0.3  # read around a part: filters and MP3's bit reservoir then give the samples they give in the whole
BLOCK = 1 << 20  # samples of all channels read at a time: a header that promises a terabyte allocates nothing
SHORTFALL = 0.02  # headers that promise up to this share more than there is are common (encoder padding, killed recorders)
STREAMED = 0x7FFF_0000  # sizes from here on are placeholders, written by programs that could not seek back
UNKNOWN = 1 << 40  # libsndfile gives a frame count beyond it where the header says none (a FLAC that was written to a pipe)
HELD_S = 600.0  # recordings up to this length are held (38 MB); longer ones are decoded again for each use

# Containers that hold their own sound. Refused so: concat, hls, dash, sdp, rtsp, imf, tedcaptions, image2, vobsub, lavfi, devices, …
FORMATS = """aa aac ac3 ac4 adx aea aiff amr amrnb amrwb ape asf ast au avi caf dsf dts dtshd dv eac3 flac flv g722 g723_1 g729 gsm gxf
    iamf ilbc iff ircam ivf lc3 loas matroska mlp mov mp3 mpc mpc8 mpeg mpegts mxf nistsphere nsv nut ogg oma osq pva qcp qoa rm rka
    sbc shn sox spdif tak truehd tta voc vqf w64 wav wsd wtv wv xwma""".split()

Source = str | Path | bytes

# libsndfile's errors are RuntimeErrors; most of FFmpeg's inherit from the built-in one that is nearest in meaning.
_DECODING_ERRORS = (av.error.FFmpegError, RuntimeError, OSError, ValueError, EOFError, LookupError)


def decode(source: Source, *, start: float = 0.0, duration: float | None = None, most_s: float | None = None) -> np.ndarray:
    """Read audio, or a part of it, as the recognizer wants it.

    Args:
        source: path of a file, or the bytes of one.
        start, duration: the part wanted, in seconds; a `duration` beyond the end gives what there is. A part equals the
            same slice of the whole, to 1e-3 (to 1 ms of time where a container's clock ticks in milliseconds, as webm's).
        most_s: more seconds than these are refused as soon as they are met, whatever the header says.
    Returns: (n,) float32, mono, 16 kHz, contiguous.
    Raises: BadAudio, naming the source, for what is missing, empty, truncated, too long, of an unknown format, a playlist, or not
        a number; Failure where memory runs out.
    """
    parts, most = [], math.inf if most_s is None else round(most_s * SAMPLE_RATE)
    for part in pieces(source, start=start, duration=duration):
        parts.append(part)
        most -= part.size
        if most < 0:
            raise BadAudio(f"{_name(source)}: it is longer than {most_s:g} s. Cut it at pauses.")
    with _memory_for(_name(source)):
        return np.concatenate(parts)


def pieces(source: Source, *, start: float = 0.0, duration: float | None = None) -> Iterator[np.ndarray]:
    """What `decode` gives, sample for sample, in pieces of a few MB: memory does not grow with the recording.

    Args and raises: as `decode`; a file that breaks off raises when its end is reached.
    """
    name = _name(source)
    if not (math.isfinite(start) and start >= 0 and (duration is None or math.isfinite(duration) and duration > 0)):
        raise BadAudio(f"{name}: asked for {duration} s from {start} s; start must be 0 or more, duration more than 0.")
    margin = MARGIN_S if start > 0 or duration is not None else 0.0
    lead = min(start, margin)
    length = None if duration is None else lead + duration + margin
    skip, left = round(lead * SAMPLE_RATE), None if duration is None else round(duration * SAMPLE_RATE)
    given = 0
    with _opened(source, name) as reader:
        rate = _checked_rate(reader.rate, name)
        read = _Counted(reader.blocks(start - lead, length), name)
        for block in _at_16_khz(read, rate):
            part = np.ascontiguousarray(block[skip:][:left], dtype=np.float32)
            skip = max(0, skip - block.size)
            left = None if left is None else left - part.size
            given += part.size
            if part.size:
                yield part
    if read.samples <= round(lead * rate):
        reason = "it holds no samples" if start == 0 else f"it ends before {start:g} s"
        raise BadAudio(f"{name}: {reason}. Remove it from the data, or fetch it again.")
    if not given:
        raise BadAudio(f"{name}: it is shorter than one sample at 16 kHz. Remove it from the data, or fetch it again.")


def probe(source: Source) -> float:
    """Seconds of audio, from the header where the header says so (browsers' webm does not), else by decoding.

    Raises: BadAudio, as `decode`, as far as the header shows it.
    """
    name = _name(source)
    with _opened(source, name) as reader:
        _checked_rate(reader.rate, name)
        seconds = reader.seconds()
    seconds = sum(part.size for part in pieces(source)) / SAMPLE_RATE if seconds is None else seconds
    if seconds <= 0:
        raise BadAudio(f"{name}: it holds no samples. Remove it from the data, or fetch it again.")
    return seconds


@dataclass(frozen=True)
class Recording:
    """A recording of any length that was read to its end once, so that nothing in it can fail later.

    `seconds` is its exact length. Up to ten minutes are held; of a longer one `pieces` decodes again (a thousand times faster than
    speech), so that hours take no more memory than minutes.
    """

    source: Source | None = field(repr=False)
    seconds: float
    held: tuple[np.ndarray, ...] = field(repr=False, default=())

    def pieces(self, size: int) -> Iterator[np.ndarray]:
        """(size,) float32 samples at a time, the last perhaps fewer."""
        rest: list[np.ndarray] = []
        have = 0
        parts = self.held if self.held or self.source is None else pieces(self.source)
        for part in parts:
            rest.append(part)
            have += part.size
            if have >= size:
                data = np.concatenate(rest)
                whole = have // size * size
                yield from data[:whole].reshape(-1, size)
                rest, have = [data[whole:].copy()], have - whole
        if have:
            yield np.concatenate(rest)


def recording(source: Source | np.ndarray) -> Recording:
    """Read a recording, or (n,) float samples at 16 kHz, through to the end. Raises: as `decode`."""
    if isinstance(source, np.ndarray):
        return Recording(None, source.size / SAMPLE_RATE, (source,))
    held: list[np.ndarray] = []
    n = 0
    for part in pieces(source):
        n += part.size
        if n <= HELD_S * SAMPLE_RATE:
            held.append(part)
        else:
            held.clear()
    return Recording(source, n / SAMPLE_RATE, tuple(held))


def _name(source: Source) -> str:
    return f"audio of {len(source):,} bytes" if isinstance(source, bytes) else str(source)


def _checked_rate(rate: int, name: str) -> int:
    if rate not in RATES:
        raise BadAudio(f"{name}: its header says {rate} samples a second; {RATES.start:,} to {RATES.stop - 1:,} are read. The file is probably damaged.")
    return rate


class _Counted:
    """Blocks on their way, looked at and counted in `samples`."""

    def __init__(self, blocks: Iterator[np.ndarray], name: str):
        self.blocks, self.name, self.samples = blocks, name, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            if not np.isfinite(block).all() or (block.size and np.abs(block).max() > LOUDEST):
                raise BadAudio(
                    f"{self.name}: its samples are not numbers between -1 and 1 (NaN, infinity or over {LOUDEST:.0e}). Write it again as 16-bit PCM."
                )
            self.samples += block.size
            yield block


def _at_16_khz(blocks: _Counted, rate: int) -> Iterator[np.ndarray]:
    """The blocks at 16 kHz: the same samples as if they were converted as one."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    converter = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield converter.resample_chunk(block)
    yield converter.resample_chunk(np.zeros(0, np.float32), last=True)


@contextmanager
def _memory_for(name: str) -> Iterator[None]:
    """Too little memory is no fault of the file."""
    try:
        yield
    except MemoryError as error:
        if isinstance(error, av.error.FFmpegError):  # FFmpeg says the same of absurd sizes in damaged headers
            raise BadAudio(
                f"{name}: FFmpeg asked for more memory than there is. Either the file is damaged, or other programs hold the memory: try again without them."
            ) from error
        raise Failure(f"{name}: there is not enough memory to decode it. Close other programs, or name fewer or shorter recordings.") from error


@contextmanager
def _opened(source: Source, name: str) -> Iterator[_Sndfile | _Av]:
    """The first reader that opens `source`; every error on the way becomes a BadAudio that names it."""
    data = _checked(source, name)
    with _memory_for(name):
        try:
            reader: _Sndfile | _Av = _Sndfile(data, name)
        except (soundfile.SoundFileError, OSError, TypeError) as first:  # TypeError: a .raw file, which says nothing of itself
            reader = _Av(data, name, first)
        try:
            yield reader
        except MemoryError:
            raise
        except _DECODING_ERRORS as error:
            raise BadAudio(f"{name}: it starts well but cannot be decoded ({_short(error)}). Fetch it again.") from error
        finally:
            reader.close()


def _checked(source: Source, name: str) -> Path | bytes:
    if isinstance(source, bytes):
        if not source:
            raise BadAudio(f"{name}: it is empty. Remove it from the data, or fetch it again.")
        return source
    if not isinstance(source, str | Path):
        raise BadInput(f"Audio is named by a path or given as the bytes of a file; got {type(source).__name__}.")
    path = Path(source)
    try:
        if not path.exists():
            raise BadAudio(f"{name}: no such file. Paths in a manifest are relative to the manifest's folder.")
        if not path.is_dir() and not path.is_file():
            raise BadAudio(f"{name}: it is a pipe, a socket or a device, not a file. Save what it gives to a file and name that.")
        if path.is_dir():
            raise BadAudio(f"{name}: it is a folder, not an audio file. Name the files in it.")
        if path.stat().st_size == 0:
            raise BadAudio(f"{name}: the file is empty. Remove it from the data, or fetch it again.")
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        raise BadAudio(f"{name!r} cannot be opened: {_short(error)}.") from error
    return path


def _short(error: BaseException) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:120].rstrip(".") or type(error).__name__


class _Bytes(io.BytesIO):
    """Bytes as a file. Damaged headers make libsndfile seek before the start, which a file on disk refuses silently."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return -1


class _Sndfile:
    """What libsndfile opens. Reads in blocks and mixes down as it goes."""

    def __init__(self, data: Path | bytes, name: str):
        self.name = name
        self.quietly: Callable[[], AbstractContextManager[None]] = without_chatter if _may_be_mpeg(data) else nullcontext
        # As bytes of the file system: soundfile would write a name that is not UTF-8 as UTF-8. (Windows' names are text.)
        file = _Bytes(data) if isinstance(data, bytes) else str(data) if os.name == "nt" else os.fsencode(data)
        with self.quietly():
            self.file = soundfile.SoundFile(file)
        if self.file.frames >= UNKNOWN:  # libsndfile cannot even read such a FLAC to its end; FFmpeg can
            self.file.close()
            raise OSError("its header does not say how long it is")
        self.rate: int = self.file.samplerate
        cut = _CHUNK.search(self.file.extra_info)  # libsndfile clips the frame count to the data and says so only here
        if cut and (promised := int(cut[1])) < STREAMED:
            _refuse_if_cut_short(name, int(cut[2]), promised, "bytes")

    def seconds(self) -> float | None:
        return self.file.frames / self.rate if self.file.frames >= 0 else None

    def blocks(self, start: float, length: float | None) -> Iterator[np.ndarray]:
        first, frames = round(start * self.rate), self.file.frames
        if first >= frames:
            return
        if first:
            with self.quietly():
                self.file.seek(first)
        wanted = frames - first if length is None else min(frames - first, round(length * self.rate))
        got, block = 0, max(1, BLOCK // self.file.channels)
        self.file.seekable = lambda: False  # else soundfile seeks after every read, and MP3 is wrong for a moment after a seek
        while got < wanted:
            with self.quietly():
                part = self.file.read(min(block, wanted - got), dtype="float32", always_2d=True)
            if not len(part):
                break
            yield part[:, 0] if part.shape[1] == 1 else part.mean(axis=1)
            got += len(part)
        _refuse_if_cut_short(self.name, got, wanted, "samples")

    def close(self) -> None:
        with self.quietly():
            self.file.close()


class _Av:
    """What FFmpeg opens: the best audio stream of any container."""

    def __init__(self, data: Path | bytes, name: str, first: BaseException):
        self.name = name
        # Opened here, not by FFmpeg: to it a name can be an address or a list (`concat:a|b`), and it is to open nothing else.
        self.file = io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb")  # noqa: SIM115 - closed in `close`
        try:
            if playlist := _PLAYLIST.match(self.file.read(1024)):
                said = playlist[0].decode(errors="replace").strip()
                raise BadAudio(f"{name}: it begins with {said!r}: a playlist, which names other files, is no audio. Name those files.")
            self.file.seek(0)
            self.container = av.open(
                self.file, mode="r", metadata_errors="replace", options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"}
            )
        except BaseException as error:
            self.file.close()
            if isinstance(error, MemoryError) or not isinstance(error, _DECODING_ERRORS):
                raise
            raise BadAudio(
                f"{name}: not an audio format that libsndfile or FFmpeg knows ({_short(first)}; "
                f"{_short(error)}). Convert it to WAV, FLAC, Ogg, MP3 or m4a, or fetch it again."
            ) from error
        stream = next(iter(self.container.streams.audio), None)
        self.rate: int = getattr(stream, "rate", None) or 0  # a stream of an unknown codec has no rate
        if stream is None or self.rate == 0:
            self.close()
            raise BadAudio(f"{name}: it has no audio track that can be decoded. Fetch it again, or convert it to WAV.")
        self.stream = stream

    def seconds(self) -> float | None:
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else self.container.duration / 1_000_000

    def blocks(self, start: float, length: float | None) -> Iterator[np.ndarray]:
        """About a second at a time."""
        if start > 1.0:  # to the packet before it; what comes too early is dropped below, by time stamps
            self.container.seek(int((start - 0.5) * 1_000_000))
        # Channels stay: FFmpeg's own mix is not an average. Interleaved: of more than eight planes PyAV reads beyond the last.
        resampler = av.AudioResampler(format="flt", rate=self.rate)
        first, tick = self.stream.start_time, self.stream.time_base
        origin = 0.0 if first is None or tick is None else float(first * tick)
        left = None if length is None else round(length * self.rate)
        parts: list[np.ndarray] = []
        begin, clock, skip, have = 0.0, 0, 0, 0

        def cut() -> np.ndarray:
            nonlocal skip, left, parts, have
            data = np.concatenate(parts) if parts else np.zeros(0, np.float32)
            block = data[skip:][:left]
            skip = max(0, skip - data.size)
            left = None if left is None else left - block.size
            parts, have = [], 0
            return block

        for frame in self.container.decode(self.stream):
            if clock == 0:
                begin = frame.time or 0.0
                skip = max(0, round((start - (begin - origin)) * self.rate))
            parts.extend(_averaged(f) for f in resampler.resample(frame))
            clock += frame.samples
            have += frame.samples
            if length is not None and begin + clock / self.rate > start + length + 0.5:
                break
            if have >= self.rate:
                yield cut()
        parts.extend(_averaged(f) for f in resampler.resample(None))
        yield cut()

    def close(self) -> None:
        self.container.close()
        self.file.close()


_PLAYLIST = re.compile(rb"\s*(#EXTM3U|ffconcat|\[playlist\]|<asx|<MPD|<smil|<SmoothStreamingMedia|v=0\r?\n)", re.IGNORECASE)


_SILENT = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")  # how files begin that are never MPEG


def _may_be_mpeg(data: Path | bytes) -> bool:
    """Whether libsndfile may give it to libmpg123, which comments on damage on standard error."""
    if isinstance(data, bytes):
        return not data.startswith(_SILENT)
    with open(data, "rb") as file:
        return not file.read(4).startswith(_SILENT)


def _averaged(frame: av.AudioFrame) -> np.ndarray:
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1, dtype=np.float32)


_CHUNK = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)


def _refuse_if_cut_short(name: str, got: int, promised: int, unit: str) -> None:
    if got < (1 - SHORTFALL) * promised:
        raise BadAudio(f"{name}: truncated: its header promises {promised:,} {unit} and {got:,} can be read. Fetch it again.")
