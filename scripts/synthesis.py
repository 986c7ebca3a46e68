"""Text → speech, by the formant, diphone, unit-selection and HMM synthesizers that Debian and one wheel provide.

espeak-ng   formants (and Klatt); in process, from the wheel `espeakng-loader`; a hundred languages, a hundred voices
flite       diphones (kal, kal16), clustergen (awb, rms, slt); in process, from Debian's `flite`; English
festival    diphones, units and HMMs; one process for a batch of utterances; voices from Debian's `festvox-*`

samples = speak("habari ya asubuhi", voice="sw", variant="f2", rate_wpm=170)      # (n,) float32, 16 kHz
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000

# Voices kept for `data/demo`: whatever trains `data/mini` must never use them.
RESERVED_VARIANTS = frozenset(
    "f5 m7 m8 croak whisper whisperf klatt4 klatt2 Alicia Demonic grandma grandpa Mario robosoft4 Tweaky UniRobot Michael steph3 belinda AnxiousAndy".split()
)
RESERVED_LANGUAGES = frozenset({"sw"})

FLITE_VOICES = ("kal", "kal16", "awb", "rms", "slt")
# festival voice → (language, the encoding its text front end expects)
FESTIVAL_VOICES = {
    "kal_diphone": ("en", "latin-1"),
    "cmu_us_slt_arctic_hts": ("en", "latin-1"),
    "lp_diphone": ("it", "latin-1"),
    "pc_diphone": ("it", "latin-1"),
    "czech_dita": ("cs", "iso-8859-2"),
    "czech_machac": ("cs", "iso-8859-2"),
    "czech_ph": ("cs", "iso-8859-2"),
    "hy_fi_mv_diphone": ("fi", "latin-1"),
    "suo_fi_lj_diphone": ("fi", "latin-1"),
    "msu_ru_nsh_clunits": ("ru", "utf-8"),
}


class SynthesisError(RuntimeError):
    """A synthesizer is not installed, does not know a voice, or gave no sound. The message says what to install."""


# --- espeak-ng -------------------------------------------------------------------------------------------------------

_RETRIEVAL, _UTF8, _PHONEMES, _RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 1, 0x100, 1, 2, 3, 4, 7
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Espeak:
    """The library keeps one global state, so this class has one instance a process (not shared between threads)."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise SynthesisError("espeak-ng needs the wheel `espeakng-loader`: pip install espeakng-loader") from error
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.data = Path(espeakng_loader.get_data_path())
        self.rate = self.library.espeak_Initialize(_RETRIEVAL, 200, str(self.data).encode(), 0)
        if self.rate <= 0:
            raise SynthesisError(f"espeak-ng could not start from {self.data}; reinstall the wheel `espeakng-loader`.")
        self.pieces: list[np.ndarray] = []
        self.callback = _CALLBACK(self._receive)  # kept, or it would be collected while the library still calls it
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.voice = ""

    def _receive(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: str, settings: dict[int, int]) -> np.ndarray:
        # A voice is set anew each time: some variants leave traces of themselves (echo, flutter) in what follows.
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SynthesisError(f"espeak-ng has no voice {voice!r}; see `espeak-ng --voices` and `variants()`.")
        for number, value in settings.items():
            self.library.espeak_SetParameter(number, int(value), 0)
        self.pieces.clear()
        encoded = text.encode() + b"\0"
        self.library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8 | _PHONEMES, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)

    def phonemes(self, text: str, voice: str) -> str:
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SynthesisError(f"espeak-ng has no voice {voice!r}; see `espeak-ng --voices`.")
        encoded = ctypes.c_char_p(text.encode())
        rest = ctypes.c_void_p(ctypes.cast(encoded, ctypes.c_void_p).value)  # the library moves it on, a clause a call
        clauses = []
        while rest.value:
            clauses.append(self.library.espeak_TextToPhonemes(ctypes.byref(rest), 1, ord("|") << 8).decode())
        return " ".join(clauses)


@lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    return _Espeak()


@lru_cache(maxsize=1)
def variants() -> tuple[str, ...]:
    """The names of espeak-ng's voice variants (`f1`, `klatt3`, `Andy`, …) in the installed wheel."""
    return tuple(sorted(path.name for path in (_espeak().data / "voices" / "!v").iterdir()))


