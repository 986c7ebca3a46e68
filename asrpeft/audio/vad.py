"""Where speech is: silero-vad's speech probabilities, and the rule that makes segments of them, offline and in a stream.

Silero-vad (https://github.com/snakers4/silero-vad) gives one probability per window of 512 samples (32 ms); speech starts where it
reaches `threshold` and ends before `min_silence_s` below `threshold` − 0.15. The network lies inside the package; it is loaded
once and its memory is passed in and out, so that detectors never share state, as two iterators of the package itself would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asrpeft.audio.features import SAMPLE_RATE
from asrpeft.audio.samples import as_samples
from asrpeft.errors import BadInput
from asrpeft.options import VadOptions

WINDOW = 512
WINDOW_S = WINDOW / SAMPLE_RATE
CONTEXT = 64  # samples of the window before, which the network sees again
HYSTERESIS = 0.15  # silero's own gap between entering and leaving speech
BLOCK = 512  # windows whose convolutions are computed together offline: 16 s
PIECE = BLOCK * WINDOW  # samples; audio in pieces of a multiple of it has, offline, to the bit the speech of the whole

Seconds = float


class SpeechEvent(NamedTuple):
    """Speech starts or ends at `time`, in seconds since the stream began."""

    kind: Literal["start", "end"]
    time: Seconds


@dataclass
class _Memory:
    """What the network remembers between windows."""

    lstm: Tensor = field(default_factory=lambda: torch.zeros(2, 1, 128))
    context: Tensor = field(default_factory=lambda: torch.zeros(CONTEXT))


@dataclass
class _Progress:
    """Where a detector is in its stream; windows are counted from 0, `start` and `quiet` are window numbers."""

    memory: _Memory = field(default_factory=_Memory)
    rest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # samples short of a window
    windows: int = 0
    start: int | None = None  # of the speech that is open
    announced: bool = False  # its start was emitted
    quiet: int | None = None  # first window of the silence that may end it
    heard: list[float] = field(default_factory=list)  # probabilities since `start`, to cut over-long speech where it is quietest
    last: Seconds = 0.0  # no event is earlier than this


class SpeechDetector:
    """Finds speech in a stream, whatever the size of the chunks it comes in.

        detector = SpeechDetector()
        for chunk in microphone:
            for kind, time in detector.feed(chunk): …
        for kind, time in detector.flush(): …

    A start is emitted once `min_speech_s` of speech is certain, with a time in the past; so clicks emit nothing. An end is
    emitted `min_silence_s` after it. Starts and ends alternate and times never go back. Memory is bounded by `max_s`.

    Args:
        threshold: probability from which a window is speech.
        min_speech_s, min_silence_s: shorter speech is dropped; shorter silence does not end it.
        pad_s: added before and after; at most half of `min_silence_s`, so that segments cannot overlap.
        max_s: longer speech is cut at the quietest window of its second half (an end and a start at one time).
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        min_speech_s: Seconds = 0.25,
        min_silence_s: Seconds = 0.5,
        pad_s: Seconds = 0.2,
        max_s: Seconds = 30.0,
    ):
        if not all(map(math.isfinite, (min_speech_s, min_silence_s, pad_s, max_s))):
            raise BadInput(
                "The times of a speech detector are finite numbers of seconds; "
                f"got min_speech_s={min_speech_s}, min_silence_s={min_silence_s}, pad_s={pad_s}, max_s={max_s}."
            )
        if not 0 < threshold < 1:
            raise BadInput(f"a speech threshold of {threshold} is no probability; give one between 0 and 1, 0.5 by default.")
        if min_speech_s < 0 or pad_s < 0 or min_silence_s < 2 * pad_s:
            raise BadInput(f"pad_s={pad_s} must be at most half of min_silence_s={min_silence_s}, and no time negative: otherwise segments would overlap.")
        if max_s < 1 + 2 * pad_s:
            raise BadInput(f"max_s={max_s} is too short for speech padded by {pad_s} s; give at least {1 + 2 * pad_s:g}.")
        self.threshold = threshold
        self.leave = max(threshold - HYSTERESIS, 0.01)
        self.pad_s = pad_s
        self._min_speech = min_speech_s / WINDOW_S
        self._min_silence = min_silence_s / WINDOW_S
        self._max = int((max_s - 2 * pad_s) / WINDOW_S)
        self.reset()

    def reset(self) -> None:
        """Forget the stream: the next sample is at 0 s."""
        self._at = _Progress()

    @property
    def speaking(self) -> bool:
        """Whether a start was emitted whose end was not."""
        return self._at.announced

    @property
    def time(self) -> Seconds:
        """How much was fed."""
        return self._at.windows * WINDOW_S + self._at.rest.size / SAMPLE_RATE

    def feed(self, samples: np.ndarray | Tensor) -> list[SpeechEvent]:
        """Take (n,) float samples at 16 kHz, any n; give the events they make certain. Raises: BadAudio for NaN or infinity."""
        return self._feed(samples, _one_by_one)

    def flush(self) -> list[SpeechEvent]:
        """The stream has ended: settle what is open. Feed nothing more before `reset`."""
        at, seconds = self._at, self.time
        events = self._feed(np.zeros(-at.rest.size % WINDOW, np.float32), _one_by_one)
        if at.start is not None:
            end = seconds if at.quiet is None else min(seconds, at.quiet * WINDOW_S + self.pad_s)
            if not at.announced and seconds - at.start * WINDOW_S > self._min_speech * WINDOW_S:
                events.append(self._event("start", at.start * WINDOW_S - self.pad_s))
                at.announced = True
            if at.announced:
                events.append(self._event("end", end))
        self.reset()
        return [SpeechEvent(kind, min(time, seconds)) for kind, time in events]

    def _feed(self, samples: np.ndarray | Tensor, probabilities: Callable[[Tensor, _Memory], list[float]]) -> list[SpeechEvent]:
        at = self._at
        data = np.concatenate([at.rest, as_samples(samples, empty=True)])
        whole = len(data) // WINDOW
        at.rest = data[whole * WINDOW :]
        windows = torch.from_numpy(data[: whole * WINDOW]).view(whole, WINDOW)
        return [event for p in probabilities(windows, at.memory) for event in self._step(p)]

    def _step(self, probability: float) -> list[SpeechEvent]:
        """One window more."""
        at, now = self._at, self._at.windows
        at.windows += 1
        if at.start is None:
            if probability >= self.threshold:
                at.start, at.heard = now, [probability]
            else:
                return []
        else:
            at.heard.append(probability)
        if probability >= self.threshold:
            at.quiet = None
        elif probability < self.leave and at.quiet is None:
            at.quiet = now
        events = []
        # Without a silence begun, this speech lasts to the end of this window at least, so what follows cannot undo it.
        if not at.announced and at.quiet is None and now + 1 - at.start > self._min_speech:
            at.announced = True
            events.append(self._event("start", at.start * WINDOW_S - self.pad_s))
        if at.quiet is not None and now - at.quiet >= self._min_silence:
            if at.announced:
                events.append(self._event("end", at.quiet * WINDOW_S + self.pad_s))
            at.start, at.quiet, at.announced, at.heard = None, None, False, []
        elif now + 1 - at.start >= self._max:
            events += self._cut()
        return events

    def _cut(self) -> list[SpeechEvent]:
        """End the open speech at its quietest window, and go on from there."""
        at, half = self._at, len(self._at.heard) // 2
        quietest = half + int(np.argmin(at.heard[half:]))
        assert at.start is not None  # only open speech is cut
        at.start += quietest
        at.heard = at.heard[quietest:]
        at.quiet = None if at.quiet is None else max(at.quiet, at.start)
        middle = (at.start + 0.5) * WINDOW_S
        return [self._event("end", middle), self._event("start", middle)] if at.announced else []

    def _event(self, kind: Literal["start", "end"], time: Seconds) -> SpeechEvent:
        self._at.last = max(self._at.last, time)
        return SpeechEvent(kind, self._at.last)


