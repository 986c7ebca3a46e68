"""Encoded audio of any kind → mono float32 samples at 16 kHz.

libsndfile (through soundfile) opens WAV, FLAC, Ogg, Opus, MP3, AIFF and some twenty more; what it cannot open (m4a, mp4, webm,
aac, …) goes to FFmpeg's libraries through PyAV. Channels are averaged; rates are converted by soxr at its HQ setting
(-100 dB of aliasing, about 1 ms for ten seconds of 44.1 kHz).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from asrpeft.audio.features import SAMPLE_RATE
from asrpeft.errors import BadAudio

RATES = range(2_000, 400_001)  # outside it a header is broken, not unusual
LOUDEST = 1e6  # float files are at most 1.0 by custom, 32,768 by mistake; beyond this they hold no sound
MARGIN_S = 0.3  # read around a part: filters and MP3's bit reservoir then give the samples they give in the whole
BLOCK = 1 << 20  # samples of all channels read at a time: a header that promises a terabyte allocates nothing
SHORTFALL = 0.02  # headers that promise up to this share more than there is are common (encoder padding, killed recorders)
STREAMED = 0x7FFF_0000  # sizes from here on are placeholders, written by programs that could not seek back

Source = str | Path | bytes

# libsndfile's errors are RuntimeErrors; most of FFmpeg's inherit from the built-in one that is nearest in meaning.
_DECODING_ERRORS = (av.error.FFmpegError, RuntimeError, OSError, ValueError, EOFError, LookupError, MemoryError)


def decode(source: Source, *, start: float = 0.0, duration: float | None = None) -> np.ndarray:
    """Read audio, or a part of it, as the recogniser wants it.

    Args:
        source: path of a file, or the bytes of one.
        start, duration: the part wanted, in seconds; a `duration` beyond the end gives what there is. A part equals the
            same slice of the whole, to 1e-3 (to 1 ms of time where a container's clock ticks in milliseconds, as webm's).
    Returns: (n,) float32, mono, 16 kHz, contiguous.
    Raises: BadAudio, naming the source, for what is missing, empty, truncated, of an unknown format, or not a number.
    """
    name = _name(source)
    if start < 0 or (duration is not None and duration <= 0):
        raise BadAudio(f"{name}: asked for {duration} s from {start} s; start must be 0 or more, duration more than 0.")
    margin = MARGIN_S if start > 0 or duration is not None else 0.0
    lead = min(start, margin)
    with _opened(source, name) as reader:
        if reader.rate not in RATES:
            raise BadAudio(f"{name}: its header says {reader.rate} samples a second; {RATES.start:,} to "
                           f"{RATES.stop - 1:,} are read. The file is probably damaged.")
        length = None if duration is None else lead + duration + margin
        mono = reader.mono(start - lead, length)
        rate = reader.rate
    if mono.size <= round(lead * rate):
        reason = "it holds no samples" if start == 0 else f"it ends before {start:g} s"
        raise BadAudio(f"{name}: {reason}. Remove it from the data, or fetch it again.")
    if not np.isfinite(mono).all() or np.abs(mono).max() > LOUDEST:
        raise BadAudio(f"{name}: its samples are not numbers between -1 and 1 (NaN, infinity or over {LOUDEST:.0e}). "
                       "Write it again as 16-bit PCM.")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    first = round(lead * SAMPLE_RATE)
    last = None if duration is None else first + round(duration * SAMPLE_RATE)
    mono = np.ascontiguousarray(mono[first:last], dtype=np.float32)
    if mono.size == 0:
        raise BadAudio(f"{name}: it is shorter than one sample at 16 kHz. Remove it from the data, or fetch it again.")
    return mono


def probe(source: Source) -> float:
    """Seconds of audio, from the header where the header says so (browsers' webm does not), else by decoding.

    Raises: BadAudio, as `decode`, as far as the header shows it.
    """
    name = _name(source)
    with _opened(source, name) as reader:
        if reader.rate not in RATES:
            raise BadAudio(f"{name}: its header says {reader.rate} samples a second. The file is probably damaged.")
        seconds = reader.seconds()
    seconds = decode(source).size / SAMPLE_RATE if seconds is None else seconds
    if seconds <= 0:
        raise BadAudio(f"{name}: it holds no samples. Remove it from the data, or fetch it again.")
    return seconds


def _name(source: Source) -> str:
    return f"audio of {len(source):,} bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def _opened(source: Source, name: str) -> Iterator[_Sndfile | _Av]:
    """The first reader that opens `source`; every error on the way becomes a BadAudio that names it."""
    data = _checked(source, name)
    try:
        reader: _Sndfile | _Av = _Sndfile(data, name)
    except (soundfile.SoundFileError, OSError, TypeError) as first:  # TypeError: a .raw file, which says nothing of itself
        reader = _Av(data, name, first)
    try:
        yield reader
    except _DECODING_ERRORS as error:
        raise BadAudio(f"{name}: it starts well but cannot be decoded ({_short(error)}). Fetch it again.") from error
    finally:
        reader.close()


def _checked(source: Source, name: str) -> Path | bytes:
    if isinstance(source, bytes):
        if not source:
            raise BadAudio(f"{name}: it is empty. Remove it from the data, or fetch it again.")
        return source
    path = Path(source)
    try:
        if not path.exists():
            raise BadAudio(f"{name}: no such file. Paths in a manifest are relative to the manifest's folder.")
        if path.is_dir():
            raise BadAudio(f"{name}: it is a folder, not an audio file. Name the files in it.")
        if path.is_file() and path.stat().st_size == 0:
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
        self.file = soundfile.SoundFile(_Bytes(data) if isinstance(data, bytes) else str(data))
        self.rate: int = self.file.samplerate
        cut = _CHUNK.search(self.file.extra_info)  # libsndfile clips the frame count to the data and says so only here
        if cut and (promised := int(cut[1])) < STREAMED:
            _refuse_if_cut_short(name, int(cut[2]), promised, "bytes")

    def seconds(self) -> float | None:
        known = 0 <= self.file.frames < 1 << 40
        return self.file.frames / self.rate if known else None

    def mono(self, start: float, length: float | None) -> np.ndarray:
        first, frames = round(start * self.rate), self.file.frames
        if first >= frames:
            return np.zeros(0, np.float32)
        if first:
            self.file.seek(first)
        wanted = frames - first if length is None else min(frames - first, round(length * self.rate))
        parts, got, block = [], 0, max(1, BLOCK // self.file.channels)
        while got < wanted:
            part = self.file.read(min(block, wanted - got), dtype="float32", always_2d=True)
            if not len(part):
                break
            parts.append(part[:, 0] if part.shape[1] == 1 else part.mean(axis=1))
            got += len(part)
        _refuse_if_cut_short(self.name, got, wanted, "samples")
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def close(self) -> None:
        self.file.close()


class _Av:
    """What FFmpeg opens: the best audio stream of any container."""

    def __init__(self, data: Path | bytes, name: str, first: BaseException):
        self.name = name
        try:
            self.container = av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data), metadata_errors="replace")
        except _DECODING_ERRORS as error:
            raise BadAudio(f"{name}: not an audio format that libsndfile or FFmpeg knows ({_short(first)}; "
                           f"{_short(error)}). Convert it to WAV, FLAC, Ogg, MP3 or m4a, or fetch it again.") from error
        self.stream = next(iter(self.container.streams.audio), None)
        self.rate: int = getattr(self.stream, "rate", None) or 0  # a stream of an unknown codec has no rate
        if self.rate == 0:
            self.close()
            raise BadAudio(f"{name}: it has no audio track that can be decoded. Fetch it again, or convert it to WAV.")

    def seconds(self) -> float | None:
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else self.container.duration / 1_000_000

    def mono(self, start: float, length: float | None) -> np.ndarray:
        if start > 1.0:  # to the packet before it; what comes too early is dropped below, by time stamps
            self.container.seek(int((start - 0.5) * 1_000_000))
        # Channels stay: FFmpeg's own mix is not an average. Interleaved: of more than eight planes PyAV reads beyond the last.
        resampler = av.AudioResampler(format="flt", rate=self.rate)
        parts, begin, clock, stop = [], None, 0, None if length is None else start + length
        for frame in self.container.decode(self.stream):
            at = clock / self.rate if frame.time is None else frame.time
            begin = at if begin is None else begin
            parts.extend(_averaged(f) for f in resampler.resample(frame))
            clock += frame.samples
            if stop is not None and begin + clock / self.rate > stop + 0.5:
                break
        parts.extend(_averaged(f) for f in resampler.resample(None))
        mono = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        origin = 0.0 if self.stream.start_time is None else float(self.stream.start_time * self.stream.time_base)
        first = max(0, round((start - ((begin or 0.0) - origin)) * self.rate))
        return mono[first:] if length is None else mono[first : first + round(length * self.rate)]

    def close(self) -> None:
        self.container.close()


def _averaged(frame: av.AudioFrame) -> np.ndarray:
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1, dtype=np.float32)


_CHUNK = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)


def _refuse_if_cut_short(name: str, got: int, promised: int, unit: str) -> None:
    if got < (1 - SHORTFALL) * promised:
        raise BadAudio(f"{name}: truncated: its header promises {promised:,} {unit} and {got:,} can be read. Fetch it again.")
