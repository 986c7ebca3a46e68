"""How well a base and its adapters transcribe a corpus: error rates with intervals, and paired tests against the
base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asrpeft.corpus import Corpus, Skipped
from asrpeft.decoding import Options, Transcripts, transcribe_corpus
from asrpeft.decoding.corpus import BATCH_FRAMES
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.recognizer import Recognizer
from asrpeft.recognizer.languages import token_of
from asrpeft.scoring import Comparison, Normaliser, Score, compare, score
from asrpeft.scoring.groups import Breakdown, breakdown
from asrpeft.scoring.normalise import DEFAULT

BASE = "base"
# A row that repeats itself to the end of its positions takes most of the time and says nothing more: it is cut.
OPTIONS = Options(stop_loops=True)


@dataclass(frozen=True)
class System:
    """One system on the corpus. `adapter` is None for the base; `breakdowns` are in the order of `by`."""

    adapter: str | None
    score: Score
    transcripts: Transcripts = field(repr=False)
    breakdowns: tuple[Breakdown, ...] = ()

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """`rows`: list every utterance too."""
        heard = self.transcripts
        return self.score.to_json(
            rows=rows,
            audio_seconds=heard.audio_seconds,
            audio_seconds_per_second=heard.audio_seconds / heard.seconds if heard.seconds > 0 else None,
            loops=heard.loops,
            **({"by": [one.to_json() for one in self.breakdowns]} if self.breakdowns else {}),
        )


@dataclass(frozen=True)
class Evaluation:
    """The base first, then the adapters in the order given; `tests` compare each adapter with the base."""

    systems: tuple[System, ...]
    tests: tuple[Comparison, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()

    def system(self, name: str) -> System:
        """Raises: BadInput, naming the systems there are."""
        for one in self.systems:
            if one.score.name == name:
                return one
        raise BadInput(f"No system is called {name!r}; there are {', '.join(s.score.name for s in self.systems)}.")

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """What `asrpeft evaluate --json` prints. `rows`: list every utterance of every system too."""
        return {
            "systems": [system.to_json(rows=rows) for system in self.systems],
            "tests": [test.to_json() for test in self.tests],
            "skipped": [{"id": one.id, "reason": one.reason} for one in self.skipped],
            "notes": list(self.notes),
        }


def evaluate(
    recognizer: Recognizer,
    corpus: Corpus,
    *,
    adapters: Sequence[str] = (),
    base: bool = True,
    lang: str | None = None,
    proxy_lang: str | None = None,
    task: str | None = None,
    context: str | None = None,
    batch_frames: int = BATCH_FRAMES,
    batch_size: int | None = None,
    normaliser: str | Normaliser = DEFAULT,
    by: Sequence[str] = (),
    cap: float | None = None,
    options: Options = OPTIONS,
    autocast: bool = False,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Transcribe the corpus with the base and with each adapter, score and compare.

    Args:
        adapters: names of attached adapters.
        base: score the base as well (there are no tests without it).
        lang: of every utterance. Default: the utterance's own, else the adapter's.
        proxy_lang: what the base is told where it has no token for the language. Default: the slot in which the first
            adapter learned it, so that base and adapter differ in nothing else.
        context: "full" or "auto" for all systems. Default: what each was trained for.
        by: columns to break the scores down by: speaker, lang, or any column of the corpus.
        cap: in the tests, count at most this many errors per reference word of an utterance: 1.0 keeps a base that
            invents words from making any adapter look good.
        seed: of the bootstraps.
        progress: called with (utterances done, of all systems, what is being done).
    Raises: BadCorpus if nothing could be transcribed; BadInput, BadRoute as `transcribe_corpus`.
    """
    if not base and not adapters:
        raise BadInput("There is nothing to evaluate: name an adapter, or let the base be scored.")
    if doubled := {name for name in adapters if list(adapters).count(name) > 1}:
        raise BadInput(f"The adapter {', '.join(sorted(doubled))} is named twice.")
    for column in by:
        if all(u.column(column) is None for u in corpus):
            raise BadInput(f"The corpus {corpus.name!r} has no column {column!r} to break the scores down by.")
    names: list[str | None] = [*([None] if base else []), *adapters]
    notes: list[str] = []
    if proxy_lang is None:
        proxy_lang = _proxy(recognizer, corpus, adapters, lang)
        if proxy_lang is not None and base:
            notes.append(f"The base has no token for the language and was told {proxy_lang!r} instead.")
    systems = []
    for number, name in enumerate(names):
        label = BASE if name is None else name

        def done(n: int, _all: int, number: int = number, label: str = label) -> None:
            if progress:
                progress(number * len(corpus) + n, len(names) * len(corpus), label)

        heard = transcribe_corpus(
            recognizer,
            corpus,
            adapter=name,
            lang=lang,
            proxy_lang=proxy_lang,
            task=task,
            context=context,
            batch_frames=batch_frames,
            batch_size=batch_size,
            options=options,
            autocast=autocast,
            strict=strict,
            progress=done,
        )
        systems.append(_scored(name, label, heard, corpus, normaliser, by, seed))
    tests = tuple(compare(systems[0].score, other.score, cap=cap, seed=seed) for other in systems[1:]) if base else ()
    return Evaluation(tuple(systems), tests, systems[0].transcripts.skipped, tuple(notes))


def _scored(
    name: str | None,
    label: str,
    heard: Transcripts,
    corpus: Corpus,
    normaliser: str | Normaliser,
    by: Sequence[str],
    seed: int,
) -> System:
    spoken = heard.utterances
    if not spoken:
        reasons = "; ".join(f"{one.id}: {one.reason}" for one in heard.skipped[:3])
        raise BadCorpus(
            f"No utterance of {corpus.name or 'the corpus'} could be transcribed; {len(heard.skipped)} were skipped. "
            f"{reasons}".rstrip()
        )
    known = all(u.speaker is not None for u in spoken)
    found = score(
        [u.text for u in spoken],
        heard.texts,
        normaliser=normaliser,
        speakers=[u.speaker for u in spoken] if known else None,
        ids=[u.id for u in spoken],
        name=label,
        seed=seed,
    )
    parts = tuple(breakdown(found, [u.column(column) for u in spoken], column=column, seed=seed) for column in by)
    return System(name, found, heard, parts)


def _proxy(recognizer: Recognizer, corpus: Corpus, adapters: Sequence[str], lang: str | None) -> str | None:
    """The code of the slot that stands for a language which the base has no token for; None where it has one for
    all."""
    if not recognizer.multilingual:
        return None
    table = recognizer.generation.lang_to_id
    wanted = {lang} if lang is not None else {u.lang for u in corpus}
    if all(one is None or token_of(one, table) for one in wanted):
        return None
    slots = [recognizer.adapters[name].manifest.language_slot for name in adapters]
    slot = next((slot for slot in slots if slot is not None), None)
    return None if slot is None else slot[2:-2]
