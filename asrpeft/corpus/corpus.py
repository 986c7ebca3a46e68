"""A corpus: utterances in order, what was left out of it and why, and the ways to divide it."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from asrpeft.audio.features import MAX_SECONDS, SAMPLE_RATE
from asrpeft.corpus.distinct import Distinct
from asrpeft.corpus.mix import called, checked, title
from asrpeft.corpus.utterance import Seconds, Utterance
from asrpeft.errors import BadAudio, BadCorpus, BadInput


@dataclass(frozen=True)
class Skipped:
    """An utterance that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Stats:
    """What a corpus holds. `words` are separated by white space; `types` are different words, as written."""

    utterances: int
    skipped: int
    speakers: int
    hours: float
    longest_s: Seconds
    words: int
    types: int
    characters: int
    sentences: int  # different ones


@dataclass(frozen=True)
class Part:
    """What a corpus has of one of the corpora it was made of, each row of which is drawn `weight` times an epoch."""

    name: str
    weight: float
    utterances: int
    hours: float

    @property
    def drawn(self) -> float:
        """Utterances an epoch."""
        return self.weight * self.utterances


class Corpus(Sequence[Utterance]):
    """Utterances in order. Never changes: every method gives a new corpus that shares the utterances.

    `skipped` says what was left out when it was read, so that no count is silently smaller than the file.
    """

    def __init__(self, utterances: Sequence[Utterance], *, name: str = "", skipped: Sequence[Skipped] = ()):
        self._utterances = tuple(utterances)
        self.name = name
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Utterance | Corpus:
        return self._with(self._utterances[index]) if isinstance(index, slice) else self._utterances[index]

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, {len(self):,} utterances, {len(self.speakers):,} speakers, {len(self.skipped):,} skipped)"

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers that are known, sorted."""
        return tuple(sorted({u.speaker for u in self if u.speaker is not None}))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The corpora it was made of, in the order of their first rows."""
        rows: dict[tuple[str, float], list[float]] = {}
        for u in self:
            rows.setdefault((u.corpus, u.weight), []).append(u.duration)
        return tuple(Part(name, weight, len(seconds), sum(seconds) / 3600) for (name, weight), seconds in rows.items())

    @staticmethod
    def mix(corpora: Iterable[Corpus | tuple[Corpus, float]]) -> Corpus:
        """Several corpora as one, one after another; training draws from each row `weight` times an epoch, 1 if none is given.

        Ids are made unique, speakers who are called alike are one, each row keeps its language, and weights that rows have
        already are multiplied.
        Raises: BadInput for a weight that is none, or no corpus.
        """
        given = [(one, 1.0) if isinstance(one, Corpus) else one for one in corpora]
        if not given:
            raise BadInput("No corpus was named.")
        names = called([corpus.name or "corpus" for corpus, _ in given])
        rows: list[Utterance] = []
        for name, (corpus, weight) in zip(names, given):
            own, factor = len(corpus.parts) > 1, checked(weight, name)
            rows += [replace(u, corpus=u.corpus if own else name, weight=u.weight * factor) for u in corpus]
        skipped = [skipped for corpus, _ in given for skipped in corpus.skipped]
        return Corpus(unique(rows), name=title({name: weight for name, (_, weight) in zip(names, given)}), skipped=skipped)

    def filter(self, keep: Callable[[Utterance], bool]) -> Corpus:
        return self._with([u for u in self if keep(u)])

    def shuffle(self, seed: int) -> Corpus:
        order = list(self._utterances)
        random.Random(f"shuffle-{seed}").shuffle(order)
        return self._with(order)

    def by_speaker(self) -> dict[str, Corpus]:
        """One corpus per known speaker, in the order of `speakers`."""
        rows: dict[str, list[Utterance]] = {speaker: [] for speaker in self.speakers}
        for utterance in self:
            if utterance.speaker is not None:
                rows[utterance.speaker].append(utterance)
        return {speaker: Corpus(mine, name=f"{self.name} ({speaker})") for speaker, mine in rows.items()}

    def split_by_speaker(self, fraction: float = 0.1, seed: int = 0, *, by: str = "auto") -> tuple[Corpus, Corpus]:
        """Hold a part out: (train, held), both in the order of this corpus; deterministic in `seed`.

        Args:
            fraction: of the utterances, about; between 0 and 1.
            by: "speaker": no speaker is on both sides; "sentence": no sentence is (compared without case and punctuation);
                "auto": by speaker if that holds out at most twice the fraction, else by sentence (one speaker; few or
                unequal ones, where a whole speaker would be a third of the data).
        Raises:  BadCorpus where one side would be empty.
        """
        if not 0 < fraction < 1:
            raise BadInput(f"a part of {fraction} cannot be held out; give a fraction between 0 and 1, for instance 0.1.")
        if by not in ("auto", "speaker", "sentence"):
            raise BadInput(f"cannot split by {by!r}; by is 'auto', 'speaker' or 'sentence'.")
        held: set[str] = set()
        unit = "speaker"
        if by != "sentence":
            known = all(u.speaker is not None for u in self) and len(self.speakers) > 1
            most = 2 * fraction * len(self) if by == "auto" else len(self) - 1
            held = _choose([(u.speaker, u.id) for u in self], fraction, seed, most) if known else set()
        if not held and by != "speaker":
            unit = "sentence"
            held = _choose([(sentence_key(u.text), u.id) for u in self], fraction, seed, len(self) - 1)
        if not held or len(held) == len(self):
            raise BadCorpus(
                f"{self.name or 'the corpus'} ({len(self)} utterances, {len(self.speakers)} speakers) is too small to "
                f"hold out {fraction:.0%} by {by}. Give the other part yourself, with --dev-data."
            )
        # The share that it came to: whole speakers seldom make up what was asked for.
        return (
            Corpus([u for u in self if u.id not in held], name=self.name, skipped=self.skipped),
            Corpus([u for u in self if u.id in held], name=f"{self.name} ({100 * len(held) / len(self):.3g} % held out by {unit})"),
        )

    def checked(self, *, strict: bool = False, progress: Callable[[int, int], None] | None = None) -> Corpus:
        """Decode everything once and leave out what fails, with the reason; durations become exact.

        Raises: BadAudio for the first failure if `strict`.
        """
        good, bad = [], list(self.skipped)
        for number, (item, _) in enumerate(decoded(self, strict=strict), 1):
            if isinstance(item, Utterance):
                good.append(item)
            else:
                bad.append(item)
            if progress:
                progress(number, len(self))
        return Corpus(good, name=self.name, skipped=bad)

    def stats(self) -> Stats:
        tally = Tally()
        for item in (*self, *self.skipped):
            tally.add(item)
        return tally.stats()

    def _with(self, utterances: Sequence[Utterance]) -> Corpus:
        return Corpus(utterances, name=self.name, skipped=self.skipped)