def detector_of(options: VadOptions) -> SpeechDetector:
    """The speech detector that the options ask for.

    Raises: BadInput for options that contradict each other.
    """
    return SpeechDetector(
        threshold=options.threshold,
        min_speech_s=options.min_speech_s,
        min_silence_s=options.min_silence_s,
        pad_s=options.pad_s,
        max_s=options.max_s,
    )


def speech_segments(
    samples: np.ndarray | Tensor,
    *,
    threshold: float = 0.5,
    min_speech_s: Seconds = 0.25,
    min_silence_s: Seconds = 0.5,
    pad_s: Seconds = 0.2,
    max_s: Seconds = 30.0,
) -> list[tuple[Seconds, Seconds]]:
    """The stretches of speech in (n,) float samples at 16 kHz, as (start, end) in seconds: what `SpeechDetector` finds.

    Args and raises: as `SpeechDetector`. Costs about 1 s for 7 minutes on one core.
    """
    detector = SpeechDetector(threshold=threshold, min_speech_s=min_speech_s, min_silence_s=min_silence_s, pad_s=pad_s, max_s=max_s)
    events = detector._feed(samples, _together) + detector.flush()
    times = [event.time for event in events]
    return list(zip(times[::2], times[1::2], strict=True))


def speech_events(pieces: Iterable[np.ndarray], detector: SpeechDetector) -> Iterator[tuple[np.ndarray, list[SpeechEvent]]]:
    """Each piece of a long recording with the events that it makes certain; then an empty piece with those of the end.

    Of pieces of a multiple of `PIECE` samples (the last may be shorter) they are those of `speech_segments`, to the bit.
    """
    for piece in pieces:
        yield piece, detector._feed(piece, _together)
    yield np.zeros(0, np.float32), detector.flush()


