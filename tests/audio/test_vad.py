import numpy as np
import pytest
import torch

from asrpeft.audio import vad
from asrpeft.audio.vad import SpeechDetector, speech_segments
from asrpeft.corpus import read
from asrpeft.errors import BadAudio, BadInput
from tests.audio.sounds import real_speech


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Vowels by rule: a pulse train of wandering pitch through three resonances that change five times a second."""
    from scipy.signal import lfilter

    random, rate = np.random.default_rng(seed), 16_000
    n = round(seconds * rate)
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * np.arange(n) / rate)
    pulses = (np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0) > 0).astype(float) + 0.005 * random.standard_normal(n)
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
    parts, step = [], rate // 5
    for start in range(0, n, step):
        part = pulses[start : start + step]
        for formant, width in zip(vowels[random.integers(len(vowels))], (60, 90, 120), strict=True):
            r = np.exp(-np.pi * width / rate)
            part = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * formant / rate), r * r], part)
        parts.append(part * np.hanning(len(part)) ** 0.3)
    sound = np.concatenate(parts)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * 16_000), np.float32)


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    return np.concatenate([silence(1.0), voice(2.0), silence(1.5), voice(1.2, 1), silence(2.0), voice(0.8, 2)])


def run(samples, sizes, **settings):
    detector, events, at = SpeechDetector(**settings), [], 0
    for size in sizes:
        events += detector.feed(samples[at : at + size])
        at += size
    return events + detector.feed(samples[at:]) + detector.flush()


def test_speech_is_found_where_it_is(talk):
    found = speech_segments(talk)
    assert len(found) == 3
    np.testing.assert_allclose(found, [(0.8, 3.2), (4.3, 5.9), (7.5, 8.5)], atol=0.3)


def test_times_do_not_depend_on_how_the_audio_was_cut(talk):
    whole = run(talk, [])
    random = np.random.default_rng(0)
    for sizes in ([1] * 700, [512] * 99, [160] * 500, [0, 513, 0, 511] * 40, random.integers(0, 4_000, 80)):
        assert run(talk, sizes) == whole
    times = [event.time for event in whole]
    np.testing.assert_allclose(times, np.ravel(speech_segments(talk)), atol=1e-9)


def test_detectors_do_not_share_state(talk):
    alone = run(talk, [])
    a, b, events = SpeechDetector(), SpeechDetector(), []
    for start in range(0, len(talk), 1_000):
        events += a.feed(talk[start : start + 1_000])
        b.feed(talk[::-1][start : start + 1_000].copy())
    assert events + a.flush() == alone


def test_a_reset_detector_is_a_new_one(talk):
    detector = SpeechDetector()
    detector.feed(talk[:30_000])
    detector.reset()
    assert detector.time == 0 and not detector.speaking
    assert detector.feed(talk) + detector.flush() == run(talk, [])


@pytest.mark.parametrize("samples", [silence(3.0), silence(0.0), (1e-3 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)])
def test_silence_and_faint_noise_emit_nothing(samples):
    assert run(samples, [700] * 20) == [] and speech_segments(samples) == []


def probabilities(monkeypatch, values):
    """A detector that hears these probabilities, one per window."""
    left = iter(values)
    monkeypatch.setattr(vad, "_one_by_one", lambda windows, memory: [next(left) for _ in windows])
    detector = SpeechDetector(min_speech_s=0.096, min_silence_s=0.16, pad_s=0.032, max_s=2.0)
    events = []
    for _ in values:
        events += detector.feed(silence(0.032))
    return events + detector.flush()


W = 0.032


@pytest.mark.parametrize(
    "heard, want",
    [
        ([0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [("start", W), ("end", 8 * W)]),
        ([0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], []),  # a click
        ([1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0], [("start", 0.0), ("end", 10 * W)]),  # a short pause
        ([0, 1, 1, 1, 1, 1, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], [("start", 0.0), ("end", 13 * W)]),  # between the thresholds
        ([0, 1, 1, 1, 1, 1], [("start", 0.0), ("end", 6 * W)]),  # cut off by the end of the stream
        ([0, 0, 0, 0, 1], []),
    ],
)
def test_the_rule_on_given_probabilities(monkeypatch, heard, want):
    events = probabilities(monkeypatch, heard)
    assert [kind for kind, _ in events] == [kind for kind, _ in want]
    np.testing.assert_allclose([time for _, time in events], [time for _, time in want], atol=1e-9)


def test_endless_speech_is_cut_where_it_is_quietest_and_memory_stays_bounded(monkeypatch):
    heard = [1.0] * 400
    heard[50] = heard[95] = 0.6
    events = probabilities(monkeypatch, heard)
    times = [time for _, time in events]
    assert [kind for kind, _ in events] == ["start", "end"] * (len(events) // 2)
    assert times == sorted(times) and times[1] == times[2] == pytest.approx(50.5 * W)
    assert max(b - a for a, b in zip(times[::2], times[1::2], strict=True)) <= 2.0


def test_real_speech_gives_the_segments_of_the_packages_own_function():
    import silero_vad

    corpus = read(real_speech("speechocean762/test.parquet"), limit=12)
    samples = np.concatenate([part for u in corpus for part in (u.samples(), silence(0.8))])
    threads = torch.get_num_threads()
    want = silero_vad.get_speech_timestamps(
        torch.from_numpy(samples), silero_vad.load_silero_vad(), min_silence_duration_ms=500, speech_pad_ms=200, return_seconds=True, time_resolution=6
    )
    torch.set_num_threads(threads)
    np.testing.assert_allclose(speech_segments(samples), [(w["start"], w["end"]) for w in want], atol=1e-4)


def test_loading_leaves_the_threads_of_the_process_alone():
    import subprocess
    import sys

    code = "import torch; torch.set_num_threads(2); from asrpeft.audio.vad import _network; _network(); print(torch.get_num_threads())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "2"


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.5}, {"pad_s": 0.4}, {"min_speech_s": -1.0}, {"max_s": 0.5}])
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(BadInput):
        SpeechDetector(**settings)


def test_what_is_no_sound_is_refused():
    with pytest.raises(BadInput, match="float samples"):
        speech_segments(np.zeros(1_000, np.int16))
    with pytest.raises(BadInput, match="shape"):
        SpeechDetector().feed(np.zeros((2, 1_000), np.float32))
    with pytest.raises(BadAudio, match="NaN"):
        SpeechDetector().feed(np.full(1_000, np.nan, np.float32))
