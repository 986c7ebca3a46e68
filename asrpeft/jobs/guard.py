"""Forgetting: which part of the guard data chooses among weights, and which part is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from asrpeft.corpus import Corpus
from asrpeft.decoding import Options
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.jobs.checks import MAX_LOSS, Guarded
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.provenance import describe_corpus
from asrpeft.recognizer import Recognizer
from asrpeft.training import Guard, Message, Progress, Scoring, Trained
from asrpeft.training.checkpoints import corpus_key

CHOOSING = 100  # guard utterances that are decoded at an evaluation: some seconds on a GPU, and enough to see three points


def divide(guard: Corpus | None, guard_dev: Corpus | None, max_loss: float | None, *, seed: int, progress: Progress) -> tuple[Corpus | None, Corpus | None]:
    """(guard data to report, guard data to choose by). They share nothing where the data allow it.

    Args:    guard: is reported after training. guard_dev: chooses; by default up to 100 utterances held out of `guard`.
             max_loss: a fraction; None: nothing is chosen, all of `guard` is reported.
    Raises:  BadInput for a limit without data, or data to choose by without a limit.
    """
    if max_loss is None:
        if guard_dev is not None:
            raise BadInput("--guard-dev chooses among weights by what they lose there: say how much they may, with --max-loss.")
        return guard, None
    if max_loss < 0:
        raise BadInput(f"--max-loss {100 * max_loss:g} asks for a gain on the guard data; give 0 or more points.")
    if guard_dev is not None:
        return guard, guard_dev.shuffle(seed)[:CHOOSING]
    if guard is None:
        raise BadInput("--max-loss needs --guard: speech that the base could already recognize.")
    try:
        rest, held = guard.split_by_speaker(min(0.5, CHOOSING / len(guard)), seed)
    except BadCorpus:
        progress(Message(f"The guard data ({len(guard)} utterances) cannot be divided: what chooses is also what is reported."))
        return guard, guard.shuffle(seed)[:CHOOSING]
    held = held.shuffle(seed)[:CHOOSING]
    progress(Message(f"Guard data: {len(held)} utterances choose among weights, {len(rest)} others are reported."))
    return rest, held


def watch(corpus: Corpus, max_loss: float, wer: Callable[[bool], float]) -> Guard:
    """The guard of a training run.

    Args:    wer: on `corpus`: of the base where its argument is False, of the adapter as it is now where it is True.
    """
    base = cache(lambda: wer(False))  # the base does not change: it is decoded once, at the first evaluation
    return Guard(lambda: wer(True) - base(), max_loss, corpus_key(corpus))


@dataclass(frozen=True)
class GuardResult:
    """What is left of what the base could already do.

    Attributes:
        reported: base and adapter on `data`; None where there were only data to choose by.
        choosing: what chose among the weights (None: nothing was chosen by guard data).
        evaluations: (step, loss of WER against the base) on `choosing`, of each time they were asked.
    """

    reported: Guarded | None
    data: Corpus | None
    choosing: Corpus | None
    evaluations: tuple[tuple[int, float], ...]

    @property
    def separate(self) -> bool:
        """Whether nothing that is reported has chosen."""
        chose = {(u.id, u.text) for u in self.choosing or ()}
        return chose.isdisjoint((u.id, u.text) for u in self.data or ())

    def to_json(self) -> dict[str, Any]:
        """`guard` of the JSON output."""
        content: dict[str, Any] = {}
        if self.reported is not None and self.data is not None:
            content = self.reported.to_json() | {"data": describe_corpus(self.data)}
        chosen_by = None
        if self.choosing is not None:
            evaluations = [list(one) for one in self.evaluations]
            chosen_by = {"data": describe_corpus(self.choosing), "separate": self.separate, "evaluations": evaluations}
        return content | {"chosen_by": chosen_by}

    def summary(self) -> dict[str, Any]:
        """What travels with the adapter."""
        return {} if self.reported is None or self.data is None else self.reported.test.to_json() | {"data": describe_corpus(self.data)}


def keep(
    recognizer: Recognizer,
    name: str,
    guard: Corpus | None,
    choosing: Corpus | None,
    trained: Trained,
    *,
    lang: str | None,
    task: str,
    max_loss: float | None,
    seed: int,
    decoding: Options,
    progress: Progress,
) -> GuardResult:
    """Transcribe the guard data that are reported, by base and adapter."""
    if guard is None:
        return GuardResult(None, None, choosing, trained.guard_evaluations)

    def tell(done: int, total: int, what: str) -> None:
        progress(Scoring(done, total, f"{what} on the guard data"))

    found = evaluate(recognizer, guard, adapters=[name], lang=lang, task=task, options=decoding, seed=seed, overlap="ignore", progress=tell)
    before, after = (system.score for system in found.systems)
    both = Guarded.of(before, after, max_loss=MAX_LOSS if max_loss is None else max_loss, seed=seed)
    return GuardResult(both, guard, choosing, trained.guard_evaluations)
