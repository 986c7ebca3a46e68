"""What `evaluate` looks at beside error rates, and what it found for one system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asrpeft.corpus import Corpus
from asrpeft.decoding import Transcripts
from asrpeft.decoding.confidence import utterance_confidence, word_confidences
from asrpeft.errors import BadInput
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import (
    Calibration,
    Hallucination,
    NonInferiority,
    NonSpeech,
    Normalizer,
    Recall,
    Score,
    calibration,
    hotword_recall,
    insertion_runs,
    non_inferiority,
    rare_word_recall,
    word_correctness,
)
from asrpeft.scoring import normalizer as find_normalizer
from asrpeft.scoring.recall import BANDS

TEXT_SUFFIXES = (".txt", ".text", ".lst", ".list", ".csv", ".tsv", ".json", ".jsonl", ".md")
MAX_LOSS = 0.03  # of WER on the guard data: what is called kept where nothing else is said


@dataclass(frozen=True)
class Checks:
    """What to look at beside the error rates. Everything that is left out costs nothing.

    Attributes:
        train_texts: what the adapters were trained on: recall of reference words by how often they occur in it.
        rare: a word is rare that occurs at most so often there; None: bands of 0, 1–2, 3–10 and more.
        hotwords: words or phrases whose recall and precision is counted. Decoding does not know of them.
        nonspeech: recordings in which nobody speaks; every word written for them is invented.
        conditions: disturbances to repeat the test under; see `asrpeft.audio.conditions`.
        guard: what the base could already do, in the guard data's own language; `guard_lang` where they do not name it.
        max_loss: WER (a fraction) that an adapter may lose there.
    """

    train_texts: Sequence[str] = field(default=(), repr=False)
    rare: int | None = None
    hotwords: Sequence[str] = ()
    nonspeech: Corpus | None = None
    conditions: Sequence[str] = ()
    guard: Corpus | None = None
    guard_lang: str | None = None
    max_loss: float = MAX_LOSS

    def __post_init__(self) -> None:
        if self.rare is not None and self.rare < 0:
            raise BadInput(f"A word cannot be rare at {self.rare} occurrences; give 0 (never seen) or more.")
        if self.max_loss < 0:
            raise BadInput(f"A loss of at most {self.max_loss} asks for a gain on the guard data; give 0 or more.")
        if self.rare is not None and not self.train_texts:
            raise BadInput("Rare words are counted in the training texts: give them too, with --train-data.")

    @property
    def bands(self) -> Sequence[tuple[int, int | None]]:
        """Inclusive ranges of occurrences in the training texts."""
        if self.rare is None:
            return BANDS
        return ((0, 0), *([(1, self.rare)] if self.rare else []), (self.rare + 1, None))


NOTHING_MORE = Checks()


@dataclass(frozen=True)
class Guarded:
    """The guard data before (the base) and after (an adapter), and whether the loss stays within what was allowed."""

    before: Score = field(repr=False)
    after: Score = field(repr=False)
    test: NonInferiority

    @classmethod
    def of(cls, before: Score, after: Score, *, max_loss: float, seed: int = 0) -> Guarded:
        return cls(before, after, non_inferiority(before, after, max_loss=max_loss, seed=seed))

    def to_json(self) -> dict[str, Any]:
        return {"before": self.before.to_json(), "after": self.after.to_json(), **self.test.to_json()}


@dataclass(frozen=True)
class Findings:
    """What was found for one system. None and () where it was not looked for (`guard`: of the base)."""

    hallucination: Hallucination
    calibration: Calibration | None = None
    utterance_confidence: float | None = None
    rare_words: tuple[Recall, ...] = ()
    hot_words: tuple[Recall, ...] = ()
    nonspeech: NonSpeech | None = None
    guard: Guarded | None = None

    def to_json(self) -> dict[str, Any]:
        """Only what was looked for."""
        singles = {
            "hallucination": self.hallucination,
            "calibration": self.calibration,
            "nonspeech": self.nonspeech,
            "guard": self.guard,
        }
        lists = {"rare_words": self.rare_words, "hot_words": self.hot_words}
        content: dict[str, Any] = {key: one.to_json() for key, one in singles.items() if one is not None}
        if self.utterance_confidence is not None:
            content["calibration"]["utterance_confidence"] = self.utterance_confidence
        return content | {key: [one.to_json() for one in found] for key, found in lists.items() if found}


def examine(recognizer: Recognizer, found: Score, heard: Transcripts, checks: Checks, *, normalizer: str | Normalizer, seed: int) -> Findings:
    """What can be said of transcripts without decoding anything more."""
    settings: dict[str, Any] = {"normalizer": normalizer, "seed": seed}
    sure = confidences(recognizer, found, heard, normalizer=normalizer)
    given = [one for row in sure for one in row]
    right = [one for row in word_correctness(found) for one in row]
    whole = [utterance_confidence(one) for one in heard.hypotheses]
    return Findings(
        insertion_runs(found),
        calibration(given, right) if given else None,
        sum(whole) / len(whole) if given else None,
        tuple(rare_word_recall(found, checks.train_texts, bands=checks.bands, **settings)) if checks.train_texts else (),
        tuple(hotword_recall(found, checks.hotwords, **settings)) if checks.hotwords else (),
    )


def confidences(recognizer: Recognizer, found: Score, heard: Transcripts, *, normalizer: str | Normalizer) -> list[list[float]]:
    """For each row, the confidence of each word of its normalized hypothesis.

    A written word gives its confidence to all words that it becomes. Where a normalizer looks at several words at once
    ("twenty one" → "21"), so that they cannot be told apart, each word of the row has the row's mean.
    """
    rule = find_normalizer(normalizer)
    rows = []
    for row, hypothesis in zip(found.rows, heard.hypotheses, strict=True):
        words = row.hypothesis.split()
        sure = word_confidences(recognizer, hypothesis) if words else []
        parts = [(part, one) for word, one in zip(hypothesis.text.split(), sure) for part in rule(word).split()]
        if [part for part, _ in parts] == words:
            rows.append([one for _, one in parts])
        else:
            rows.append([utterance_confidence(hypothesis)] * len(words))
    return rows


def phrases(given: str) -> tuple[str, ...]:
    """Hot words from a file (one word or phrase a line, # begins a remark) or from a list between commas.

    Raises: BadInput where there is none, the file is no text, or what looks like a path is none: as a word, a mistyped path
        would be scored without a hint.
    """
    try:
        is_file = Path(given).is_file()
    except (OSError, ValueError):  # a list too long for a name
        is_file = False
    if not is_file and "," not in given and ("/" in given or "\\" in given or Path(given).suffix.lower() in TEXT_SUFFIXES):
        what = "a folder" if Path(given).is_dir() else "no such file"
        raise BadInput(f"--hotwords {given!r} looks like a path, and there is {what}. Name a file with one word or phrase a line; "
                       f"a word that is written so is given with a comma behind it: {given + ','!r}.")  # fmt: skip
    try:
        lines = Path(given).read_text(encoding="utf-8-sig").splitlines() if is_file else given.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The hot words in {given!r} cannot be read: {error}.") from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if not found:
        raise BadInput(f"There is no hot word in {given!r}; write one word or phrase a line, or a list between commas.")
    return found