def quiet_places(pieces: Iterable[np.ndarray], most_s: Seconds, *, within_s: Seconds = 6.0) -> Iterator[np.ndarray]:
    """A recording cut into stretches of at most `most_s`, each at the quietest fifth of a second of its last `within_s`."""
    most, within, hop = round(most_s * SAMPLE_RATE), round(min(within_s, most_s / 2) * SAMPLE_RATE), SAMPLE_RATE // 50
    rest = np.zeros(0, np.float32)
    for piece in pieces:
        rest = np.concatenate([rest, piece])
        while len(rest) > most:
            energy = np.square(rest[most - within : most].astype(np.float64)).reshape(-1)[: within // hop * hop].reshape(-1, hop).sum(axis=1)
            heard = np.convolve(energy, np.ones(min(10, len(energy))), mode="valid")
            cut = most - within + (int(np.argmin(heard)) + min(10, len(energy)) // 2) * hop
            yield rest[:cut].copy()
            rest = rest[cut:]
    if len(rest):
        yield rest


@contextmanager
def _threads(count: int | None = None) -> Iterator[None]:
    """Torch's thread count as it was before; meanwhile `count`, which is this thread's own under OpenMP."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _network() -> torch.jit.ScriptModule:
    """The 16 kHz network of silero-vad, without its wrapper, which keeps the state of one stream."""
    with _threads():  # importing the package sets the threads of the whole process to one
        from silero_vad import load_silero_vad

        return load_silero_vad()._model


@cache
def _lstm() -> torch.nn.LSTM:
    """The network's LSTM cell, as a layer that runs over a whole sequence."""
    lstm = torch.nn.LSTM(128, 128)
    lstm.load_state_dict({f"{name}_l0": weight for name, weight in _network().decoder.rnn.state_dict().items()})
    return lstm.eval()


@torch.inference_mode()
def _one_by_one(windows: Tensor, memory: _Memory) -> list[float]:
    """Probabilities of (n, 512) windows, each by the same arithmetic however many there are: 0.7 ms each."""
    network, found = _network(), []
    with _threads(1):  # two threads on a busy machine are six times slower at sums this small
        for window in windows:
            out, memory.lstm = network.forward(torch.cat([memory.context, window])[None], memory.lstm)
            memory.context = window[-CONTEXT:]
            found.append(out.item())
    return found


@torch.inference_mode()
def _together(windows: Tensor, memory: _Memory) -> list[float]:
    """The same to rounding, for many windows at once: ten times faster."""
    network, found = _network(), []
    with _threads(1):
        for block in windows.split(BLOCK) if len(windows) else ():
            before = torch.cat([memory.context[None], block[:-1, -CONTEXT:]])
            encoded = network.encoder(network.run_extractors(torch.cat([before, block], dim=1)))
            hidden, (h, c) = _lstm()(encoded.transpose(1, 2), (memory.lstm[:1], memory.lstm[1:]))
            memory.lstm, memory.context = torch.cat([h, c]), block[-1, -CONTEXT:]
            found += network.decoder.decoder(hidden.squeeze(1)[:, :, None]).flatten().tolist()
    return found