class Tally:
    """Counts of a corpus that is read row by row: it holds hashes of the words and sentences, not the rows."""

    def __init__(self) -> None:
        self.utterances = self.skipped = self.words = self.characters = 0
        self.seconds = self.longest = 0.0
        self._speakers, self._types, self._sentences = Distinct(), Distinct(), Distinct()

    def add(self, item: Utterance | Skipped) -> None:
        if isinstance(item, Skipped):
            self.skipped += 1
            return
        words = item.text.split()
        self.utterances += 1
        self.words += len(words)
        self.characters += len(item.text)
        self.seconds += item.duration
        self.longest = max(self.longest, item.duration)
        self._types.update(words)
        self._sentences.update((sentence_key(item.text),))
        if item.speaker is not None:
            self._speakers.update((item.speaker,))

    def stats(self) -> Stats:
        return Stats(
            utterances=self.utterances,
            skipped=self.skipped,
            speakers=len(self._speakers),
            hours=self.seconds / 3600,
            longest_s=self.longest,
            words=self.words,
            types=len(self._types),
            characters=self.characters,
            sentences=len(self._sentences),
        )


def decoded(items: Iterable[Utterance | Skipped], *, strict: bool = False) -> Iterator[tuple[Utterance, np.ndarray] | tuple[Skipped, None]]:
    """Each utterance with its (n,) samples and its exact duration, or as left out, with the reason, where it cannot be decoded.

    Raises: BadAudio for the first failure if `strict`.
    """
    for item in items:
        if isinstance(item, Skipped):
            yield item, None
            continue
        try:
            samples = item.audio.decoded()
            if (seconds := samples.size / SAMPLE_RATE) > MAX_SECONDS:
                raise BadAudio(too_long(seconds))
        except BadAudio as error:
            if strict:
                raise BadAudio(f"{item.id}: {error}") from error
            yield Skipped(item.id, str(error)), None
        else:
            yield replace(item, duration=seconds), samples


def unique(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The same with ids made unique: the second "a" becomes "a#2"."""
    seen: dict[str, int] = {}
    return [_as_unique(u, seen) for u in utterances]


def _as_unique(utterance: Utterance, seen: dict[str, int]) -> Utterance:
    id_ = utterance.id
    while id_ in seen:
        seen[utterance.id] += 1
        id_ = f"{utterance.id}#{seen[utterance.id]}"
    seen[id_] = 1
    return utterance if id_ == utterance.id else replace(utterance, id=id_)


def too_long(seconds: Seconds) -> str:
    return f"{seconds:.2f} s long; at most {MAX_SECONDS:g} s fit the recognizer. Cut it into shorter utterances"


def sentence_key(text: str) -> str:
    """What two transcripts of one sentence share: no case, no punctuation, single spaces; combining marks stay."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).translate(_WITHOUT_PUNCTUATION).split())


class _WithoutPunctuation(dict[int, "int | str"]):
    """For `str.translate`: punctuation and symbols become spaces; each letter is looked up once."""

    def __missing__(self, letter: int) -> int | str:
        self[letter] = found = " " if unicodedata.category(chr(letter))[0] in "PS" else letter
        return found


_WITHOUT_PUNCTUATION = _WithoutPunctuation()


def _choose(keys_and_ids: Sequence[tuple[str | None, str]], fraction: float, seed: int, most: float) -> set[str]:
    """Ids of whole groups, in seeded order, up to about `fraction` of all and never over `most`; empty if none fits."""
    sizes = Counter(key for key, _ in keys_and_ids)
    order = sorted(sizes, key=str)
    random.Random(f"split-{seed}").shuffle(order)
    chosen: set[str | None] = set()
    count, target = 0, fraction * len(keys_and_ids)
    for key in order:
        after = count + sizes[key]
        # A group that would overshoot is taken only if that lands nearer to the target than stopping short of it.
        if after <= most and (count == 0 or abs(after - target) <= abs(count - target)):
            chosen.add(key)
            count = after
    return {id_ for key, id_ in keys_and_ids if key in chosen}