def phonemes(text: str, *, voice: str = "sw") -> list[list[str]]:
    """What espeak-ng would say: for each word its phonemes in the library's own names, stress marks (' ,) in front of them.

    `speak("[[" + " ".join("|".join(word) for word in changed) + "]]")` says changed ones.
    Raises: SynthesisError for an unknown voice.
    """
    return [word.split("|") for word in _espeak().phonemes(text, voice).split()]


def speak(
    text: str,
    *,
    voice: str = "sw",
    variant: str | None = None,
    rate_wpm: int = 160,
    pitch: int = 50,
    pitch_range: int = 50,
    word_gap: int = 0,
    volume: int = 90,
    seed: int | None = None,
) -> np.ndarray:
    """Speech by espeak-ng: (n,) float32 in [-1, 1] at 16 kHz, with the synthesizer's own silence at both ends.

    Args:
        text: plain text; what stands in [[double brackets]] is taken as phonemes (see `phonemes`).
        voice: an espeak-ng language or voice (`sw`, `en`, `en-us`, `es-419`); `variant`: one of `variants()`.
        rate_wpm: words a minute (80 to 450); `pitch`, `pitch_range`: 0 to 99; `word_gap`: pause in tens of ms.
        seed: of the noise in breathy voices; a process that says the same things in the same order gives the same samples.
    Raises: SynthesisError for an unknown voice or variant, or when nothing was said.
    """
    if variant is not None and variant not in variants():
        raise SynthesisError(f"espeak-ng has no variant {variant!r}; it has {', '.join(variants())}.")
    engine = _espeak()
    if seed is not None:
        engine.library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    settings = {_RATE: rate_wpm, _VOLUME: volume, _PITCH: pitch, _RANGE: pitch_range, _WORD_GAP: word_gap}
    samples = engine.speak(text, voice if variant is None else f"{voice}+{variant}", settings)
    return _finish(samples, engine.rate, text)


# --- flite -----------------------------------------------------------------------------------------------------------


class _FliteWave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


class _FliteVoice(ctypes.Structure):  # the first two fields of cst_voice
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


@cache
def _flite_voice(name: str):
    if name not in FLITE_VOICES:
        raise SynthesisError(f"flite has no voice {name!r}; it has {', '.join(FLITE_VOICES)}.")
    try:
        library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        for dependency in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
            ctypes.CDLL(dependency, mode=ctypes.RTLD_GLOBAL)
        voices = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise SynthesisError(f"flite is not installed ({error}): apt-get install flite") from error
    library.flite_init()
    library.flite_text_to_wave.restype = ctypes.POINTER(_FliteWave)
    library.flite_text_to_wave.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    library.feat_set_float = library.flite_feat_set_float
    library.feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
    library.delete_wave.argtypes = [ctypes.c_void_p]
    register = getattr(voices, f"register_cmu_us_{name}")
    register.restype, register.argtypes = ctypes.POINTER(_FliteVoice), [ctypes.c_char_p]
    return library, register(None)


def flite(text: str, *, voice: str = "slt", stretch: float = 1.0, f0_hz: float | None = None) -> np.ndarray:
    """English speech by flite: (n,) float32 at 16 kHz. `stretch` multiplies durations; `f0_hz` moves the mean pitch.

    Raises: SynthesisError for an unknown voice, when flite is not installed, or when nothing was said.
    """
    library, handle = _flite_voice(voice)
    features = handle.contents.features
    library.feat_set_float(features, b"duration_stretch", stretch)
    if f0_hz is not None:
        library.feat_set_float(features, b"int_f0_target_mean", f0_hz)
    wave = library.flite_text_to_wave(text.encode("ascii", "ignore"), handle)
    samples = np.ctypeslib.as_array(wave.contents.samples, (wave.contents.num_samples,)).copy()
    rate = wave.contents.sample_rate
    library.delete_wave(wave)
    return _finish(samples, rate, text)


# --- festival --------------------------------------------------------------------------------------------------------


Timed = tuple[np.ndarray, list[tuple[str, float, float]]]  # samples, and each word with its first and last second


