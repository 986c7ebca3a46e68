"""What kind of mistakes: the words confused most often, runs of invented words, text where nobody spoke.

Hallucination is counted two ways on speech: an utterance with `at_least` inserted words in a row, and one whose
hypothesis repeats a phrase over and over while the reference does not. On recordings without speech every word is
invented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asrpeft.errors import BadInput
from asrpeft.scoring.errors import Score
from asrpeft.scoring.intervals import Interval, wilson
from asrpeft.scoring.normalize import DEFAULT, Normalizer
from asrpeft.scoring.normalize import normalizer as find_normalizer

LOOP_TIMES = 3  # a phrase said this often in a row …
LOOP_WORDS = 6  # … and this many words in all is a loop
_LONGEST_PHRASE = 12


@dataclass(frozen=True)
class Confusions:
    """Most frequent first: (reference word, hypothesis word, times), (word, times), (word, times)."""

    substitutions: tuple[tuple[str, str, int], ...]
    deletions: tuple[tuple[str, int], ...]
    insertions: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "substitutions": [{"reference": a, "hypothesis": b, "count": n} for a, b, n in self.substitutions],
            "deletions": [{"word": word, "count": n} for word, n in self.deletions],
            "insertions": [{"word": word, "count": n} for word, n in self.insertions],
        }


def confusions(score: Score, *, top: int = 20) -> Confusions:
    """The `top` most frequent substitutions, deletions and insertions; ties in alphabetical order."""
    counted: dict[str, Counter[tuple[str | None, str | None]]] = {
        "substitution": Counter(),
        "deletion": Counter(),
        "insertion": Counter(),
        "hit": Counter(),
    }
    for row in score.rows:
        for kind, reference, hypothesis in row.edits:
            counted[kind][reference, hypothesis] += 1

    def first(kind: str) -> list[tuple[tuple[str | None, str | None], int]]:
        return sorted(counted[kind].items(), key=lambda item: (-item[1], [word or "" for word in item[0]]))[:top]

    return Confusions(
        tuple((str(a), str(b), n) for (a, b), n in first("substitution")),
        tuple((str(a), n) for (a, _), n in first("deletion")),
        tuple((str(b), n) for (_, b), n in first("insertion")),
    )


@dataclass(frozen=True)
class Hallucination:
    """Utterances of a score with a run of `at_least` inserted words, or a loop. `rate` counts either; Wilson's
    interval."""

    at_least: int
    utterances: int
    with_run: tuple[str, ...]
    with_loop: tuple[str, ...]
    longest: int
    rate: float
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        return {
            "at_least": self.at_least,
            "utterances": self.utterances,
            "with_run": list(self.with_run),
            "with_loop": list(self.with_loop),
            "longest": self.longest,
            "rate": self.rate,
            "interval": self.interval.to_json(),
        }


def insertion_runs(score: Score, *, at_least: int = 5) -> Hallucination:
    """How often the system invents: runs of inserted words, and loops that the reference does not have."""
    if at_least < 1:
        raise BadInput(f"a run of {at_least} inserted words is no run; give 1 or more (5 is usual).")
    runs, loops, longest = [], [], 0
    for row in score.rows:
        here = max((len(run) for run in row.alignment if run.kind == "insertion"), default=0)
        longest = max(longest, here)
        if here >= at_least:
            runs.append(row.id)
        if loop(row.hypothesis.split()) and not loop(row.reference.split()):
            loops.append(row.id)
    either = len({*runs, *loops})
    return Hallucination(
        at_least,
        score.utterances,
        tuple(runs),
        tuple(loops),
        longest,
        either / score.utterances,
        wilson(either, score.utterances, level=score.wer_interval.level),
    )


def loop(words: Sequence[str], *, times: int = LOOP_TIMES, at_least: int = LOOP_WORDS) -> tuple[str, ...]:
    """The phrase that is said at least `times` times in a row, filling `at_least` words or more; () where there is
    none."""
    for size in range(1, min(_LONGEST_PHRASE, len(words) // times) + 1):
        same = 0  # words in a row that equal the word `size` places before
        for place in range(size, len(words)):
            same = same + 1 if words[place] == words[place - size] else 0
            if same + size >= max(times * size, at_least):
                return tuple(words[place - size + 1 : place + 1])
    return ()


@dataclass(frozen=True)
class NonSpeech:
    """What was written for recordings in which nobody speaks. `rate` is the share of clips with any word."""

    clips: int
    rate: float
    interval: Interval
    words: int
    words_per_minute: float | None
    frequent: tuple[tuple[str, int], ...]

    @property
    def words_per_hour(self) -> float | None:
        return None if self.words_per_minute is None else 60 * self.words_per_minute

    def to_json(self) -> dict[str, Any]:
        return {
            "clips": self.clips,
            "rate": self.rate,
            "interval": self.interval.to_json(),
            "words": self.words,
            "words_per_minute": self.words_per_minute,
            "words_per_hour": self.words_per_hour,
            "frequent": [{"text": text, "count": n} for text, n in self.frequent],
        }


def nonspeech(hypotheses: Sequence[str], *, seconds: float | None = None, normalizer: str | Normalizer = DEFAULT, top: int = 10) -> NonSpeech:
    """Score transcripts of noise, music and silence: every word is one too many.

    Args:    seconds: of audio in all, for a rate per minute.
    Raises:  BadInput without a single clip, or for a duration that is not positive.
    """
    if not hypotheses:
        raise BadInput("there is no transcript of non-speech to score; give one text per clip, '' where nothing was written.")
    if seconds is not None and seconds <= 0:
        raise BadInput(f"{seconds} seconds of audio cannot be; give the clips' total duration in seconds, or leave it out.")
    texts = [find_normalizer(normalizer)(text) for text in hypotheses]
    spoken = [text for text in texts if text]
    words = sum(len(text.split()) for text in texts)
    frequent = sorted(Counter(spoken).items(), key=lambda item: (-item[1], item[0]))[:top]
    return NonSpeech(
        len(texts),
        len(spoken) / len(texts),
        wilson(len(spoken), len(texts)),
        words,
        None if seconds is None else 60 * words / seconds,
        tuple(frequent),
    )
