"""Word and character error rates of a corpus, with counts, intervals and the rows they come from.

    WER = (S + D + I) / N        N = words of the references = H + S + D        CER likewise on characters
    MER = (S + D + I) / (H + S + D + I)        WIL = 1 − (H / N) · (H / M)        M = words of the hypotheses

Sums run over the corpus before dividing, so long utterances count more and no mean of utterance rates is involved. An
utterance whose reference is empty adds its hypothesis words as insertions and nothing to N. WER is a fraction
(0.25), and passes 1 when there are more errors than words.

Source: Morris, Maier and Green, 2004, From WER and RIL to MER and WIL; NIST SCTK for what counts as an error.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from asrpeft.errors import BadInput
from asrpeft.scoring.alignment import ALIGNMENTS, Alignment, AlignmentRule, Edit, align, edits
from asrpeft.scoring.intervals import BOOTSTRAP, Bootstrap, Interval, ratio_interval
from asrpeft.scoring.normalize import DEFAULT, Normalizer
from asrpeft.scoring.normalize import normalizer as find_normalizer
from asrpeft.scoring.writing import CHARACTER_UNITS, CharacterUnit, characters, spaceless_share

MIN_SPEAKERS = 10  # fewer resampled speakers say little about how speakers differ


class DamagingNormalizer(UserWarning):
    """The chosen normalizer is known to spoil text like this."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Edits of one utterance or of a corpus. `words` are those of the reference, `hypothesis_words` of the
    hypothesis."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    characters: int = 0
    character_errors: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))

    @property
    def words(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis_words(self) -> int:
        return self.hits + self.substitutions + self.insertions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        return _ratio(self.errors, self.words)

    @property
    def cer(self) -> float:
        return _ratio(self.character_errors, self.characters)

    @property
    def mer(self) -> float:
        return _ratio(self.errors, self.errors + self.hits)

    @property
    def wil(self) -> float:
        if not self.words:
            return float("nan")
        return 1 - (self.hits / self.words) * (self.hits / self.hypothesis_words if self.hypothesis_words else 0.0)


@dataclass(frozen=True)
class Counting:
    """What counts as an error: `Counting(alignment="sclite", character_unit="grapheme")`.

    Attributes:
        alignment: "levenshtein", the fewest edits of words, or "sclite" for NIST's costs.
        character_unit: what CER counts, "codepoint" or "grapheme" (a letter with its marks).
    Raises: BadInput for a rule or a unit that there is not.
    """

    alignment: AlignmentRule = "levenshtein"
    character_unit: CharacterUnit = "codepoint"

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise BadInput(f"no alignment rule is called {self.alignment!r}; there are {', '.join(ALIGNMENTS)}.")
        if self.character_unit not in CHARACTER_UNITS:
            raise BadInput(f"no character unit is called {self.character_unit!r}; there are {', '.join(CHARACTER_UNITS)}.")


COUNTING = Counting()


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """One row: texts before and after the normalizer, counts, and the alignment of the normalized words."""

    id: str
    speaker: str | None
    reference: str
    hypothesis: str
    raw_reference: str
    raw_hypothesis: str
    counts: Counts
    raw_counts: Counts
    alignment: Alignment

    @property
    def edits(self) -> list[Edit]:
        """The alignment word by word."""
        return edits(self.alignment, self.reference.split(), self.hypothesis.split())

    def to_json(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "id": self.id,
            "speaker": self.speaker,
            "reference": self.reference,
            "hypothesis": self.hypothesis,
            "raw": {"reference": self.raw_reference, "hypothesis": self.raw_hypothesis},
            "wer": _number(counts.wer),
            "cer": _number(counts.cer),
            "words": counts.words,
            "substitutions": counts.substitutions,
            "insertions": counts.insertions,
            "deletions": counts.deletions,
            "alignment": [[edit.kind, edit.reference, edit.hypothesis] for edit in self.edits],
        }


@dataclass(frozen=True)
class Raw:
    """The same corpus with the texts as they were given."""

    wer: float
    cer: float


@dataclass(frozen=True)
class Score:
    """What one system did on one corpus. Rates are fractions; `utterances` and `words` count the reference side.

    `wer_interval` and `cer_interval` hold the level, method and number of units; `interval_unit` says of what.
    `notes` are remarks a reader of the numbers needs, in whole sentences.
    """

    name: str
    counts: Counts
    wer_interval: Interval
    cer_interval: Interval
    interval_unit: str
    raw: Raw
    normalizer: str
    rows: tuple[UtteranceScore, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    counting: Counting = COUNTING

    @property
    def alignment(self) -> AlignmentRule:
        return self.counting.alignment

    @property
    def character_unit(self) -> CharacterUnit:
        return self.counting.character_unit

    @property
    def wer(self) -> float:
        return self.counts.wer

    @property
    def cer(self) -> float:
        return self.counts.cer

    @property
    def mer(self) -> float:
        return self.counts.mer

    @property
    def wil(self) -> float:
        return self.counts.wil

    @property
    def words(self) -> int:
        return self.counts.words

    @property
    def characters(self) -> int:
        return self.counts.characters

    @property
    def hits(self) -> int:
        return self.counts.hits

    @property
    def substitutions(self) -> int:
        return self.counts.substitutions

    @property
    def insertions(self) -> int:
        return self.counts.insertions

    @property
    def deletions(self) -> int:
        return self.counts.deletions

    @property
    def utterances(self) -> int:
        return len(self.rows)

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Speakers in order of first appearance; empty where any row has none."""
        names = dict.fromkeys(row.speaker for row in self.rows)
        return () if None in names else tuple(name for name in names if name is not None)

    def to_json(self, *, rows: bool = False, **extra: Any) -> dict[str, Any]:
        """One system of `asrpeft evaluate --json`. `extra` adds keys such as audio_seconds; NaN becomes null.

        Args:    rows: also list every utterance with its alignment, under "rows".
        """
        return {
            "name": self.name,
            "wer": _number(self.wer),
            "cer": _number(self.cer),
            "wer_interval": self.wer_interval.to_json(),
            "cer_interval": self.cer_interval.to_json(),
            "interval_unit": self.interval_unit,
            "interval_units": self.wer_interval.units,
            "interval_level": self.wer_interval.level,
            "interval_method": self.wer_interval.method,
            "mer": _number(self.mer),
            "wil": _number(self.wil),
            "words": self.words,
            "characters": self.characters,
            "hits": self.hits,
            "substitutions": self.substitutions,
            "insertions": self.insertions,
            "deletions": self.deletions,
            "utterances": self.utterances,
            "speakers": len(self.speakers) or None,
            "raw": {"wer": _number(self.raw.wer), "cer": _number(self.raw.cer)},
            "normalizer": self.normalizer,
            "alignment": self.alignment,
            "character_unit": self.character_unit,
            "notes": list(self.notes),
            **({"rows": [row.to_json() for row in self.rows]} if rows else {}),
            **extra,
        }


def _number(value: float) -> float | None:
    return None if value != value else value


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normalizer: str | Normalizer = DEFAULT,
    speakers: Sequence[str | None] | None = None,
    ids: Sequence[str] | None = None,
    name: str = "hypothesis",
    bootstrap: Bootstrap | None = BOOTSTRAP,
    counting: Counting = COUNTING,
) -> Score:
    """Score hypotheses against references, utterance by utterance, and sum over the corpus.

    Args:
        references, hypotheses: texts in the same order, one per utterance; a hypothesis may be empty, and so may a
            reference (everything said there is an insertion), but not all of them.
        normalizer: what is applied to both sides before comparing; raw texts are scored beside it.
        speakers: one per utterance. With ten or more the intervals resample speakers, else utterances.
        ids: one per utterance, all different; default "1", "2", ….
        name: of the system, as reports and tests call it.
        bootstrap: how intervals are made: seed, resamples, level, method. None makes none and saves their time.
        counting: what counts as an error: the rule of alignment, and what a character is.
    Raises:  BadInput for lists of different lengths, texts that are not str, repeated ids, or no reference word at all.
    """
    drawn = bootstrap or Bootstrap(resamples=0)
    given = _checked(references, hypotheses, ids, speakers)
    rule = find_normalizer(normalizer)
    rows = _rows(given, rule, counting)
    total, raw_total = sum((row.counts for row in rows), Counts()), sum((row.raw_counts for row in rows), Counts())
    if not total.words:
        raise BadInput(
            f"none of the {len(rows)} references has a word after normalizer {rule.label}, so no rate exists. "
            "For recordings without speech use `asrpeft.scoring.nonspeech`; else check the text column or take `none`."
        )
    unit, grouped = grouped_counts(rows)
    wer_interval, cer_interval = (
        ratio_interval(
            np.array([getattr(one, errors) for one in grouped]),
            np.array([getattr(one, totals) for one in grouped]),
            level=drawn.level,
            method=drawn.method,
            resamples=drawn.resamples,
            seed=drawn.seed,
        )
        for errors, totals in (("errors", "words"), ("character_errors", "characters"))
    )
    damage = rule.damage([*given.references, *given.hypotheses])
    for warning in damage:
        warnings.warn(warning, DamagingNormalizer, stacklevel=2)
    notes = damage + _notes(total, [row.reference for row in rows], len(rows), given.speakers, unit)
    return Score(name, total, wer_interval, cer_interval, unit, Raw(raw_total.wer, raw_total.cer), rule.label, rows, notes, counting)


@dataclass(frozen=True)
class _Given:
    """Texts that can be scored, one of each for every utterance."""

    references: list[str]
    hypotheses: list[str]
    ids: list[str]
    speakers: list[str | None] | None


def _checked(references: Sequence[str], hypotheses: Sequence[str], ids: Sequence[str] | None, speakers: Sequence[str | None] | None) -> _Given:
    """The references and hypotheses, in pairs.

    Raises: BadInput for what `score` refuses.
    """
    if isinstance(references, str) or isinstance(hypotheses, str):
        raise BadInput("references and hypotheses are lists of texts, and a single text was given: write [text].")
    references, hypotheses = list(references), list(hypotheses)
    _same_length("hypotheses", hypotheses, references)
    if not references:
        raise BadInput("there is no utterance to score: the references are empty. Check the file or the filter.")
    for kind, texts in (("reference", references), ("hypothesis", hypotheses)):
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise BadInput(f"{kind} {place + 1} is a {type(text).__name__}, not text: give '' where nothing was said.")
    ids = [str(i) for i in range(1, len(references) + 1)] if ids is None else [str(one) for one in ids]
    _same_length("ids", ids, references)
    if len(set(ids)) != len(ids):
        repeated = [one for one, count in Counter(ids).items() if count > 1]
        raise BadInput(f"{len(repeated)} ids occur more than once, e.g. {', '.join(repeated[:3])}. Each utterance needs its own.")
    if speakers is not None:
        # Tables give "" for a cell without a name: that is no speaker, least of all one and the same.
        speakers = [None if speaker is None or not str(speaker).strip() else str(speaker) for speaker in speakers]
        _same_length("speakers", speakers, references)
    return _Given(references, hypotheses, ids, speakers)


def _rows(given: _Given, rule: Normalizer, counting: Counting) -> tuple[UtteranceScore, ...]:
    """Each utterance scored, as normalized and as given."""
    references, hypotheses = [rule(text) for text in given.references], [rule(text) for text in given.hypotheses]
    alignments = align(_words(references), _words(hypotheses), rule=counting.alignment)
    counts = raw_counts = _count(references, hypotheses, alignments, counting.character_unit)
    if (given.references, given.hypotheses) != (references, hypotheses):
        raw = align(_words(given.references), _words(given.hypotheses), rule=counting.alignment)
        raw_counts = _count(given.references, given.hypotheses, raw, counting.character_unit)
    speakers = given.speakers or [None] * len(given.ids)
    columns = (given.ids, speakers, references, hypotheses, given.references, given.hypotheses, counts, raw_counts, alignments)
    return tuple(UtteranceScore(*row) for row in zip(*columns, strict=True))


def grouped_counts(rows: Sequence[UtteranceScore]) -> tuple[str, list[Counts]]:
    """The independent units of these rows: ("speaker", sums by speaker) with ten speakers or more, else
    ("utterance", …)."""
    by_speaker: dict[str | None, Counts] = {}
    for row in rows:
        by_speaker[row.speaker] = by_speaker.get(row.speaker, Counts()) + row.counts
    if None not in by_speaker and len(by_speaker) >= MIN_SPEAKERS:
        return "speaker", list(by_speaker.values())
    return "utterance", [row.counts for row in rows]


def _same_length(what: str, values: Sequence[Any], references: Sequence[str]) -> None:
    if len(values) != len(references):
        raise BadInput(f"there are {len(references)} references and {len(values)} {what}; give one for each, in the same order.")


def _words(texts: Sequence[str]) -> list[list[str]]:
    return [text.split() for text in texts]


def _count(references: Sequence[str], hypotheses: Sequence[str], alignments: Sequence[Alignment], unit: CharacterUnit) -> list[Counts]:
    counts = []
    for reference, hypothesis, alignment in zip(references, hypotheses, alignments, strict=True):
        sums = {"hit": 0, "substitution": 0, "deletion": 0, "insertion": 0}
        for run in alignment:
            sums[run.kind] += len(run)
        wanted, got = characters(reference, unit=unit), characters(hypothesis, unit=unit)
        counts.append(Counts(sums["hit"], sums["substitution"], sums["deletion"], sums["insertion"], len(wanted), Levenshtein.distance(wanted, got)))
    return counts


def _notes(total: Counts, texts: Sequence[str], utterances: int, speakers: Sequence[str | None] | None, unit: str) -> tuple[str, ...]:
    notes = []
    share, scripts = spaceless_share(texts)
    if share > 0.2:
        notes.append(
            f"{100 * share:.0f} % of the reference letters are {', '.join(scripts)}, written without spaces between "
            "words: a 'word' here is whatever stands between spaces, often a phrase. Read CER, or use the normalizer "
            "marks+split."
        )
    if not total.errors and total.words >= 10:
        notes.append(
            f"No error in {total.words:,} words: resampling cannot widen that, but by the rule of three a true WER of "
            f"up to {300 / total.words:.1f} % would often look the same."
        )
    if empty := sum(not text for text in texts):
        notes.append(f"{empty} of {utterances} references are empty; what was recognized there counts as insertions.")
    if speakers is not None and unit == "utterance":
        known = len({speaker for speaker in speakers if speaker is not None})
        if known >= MIN_SPEAKERS:
            why = f"{sum(speaker is None for speaker in speakers)} utterances have no speaker"
        else:
            why = f"only {known} speakers are known and {MIN_SPEAKERS} are needed"
            why += " (some rows have no speaker)" if None in speakers else ""
        notes.append(f"Intervals resample utterances, because {why}: they do not say how other speakers would fare.")
    return tuple(notes)


def by_id(score: Score) -> Mapping[str, UtteranceScore]:
    """The rows by their id."""
    return {row.id: row for row in score.rows}
