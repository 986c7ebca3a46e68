"""How well a base and its adapters transcribe a corpus: error rates with intervals, paired tests against the base, and
whatever else `Checks` asks: confidences, rare and hot words, recordings without speech, disturbances, forgetting."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

import soundfile
import torch

from asrpeft.audio import MAX_SECONDS, SAMPLE_RATE
from asrpeft.audio import conditions as disturbances
from asrpeft.corpus import AudioRef, Corpus, Skipped, Utterance
from asrpeft.corpus.traces import Overlap
from asrpeft.decoding import Options, Transcripts, transcribe_corpus
from asrpeft.decoding.corpus import BATCH_FRAMES, Chosen, Told, by_id, joined
from asrpeft.decoding.joint import for_base
from asrpeft.decoding.language import Detected, check_detection, detect_corpus, summary
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.jobs.checks import NOTHING_MORE, Checks, Findings, Guarded, examine
from asrpeft.jobs.leakage import How, of_an_evaluation
from asrpeft.jobs.voices import Heard
from asrpeft.recognizer import Recognizer
from asrpeft.recognizer.languages import AUTO, canonical
from asrpeft.scoring import Comparison, Normalizer, Score, Speed, compare_all, nonspeech, score
from asrpeft.scoring.groups import Breakdown, breakdown
from asrpeft.scoring.normalize import DEFAULT
from asrpeft.scoring.report import Condition

BASE = "base"
# A row that repeats itself to the end of its positions takes most of the time and says nothing more: it is cut.
OPTIONS = Options(stop_loops=True)
AS_RECORDED = "as recorded"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class System:
    """One system on the corpus. `adapter` is None for the base, "speakers" for those of each speaker; `breakdowns` are in the order of `by`."""

    adapter: str | None
    score: Score
    transcripts: Transcripts = field(repr=False)
    breakdowns: tuple[Breakdown, ...] = ()
    findings: Findings | None = None

    @property
    def speed(self) -> Speed | None:
        """Of transcribing the corpus, reading and features included; None where nothing was measured."""
        heard = self.transcripts
        return Speed(heard.audio_seconds, heard.seconds) if heard.audio_seconds > 0 and heard.seconds > 0 else None

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """`rows`: list every utterance too."""
        heard = self.transcripts
        content = self.score.to_json(
            rows=rows,
            audio_seconds=heard.audio_seconds,
            audio_seconds_per_second=self.speed.audio_seconds_per_second if self.speed else None,
            real_time_factor=self.speed.real_time_factor if self.speed else None,
            loops=heard.loops,
            **({"by": [one.to_json() for one in self.breakdowns]} if self.breakdowns else {}),
            **(self.findings.to_json() if self.findings else {}),
        )
        for row, language in zip(content.get("rows", ()), heard.languages):
            row["language"] = language
        return content


@dataclass(frozen=True)
class Evaluation:
    """The base first, then the adapters in the order given; `tests` compare each adapter with the base. `conditions`,
    where asked for, begin with the corpus as it was recorded. `shared`: what the corpus has in common with what adapters
    were trained on, where it has anything."""

    systems: tuple[System, ...]
    tests: tuple[Comparison, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    shared: tuple[Overlap, ...] = ()
    languages: dict[str, int] | None = None  # how many utterances were heard to be in each, where that was asked for

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
            **({"conditions": [_condition_json(one) for one in self.conditions]} if self.conditions else {}),
            **({} if self.languages is None else {"languages": self.languages}),
            "skipped": [{"id": one.id, "reason": one.reason} for one in self.skipped],
            "notes": list(self.notes),
            **({"overlap": [one.to_json() for one in self.shared]} if self.shared else {}),
        }


def _condition_json(one: Condition) -> dict[str, Any]:
    return {"name": one.name, "systems": [found.to_json() for found in one.scores]}


def evaluate(
    recognizer: Recognizer,
    corpus: Corpus,
    *,
    adapters: Sequence[str] = (),
    voices: Heard | None = None,
    base: bool = True,
    lang: str | None = None,
    proxy_lang: str | None = None,
    task: str | None = None,
    context: str | None = None,
    batch_frames: int = BATCH_FRAMES,
    batch_size: int | None = None,
    normalizer: str | Normalizer = DEFAULT,
    by: Sequence[str] = (),
    cap: float | None = None,
    checks: Checks = NOTHING_MORE,
    options: Options = OPTIONS,
    autocast: bool = False,
    seed: int = 0,
    strict: bool = False,
    train: Corpus | None = None,
    overlap: How = "warn",
    progress: Progress | None = None,
) -> Evaluation:
    """Transcribe the corpus with the base and with each adapter, score and compare.

    Args:
        adapters: names of attached adapters.
        voices: a further system, in which each utterance is heard by its own speaker's adapter; see `asrpeft.jobs.voices`.
        base: score the base as well (there are no tests without it).
        lang: of every utterance; "auto": what the base hears in each, whatever the corpus says. Default: the utterance's own,
            else what an adapter was trained for; the base is then told what all adapters were.
        proxy_lang: what the base is told where it has no token for the language. Default: the slot in which the first
            adapter learned it, so that base and adapter differ in nothing else.
        context: "full" or "auto" for all systems. Default: what each was trained for.
        by: columns to break the scores down by: speaker, lang, or any column of the corpus.
        options: how to decode. With a CTC weight, a base that has no CTC head beside adapters that do is decoded without.
        cap: in the tests, count at most this many errors per reference word of an utterance. Without it every error
            counts, as in the rates beside them, and the tests say where a cap of 1.0 would say otherwise.
        checks: what else to look at.
        seed: of the bootstraps and the disturbances.
        train: what the adapters were trained on, to be compared with the corpus beside what they have on record.
        overlap: what to do where they were trained (or their weights chosen) on recordings of the corpus or of the guard data:
            "refuse", "tell" (a note), "warn" (in Python's way too) or "ignore". Shared speakers and sentences are noted.
        progress: called with (utterances done, of all systems and checks, what is being done).
    Raises: BadCorpus if nothing could be transcribed; BadInput, BadRoute as `transcribe_corpus`.
    """
    if not base and not adapters and voices is None:
        raise BadInput("There is nothing to evaluate: name an adapter, or let the base be scored.")
    if doubled := {name for name in adapters if list(adapters).count(name) > 1}:
        raise BadInput(f"The adapter {', '.join(sorted(doubled))} is named twice.")
    for column in by:
        if all(u.column(column) is None for u in corpus):
            raise BadInput(f"The corpus {corpus.name!r} has no column {column!r} to break the scores down by.")
    if checks.guard is not None:
        check_guard(recognizer, checks.guard, checks.guard_lang, adapters)
    under = disturbances.conditions(checks.conditions)
    every = [*adapters, *(() if voices is None else voices.adapters)]
    shared, said = of_an_evaluation(corpus, [recognizer.adapters[name] for name in adapters], train=train, guard=checks.guard,
                                    nonspeech=checks.nonspeech, how=overlap)  # fmt: skip
    notes: list[str] = [*said]
    names: list[Chosen] = [*([None] if base else []), *adapters, *([] if voices is None else [voices])]
    if voices is not None:
        notes.append(voices.summary(corpus))
    heard_in: dict[str, Detected] | None = None
    if lang == AUTO:
        check_detection(recognizer, every)
        heard_in = detect_corpus(recognizer, corpus, batch_frames=batch_frames, batch_size=batch_size, autocast=autocast)
        notes.append(f"Languages detected by the base: {summary(heard_in, corpus)}.")
    spoken_in = _languages(recognizer, corpus, names, lang, heard_in)
    if options.ctc_weight and base and every and recognizer.ctc is None:
        notes.append("The base has no CTC head: its own opinion was all that it was decoded by.")
    if proxy_lang is None:
        proxy_lang = _proxy(recognizer, spoken_in.wanted, every)
        if proxy_lang is not None and base:
            notes.append(f"The base has no token for the language and was told {proxy_lang!r} instead.")
    guarded = (1 + len(adapters)) * len(checks.guard) if checks.guard is not None else 0
    tell = _Parts(progress, plan(corpus, len(names), checks, guarded_by=1 + len(adapters)).utterances)

    def hear(name: Chosen, spoken: Corpus, what: str = "", **changes: Any) -> Transcripts:
        label = _label(name)
        if isinstance(name, Heard) and options.ctc_weight and recognizer.ctc is None:
            # Those whom the base hears are decoded as the base is, without a head; the others with their adapters' own.
            parts = [Corpus([u for u in spoken if (name(u) is None) == by_base], name=spoken.name) for by_base in (True, False)]
            found = [pass_over(chosen, part, label, what, **changes) for chosen, part in zip((None, name), parts) if len(part)]
            return joined(spoken, found)
        return pass_over(name, spoken, label, what, **changes)

    def pass_over(name: Chosen, spoken: Corpus, label: str, what: str, **changes: Any) -> Transcripts:
        how: dict[str, Any] = {"lang": spoken_in.by(name), "proxy_lang": proxy_lang, "task": task, "context": context} | changes
        return transcribe_corpus(
            recognizer,
            spoken,
            adapter=name,
            batch_frames=batch_frames,
            batch_size=batch_size,
            options=for_base(recognizer, options) if name is None and every else options,
            autocast=autocast,
            strict=strict,
            progress=tell.part(len(spoken), f"{label}, {what}" if what else label),
            **how,
        )

    systems = []
    for name in names:
        heard = hear(name, corpus)
        one = _scored(name if isinstance(name, str | None) else _label(name), _label(name), heard, corpus, normalizer, by, seed)
        found = examine(recognizer, one.score, heard, checks, normalizer=normalizer, seed=seed)
        systems.append(replace(one, findings=found))
    if checks.nonspeech is not None:
        # Silence has no language of its own: every system is told the one that it is tested in.
        settings = {} if spoken_in.mostly is None else {"lang": spoken_in.mostly}
        for place, (name, one) in enumerate(zip(names, systems)):
            heard = hear(name, checks.nonspeech, "without speech", **settings)
            if not heard.utterances:
                raise BadCorpus(f"No recording of {checks.nonspeech.name} could be read: {heard.skipped[0].reason}")
            invented = nonspeech(heard.texts, seconds=heard.audio_seconds, normalizer=normalizer)
            systems[place] = replace(one, findings=replace(cast(Findings, one.findings), nonspeech=invented))
    conditions = [Condition(AS_RECORDED, tuple(one.score for one in systems))] if under else []
    for condition in under:
        spoken, scores = disturbed(corpus, condition, seed=seed), []
        for name, one in zip(names, systems):
            heard = hear(name, spoken, condition.name)
            scores.append(_scored(one.adapter, one.score.name, heard, spoken, normalizer, (), seed).score)
        if missing := systems[0].score.utterances - scores[0].utterances:
            notes.append(f"Under {condition.name}, {missing} utterances are longer than 30 s and were left out.")
        conditions.append(Condition(condition.name, tuple(scores)))
    if checks.guard is not None:
        before = evaluate(
            recognizer, checks.guard, adapters=adapters, lang=checks.guard_lang, task=task, context=context,
            batch_frames=batch_frames, batch_size=batch_size, normalizer=normalizer, options=options, autocast=autocast,
            seed=seed, strict=strict, overlap="ignore", progress=tell.whole(guarded, "guard"),
        )  # fmt: skip
        for place, one in enumerate(systems):
            if one.adapter in adapters:
                after = before.system(_label(one.adapter)).score
                kept = Guarded.of(before.system(BASE).score, after, max_loss=checks.max_loss, seed=seed)
                systems[place] = replace(one, findings=replace(cast(Findings, one.findings), guard=kept))
    tests = tuple(compare_all([one.score for one in systems], to_first=True, cap=cap, seed=seed)) if base else ()
    detected = None if heard_in is None else dict(Counter(one.language for one in heard_in.values()).most_common())
    return Evaluation(tuple(systems), tests, systems[0].transcripts.skipped, tuple(notes), tuple(conditions), tuple(one for one in shared if one), detected)


@dataclass(frozen=True)
class _Spoken:
    """The languages of an evaluation: what each system is told (`by`), all that are `wanted`, and what is `mostly` spoken."""

    by: Callable[[Chosen], Told]
    wanted: set[str | None]
    mostly: str | None


def _languages(recognizer: Recognizer, corpus: Corpus, names: Sequence[Chosen], lang: str | None, heard: dict[str, Detected] | None) -> _Spoken:
    """Raises: BadInput where only the adapters know the language, and the base cannot be told what they disagree on."""
    if heard is not None:
        most = Counter(one.language for one in heard.values()).most_common(1)
        return _Spoken(lambda _: by_id(heard), {one.language for one in heard.values()}, most[0][0] if most else None)
    if lang is not None:
        return _Spoken(lambda _: lang, {lang}, lang)
    said = Counter(u.lang for u in corpus if u.lang)
    if said.total() == len(corpus) or not recognizer.multilingual:
        return _Spoken(lambda _: None, set(said), said.most_common(1)[0][0] if said else None)

    def own(name: Chosen, utterance: Utterance) -> str | None:
        return recognizer.language_for(name(utterance) if callable(name) else name)

    taught = {canonical(one) for name in names for u in corpus if not u.lang and (one := own(name, u)) is not None}
    if len(taught) > 1 and any(u.lang is None and own(name, u) is None for name in names for u in corpus):
        raise BadInput(f"{corpus.name or 'The corpus'} does not say which language is spoken, and the adapters were trained for {', '.join(sorted(taught))}. "
                       f"Choose with --lang, or let the base find out with --lang auto.")  # fmt: skip
    common = next(iter(taught)) if len(taught) == 1 else None

    def by(name: Chosen) -> Told:
        return lambda utterance: utterance.lang or own(name, utterance) or common

    return _Spoken(by, {*said, common}, (said.most_common(1)[0][0] if said else None) or common)


@dataclass(frozen=True)
class Plan:
    """What an evaluation will transcribe.

    Attributes:
        passes: how often a corpus is gone through.
        costs: of every utterance of every pass, in the order they are transcribed (each pass from short to long): what it
            takes, about, in seconds of audio.
    """

    passes: int
    costs: tuple[float, ...] = field(repr=False)

    @property
    def utterances(self) -> int:
        return len(self.costs)

    @cached_property
    def _sums(self) -> tuple[float, ...]:
        return tuple(accumulate(self.costs, initial=0.0))

    def share(self, done: int) -> float:
        """The part of the work that is done after so many utterances, 0 to 1: the last ones of a pass take longest."""
        return self._sums[min(done, self.utterances)] / self._sums[-1] if self.costs else 1.0


def plan(corpus: Corpus, systems: int, checks: Checks = NOTHING_MORE, *, guarded_by: int = 0, full: bool = False) -> Plan:
    """What `evaluate` transcribes for so many systems; `guarded_by`: of how many on the guard data; `full`: at 30 s each."""

    def costs(of: Corpus, speed: float = 1.0) -> list[float]:
        # The encoder reads the context, the decoder what was said; a second for what every utterance takes.
        return [1.0 + seconds + (MAX_SECONDS if full else seconds) for seconds in sorted(u.duration / speed for u in of)]

    parts = [costs(corpus)] * systems
    parts += [costs(checks.nonspeech)] * systems if checks.nonspeech is not None else []
    parts += [costs(corpus, one.speed) for one in disturbances.conditions(checks.conditions) for _ in range(systems)]
    parts += [costs(checks.guard)] * guarded_by if checks.guard is not None else []
    return Plan(len(parts), tuple(cost for part in parts for cost in part))


def heard_before(recognizer: Recognizer, name: str | None, heard: Transcripts, corpus: Corpus, *, seed: int = 0) -> System:
    """The system that `evaluate` would give, from transcripts that it gave: nothing is decoded."""
    one = _scored(name, _label(name), heard, corpus, DEFAULT, (), seed)
    return replace(one, findings=examine(recognizer, one.score, heard, NOTHING_MORE, normalizer=DEFAULT, seed=seed))


def _label(name: Chosen) -> str:
    """What a system is called in reports, where nothing else is called as the base is."""
    if not isinstance(name, str | None):
        return str(getattr(name, "label", "speakers"))
    return BASE if name is None else f"{name} (adapter)" if name == BASE else name


class _Parts:
    """One count of utterances over all passes, for one progress bar."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.before = progress, total, 0

    def part(self, size: int, label: str) -> Callable[[int, int], None]:
        """The callback of the next pass, of `size` utterances."""
        start, self.before = self.before, self.before + size

        def done(n: int, _all: int) -> None:
            if self.progress:
                self.progress(start + n, self.total, label)

        return done

    def whole(self, size: int, label: str) -> Progress:
        """The same for a pass that says itself which system it is at."""
        done = self.part(size, label)
        return lambda n, total, _what: done(n, total)


def check_guard(recognizer: Recognizer, guard: Corpus, lang: str | None, adapters: Sequence[str] = ()) -> None:
    """Raises: BadInput where nobody says which language the guard data are in: an adapter would be told its own."""
    if recognizer.multilingual and lang is None and any(u.lang is None for u in guard):
        raise BadInput(f"Say which language the guard data {guard.name!r} are in, with --guard-lang (for example en).")
    for code in {lang} if lang is not None else {u.lang for u in guard}:
        if code is not None and recognizer.multilingual and not recognizer.token_for(code):
            raise BadInput(f"The guard data hold what the base can already do, and the base does not know the language {code!r}.")


def disturbed(corpus: Corpus, condition: disturbances.Condition, *, seed: int) -> Corpus:
    """The same corpus under a disturbance: its audio is decoded and changed whenever it is read."""

    def of(utterance: Utterance) -> Utterance:
        def changed() -> bytes:
            samples = condition(torch.from_numpy(utterance.samples()), seed=seed, utterance=utterance.id)
            out = io.BytesIO()
            soundfile.write(out, samples.numpy(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
            return out.getvalue()

        audio = AudioRef(changed, utterance.audio.name)
        return replace(utterance, audio=audio, duration=utterance.duration / condition.speed)

    return Corpus([of(u) for u in corpus], name=f"{corpus.name} ({condition.name})", skipped=corpus.skipped)


def _scored(
    name: str | None,
    label: str,
    heard: Transcripts,
    corpus: Corpus,
    normalizer: str | Normalizer,
    by: Sequence[str],
    seed: int,
) -> System:
    spoken = heard.utterances
    if not spoken:
        reasons = "; ".join(f"{one.id}: {one.reason}" for one in heard.skipped[:3])
        raise BadCorpus(f"No utterance of {corpus.name or 'the corpus'} could be transcribed; {len(heard.skipped)} were skipped. {reasons}".rstrip())
    known = all(u.speaker is not None for u in spoken)
    found = score(
        [u.text for u in spoken],
        heard.texts,
        normalizer=normalizer,
        speakers=[u.speaker for u in spoken if u.speaker is not None] if known else None,
        ids=[u.id for u in spoken],
        name=label,
        seed=seed,
    )
    parts = tuple(breakdown(found, [u.column(column) for u in spoken], column=column, seed=seed) for column in by)
    return System(name, found, heard, parts)


def _proxy(recognizer: Recognizer, wanted: set[str | None], adapters: Sequence[str]) -> str | None:
    """The code of the slot that stands for a language which the base has no token for; None where it has one for
    all."""
    if not recognizer.multilingual:
        return None
    if all(one is None or recognizer.token_for(one) for one in wanted):
        return None
    slots = [recognizer.adapters[name].manifest.language_slot for name in adapters]
    slot = next((slot for slot in slots if slot is not None), None)
    return None if slot is None else slot[2:-2]
