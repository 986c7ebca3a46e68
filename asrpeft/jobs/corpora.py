"""Looking at a corpus, row by row: what it holds, and what is wrong with it. One of any size takes little memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from asrpeft.corpus import Utterance
from asrpeft.corpus.corpus import Skipped, Tally, decoded
from asrpeft.corpus.doubts import Inspection
from asrpeft.corpus.read import Reading
from asrpeft.jobs.results.corpus import CorpusCheck, CorpusStats

LISTENED = 200  # recordings that a speech detector hears, spread over the corpus
Progress = Callable[[int, int | None], None]


def check(reading: Reading, *, strict: bool = False, progress: Progress = lambda done, total: None) -> CorpusCheck:
    """Decode every recording: what cannot be used, with the reason, and what is doubtful in the rest.

    Args:
        reading: as `asrpeft.corpus.open_corpus` gives it.
        progress: called with (rows done, rows in all as far as known).
    Raises: BadAudio for the first row that cannot be used if `strict`.
    """
    tally, found = Tally(), Inspection()
    skipped: list[Skipped] = []
    every = max(1, (reading.size or 0) // LISTENED)
    for number, (item, samples) in enumerate(decoded(reading.items, strict=strict), 1):
        tally.add(item)
        if isinstance(item, Skipped):
            skipped.append(item)
        elif samples is not None:
            found.inspect(item, samples, listen=number % every == 0 and found.listened < LISTENED)
        if number % 10 == 0:
            progress(number, reading.size)
    return CorpusCheck(reading.name, tally.stats(), tuple(skipped), tuple(found.doubts()), found.listened)


def stats(reading: Reading, *, by: str | None = None, progress: Progress = lambda done, total: None) -> CorpusStats:
    """Count utterances, hours, speakers, words and word types; `by`: utterances by the values of a column too."""
    tally, groups = Tally(), Counter[str]()
    for number, item in enumerate(reading.items, 1):
        tally.add(item)
        if by and isinstance(item, Utterance):
            groups[str(item.column(by))] += 1
        if number % 100 == 0:
            progress(number, reading.size)
    return CorpusStats(reading.name, tally.stats(), by, dict(groups.most_common()))
