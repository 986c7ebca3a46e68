"""What is doubtful in a corpus although it can be read: recordings that repeat or are silent, texts that cannot be what is said in them.

Rows are looked at one by one and only counts, hashes and a few examples are kept, so that a corpus of any size takes little
memory. Nothing of this is an error: whoever made the corpus knows why it is so, or learns it here.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from asrpeft.audio.features import SAMPLE_RATE
from asrpeft.corpus.corpus import Corpus
from asrpeft.corpus.distinct import Distinct
from asrpeft.corpus.utterance import Utterance
from asrpeft.errors import BadAudio, BadCorpus

EXAMPLES = 10  # rows that are named, of each kind
FRAME = 480  # samples whose loudness is one number: 30 ms
SILENT_DB = -60.0  # a recording whose loudest frame lies below it holds no speech: whispering far away reaches −50
CLIPPED = 0.01  # share of samples at full scale
FASTEST = 35.0  # letters a second that nobody speaks, in any script
OUTLIER, SLOW = 3.0, 8.0  # so many times the median rate of the corpus, or so many times less, is doubtful
SLOW_FROM_S = 2.0  # a short recording may hold a word and a pause
SPEECH = 0.15  # of the detector: at its own 0.5 it misses 14 of 200 synthesized voices, here none, nor does it hear noise as speech
FEW_SILENT = 0.2  # share of silent recordings that is told before training
LOOKED_AT = 50

_MARK = re.compile(r"\[[^\]\n]{1,40}\]|<[^>\n]{1,40}>|\{[^}\n]{1,40}\}|\*\w+\*")
_NO_SCRIPT = {
    "MODIFIER",
    "COMBINING",
    "MICRO",
    "FEMININE",
    "MASCULINE",
    "OHM",
    "KELVIN",
    "ANGSTROM",
    "MATHEMATICAL",
    "DOUBLE-STRUCK",
    "SCRIPT",
    "BLACK-LETTER",
    "SUPERSCRIPT",
    "SUBSCRIPT",
    "PROSGEGRAMMENI",
    "IDEOGRAPHIC",
}
_ONE_SCRIPT = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH", "BOPOMOFO"), "Han and kana")


@dataclass(frozen=True)
class Doubt:
    """One kind of thing that is doubtful: what it is, in how many rows, and some of them as (id, detail)."""

    kind: str
    message: str
    rows: int
    examples: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, object]:
        return {"kind": self.kind, "message": self.message, "rows": self.rows, "examples": [{"id": id_, "detail": detail} for id_, detail in self.examples]}


TOLD = {
    "repeated id": "the id of an earlier row; it is told apart by #2, #3, …",
    "repeated recording": "the recording and the text of an earlier row",
    "recording with two texts": "the recording of an earlier row, with another text",
    "silence": f"no sound: never louder than {SILENT_DB:g} dB",
    "no speech heard": "no speech that a detector hears, of the rows that were looked at",
    "clipped": f"more than {CLIPPED:.0%} of the samples at full scale: recorded too loud",
    "text without a letter": "neither a letter nor a digit in the text",
    "damaged letters": "letters that were lost when the text was converted (U+FFFD, control or private ones)",
    "marks": "marks such as [noise], <unk> or {laugh}, which the model will learn to write",
    "two scripts in a word": "letters of two scripts in one word: look-alikes, perhaps typed on another keyboard",
    "another script": "a script other than most rows of the language",
    "text too long for its audio": "more letters a second than anyone speaks, or far more than the corpus has",
    "audio too long for its text": "far fewer letters a second than the corpus has: is the text whole?",
    "no speaker": "no speaker, though other rows have one",
    "no language": "no language, though other rows have one",
}


def loudness(samples: np.ndarray) -> float:
    """Decibels of full scale of the loudest 30 ms of (n,) samples; −200 for digital silence."""
    if samples.size < FRAME:
        frames = samples[None] if samples.size else np.zeros((1, 1))
    else:
        frames = samples[: samples.size - samples.size % FRAME].reshape(-1, FRAME)
    power = float(np.square(frames, dtype=np.float32).mean(axis=1).max())
    return max(-200.0, 10 * np.log10(power)) if power > 0 else -200.0


@cache
def script(letter: str) -> str | None:
    """The script of a letter, such as "LATIN"; None of what is no letter or is used with several."""
    if not unicodedata.category(letter).startswith("L"):
        return None
    first = unicodedata.name(letter, "").partition(" ")[0]
    return None if first in _NO_SCRIPT or not first else _ONE_SCRIPT.get(first, first.capitalize())


def scripts(text: str) -> Counter[str]:
    """How many letters of each script a text has."""
    if text.isascii():
        return Counter({"Latin": n} if (n := sum(map(str.isalpha, text))) else {})
    return Counter(found for letter in text if (found := script(letter)))


@dataclass
class Inspection:
    """Rows that were looked at, and what was found.

    found = Inspection()
    for utterance in corpus: found.look(utterance, utterance.samples())
    for doubt in found.doubts(): …
    """

    rows: int = 0
    listened: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _ids: Distinct = field(default_factory=Distinct)
    _sounds: Distinct = field(default_factory=Distinct)
    _pairs: Distinct = field(default_factory=Distinct)
    _written: dict[str | None, Counter[str]] = field(default_factory=dict)  # scripts of the rows of a language
    _in: dict[tuple[str | None, str], list[tuple[str, str]]] = field(default_factory=dict)
    _rates: array[float] = field(default_factory=lambda: array("f"))  # letters a second
    _long_rates: array[float] = field(default_factory=lambda: array("f"))  # of recordings from SLOW_FROM_S on
    _fast: list[tuple[float, str, str]] = field(default_factory=list)  # a heap of the fastest, and one of the slowest
    _slow: list[tuple[float, str, str]] = field(default_factory=list)
    _lacking: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {"no speaker": [], "no language": []})
    _lacks: Counter[str] = field(default_factory=Counter)

    def inspect(self, utterance: Utterance, samples: np.ndarray, *, listen: bool = False) -> None:
        """Take a row, with its (n,) samples at 16 kHz; `listen`: a speech detector hears them too (some ms for a second)."""
        self.rows += 1
        self._look_for_repetition(utterance)
        self._look_at_sound(utterance, samples, listen)
        self._look_at_text(utterance, samples.size / SAMPLE_RATE)
        for kind, value in (("no speaker", utterance.speaker), ("no language", utterance.lang)):
            if value is None:
                self._lacks[kind] += 1
                _keep(self._lacking[kind], (utterance.id, ""))

    def _look_for_repetition(self, utterance: Utterance) -> None:
        if not self._ids.add(utterance.id):
            self._note("repeated id", utterance)
        sound = utterance.audio.key()
        new = self._pairs.add((sound, utterance.text))
        if not self._sounds.add(sound):
            self._note("recording with two texts" if new else "repeated recording", utterance, utterance.text if new else utterance.audio.name)

    def _look_at_sound(self, utterance: Utterance, samples: np.ndarray, listen: bool) -> None:
        if (loud := loudness(samples)) < SILENT_DB:
            self._note("silence", utterance, f"{loud:.0f} dB")
        elif np.count_nonzero(np.abs(samples) >= 0.999) > CLIPPED * samples.size:
            self._note("clipped", utterance)
        if listen:
            from asrpeft.audio.vad import speech_segments

            self.listened += 1
            if loud >= SILENT_DB and not speech_segments(samples, threshold=SPEECH, min_speech_s=0.06):
                self._note("no speech heard", utterance)

    def _look_at_text(self, utterance: Utterance, seconds: float) -> None:
        text = utterance.text
        letters = len(text) - sum(map(str.isspace, text))
        if not any(map(str.isalnum, text)):
            self._note("text without a letter", utterance, text)
        if lost := [c for c in text if c == "\ufffd" or (not c.isprintable() and not c.isspace() and unicodedata.category(c) in ("Cc", "Co", "Cn"))]:
            self._note("damaged letters", utterance, f"U+{ord(lost[0]):04X}")
        if mark := _MARK.search(text):
            self._note("marks", utterance, mark[0])
        if found := scripts(text):
            most = max(found, key=found.__getitem__)
            self._written.setdefault(utterance.lang, Counter())[most] += 1
            _keep(self._in.setdefault((utterance.lang, most), []), (utterance.id, text))
            if len(found) > 1 and (word := next((w for w in text.split() if len(scripts(w)) > 1), None)):
                self._note("two scripts in a word", utterance, f"{word} ({', '.join(scripts(word))})")
        rate = letters / seconds
        self._rates.append(rate)
        detail = f"{rate:.1f} letters a second: {letters} in {seconds:.1f} s"
        _push(self._fast, (rate, utterance.id, detail))
        if seconds >= SLOW_FROM_S:
            self._long_rates.append(rate)
            _push(self._slow, (-rate, utterance.id, detail))

    def _note(self, kind: str, utterance: Utterance, detail: str = "") -> None:
        self.counts[kind] += 1
        _keep(self.examples.setdefault(kind, []), (utterance.id, _shortened(detail)))

    # -- what came of it -----------------------------------------------------------------------------------------------
    def doubts(self) -> list[Doubt]:
        """What is doubtful, in the order of `TOLD`; every kind only where some row is."""
        found = [Doubt(kind, TOLD[kind], n, tuple(self.examples[kind])) for kind, n in self.counts.items() if n]
        found += [Doubt(kind, TOLD[kind], n, tuple(self._lacking[kind])) for kind, n in self._lacks.items() if n < self.rows]
        found += [*self._other_scripts(), *self._rates_apart()]
        return sorted(found, key=lambda doubt: list(TOLD).index(doubt.kind))

    def _other_scripts(self) -> list[Doubt]:
        found = []
        for lang, written in self._written.items():
            (usual, most), *others = written.most_common()
            for name, n in others:
                wording = f"written in {name}, where {most:,} of {written.total():,} rows{f' in {lang}' if lang else ''} are in {usual}"
                found.append(Doubt("another script", wording, n, tuple((id_, _shortened(text)) for id_, text in self._in[lang, name])))
        return found

    def _rates_apart(self) -> list[Doubt]:
        if not self._rates:
            return []
        rates, long_rates = np.frombuffer(self._rates, np.float32), np.frombuffer(self._long_rates, np.float32)
        median = float(np.median(rates))
        fast, slow = min(FASTEST, OUTLIER * median), median / SLOW
        too_fast = [(id_, detail) for rate, id_, detail in sorted(self._fast, reverse=True) if rate > fast]
        too_slow = [(id_, detail) for rate, id_, detail in sorted(self._slow, reverse=True) if -rate < slow]
        many = (("text too long for its audio", int((rates > fast).sum()), too_fast), ("audio too long for its text", int((long_rates < slow).sum()), too_slow))
        return [Doubt(kind, f"{TOLD[kind]} (its median is {median:.1f})", n, tuple(rows)) for kind, n, rows in many if n]


def silent(corpus: Corpus, *, most: int = LOOKED_AT, seed: int = 0) -> tuple[int, tuple[str, ...]]:
    """(recordings looked at, ids of those without any sound): up to `most` of them, drawn by the seed; of a corpus whose first
    ones are all silent, the others too, until one is not. Recordings that cannot be read are passed over.

    Raises: BadCorpus where all of several recordings are silent.
    """
    ids: list[str] = []
    looked = 0
    for utterance in corpus.shuffle(seed):
        if looked >= most and len(ids) < looked:
            break
        try:
            loud = loudness(utterance.samples())
        except BadAudio:
            continue
        looked += 1
        if loud < SILENT_DB:
            ids.append(utterance.id)
    if looked and len(ids) == looked:
        raise BadCorpus(
            f"{corpus.name or 'The corpus'} is silent: none of its {looked:,} recordings that can be read is ever louder than "
            f"{SILENT_DB:g} dB (the loudest digital sound is 0, speech about -20). There is nothing to learn from; record it again, "
            "or convert it anew."
        )
    return looked, tuple(ids)


def _keep(rows: list[tuple[str, str]], row: tuple[str, str]) -> None:
    if len(rows) < EXAMPLES:
        rows.append(row)


def _push(heap: list[tuple[float, str, str]], item: tuple[float, str, str]) -> None:
    """Keep the largest."""
    (heapq.heappush if len(heap) < EXAMPLES else heapq.heappushpop)(heap, item)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