def festival(texts: Sequence[str], *, voice: str, stretch: float = 1.0, timeout_s: float = 600.0) -> list[np.ndarray | None]:
    """Speech by festival, one process for all `texts`: a list of (n,) float32 at 16 kHz, None where it said nothing.

    Raises: SynthesisError for an unknown voice, or when festival or the voice's package is not installed.
    """
    return [None if found is None else found[0] for found in _festival(texts, voice, stretch, timeout_s, times=False)]


def timed_festival(texts: Sequence[str], *, voice: str, stretch: float = 1.0, timeout_s: float = 600.0) -> list[Timed | None]:
    """The same, with the words as it said them (a number is several) and when. Raises as `festival`."""
    return _festival(texts, voice, stretch, timeout_s, times=True)


def _festival(texts: Sequence[str], voice: str, stretch: float, timeout_s: float, *, times: bool) -> list[Timed | None]:
    if voice not in FESTIVAL_VOICES:
        raise SynthesisError(f"no festival voice {voice!r} here; known are {', '.join(FESTIVAL_VOICES)}.")
    encoding = FESTIVAL_VOICES[voice][1]
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{voice})", f"(Parameter.set 'Duration_Stretch {stretch:.3f})"]
        for number, text in enumerate(texts):
            quoted = text.replace("\\", " ").replace('"', " ")
            say = f'(set! said (utt.synth (Utterance Text "{quoted}"))) (utt.save.wave said "{folder}/{number}.wav" \'riff)'
            tell = f'(utt.save.words said "{folder}/{number}.words") (utt.save.segs said "{folder}/{number}.segs")' if times else ""
            lines.append(f"(unwind-protect (begin {say} {tell}) nil)")  # one unspeakable text must not end the batch
        script = Path(folder) / "say.scm"
        script.write_bytes("\n".join(lines).encode(encoding, "replace"))
        try:
            run = subprocess.run(["festival", "-b", str(script)], capture_output=True, timeout=timeout_s)
        except FileNotFoundError as error:
            raise SynthesisError("festival is not installed: apt-get install festival and the festvox-* voices") from error
        except subprocess.TimeoutExpired:
            run = None
        waves = [_read_wave(Path(folder) / f"{number}.wav") for number in range(len(texts))]
        words = [_read_words(Path(folder) / f"{number}", encoding) if times and wave is not None else [] for number, wave in enumerate(waves)]
    if run is not None and not any(wave is not None for wave in waves):
        raise SynthesisError(f"festival said nothing with {voice}: {run.stderr.decode(errors='replace')[-300:]}")
    return [None if wave is None else (wave, own) for wave, own in zip(waves, words)]


def _read_words(stem: Path, encoding: str) -> list[tuple[str, float, float]]:
    """Words begin where the one before ends, or after the pause between."""
    ends, pauses = (_read_labels(stem.with_suffix(suffix), encoding) for suffix in (".words", ".segs"))
    silent = [end for end, name in pauses if name in ("pau", "#", "h#", "brth")]
    found, before = [], 0.0
    for end, word in ends:
        found.append((word.lower(), max([before, *(pause for pause in silent if before < pause < end)]), end))
        before = end
    return found


def _read_labels(path: Path, encoding: str) -> list[tuple[float, str]]:
    """(end in seconds, label) of each line after the header."""
    lines = path.read_bytes().decode(encoding).split("#\n", 1)[1].splitlines()
    return [(float(end), label.strip()) for end, _, label in (line.split(None, 2) for line in lines)]


def _read_wave(path: Path) -> np.ndarray | None:
    try:
        samples, rate = soundfile.read(path, dtype="int16")
        return _finish(samples, rate, path.name)
    except (soundfile.LibsndfileError, SynthesisError):
        return None


def _finish(samples: np.ndarray, rate: int, text: str) -> np.ndarray:
    """int16 at any rate → float32 at 16 kHz; refuses silence, which a text of punctuation alone would give."""
    if len(samples) < rate // 20 or not samples.any():
        raise SynthesisError(f"the synthesizer said nothing for {text[:60]!r}; give it a text with letters.")
    floats = samples.astype(np.float32) / 32_768.0
    return floats if rate == SAMPLE_RATE else soxr.resample(floats, rate, SAMPLE_RATE).astype(np.float32)
