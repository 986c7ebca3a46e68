"""Texts that a model wrote, and that nobody corrected: rows that say so in the column `labeled_by`, as `asrpeft label` writes them.

They may be trained on. They are no references: a rate on them says how much one model writes like another, so that nothing is scored, chosen or
kept by them.
"""

from __future__ import annotations

from asrpeft.corpus.corpus import Corpus
from asrpeft.corpus.utterance import Utterance
from asrpeft.errors import BadCorpus, BadInput

LABELED_BY = "labeled_by"  # the column: which model wrote the text


def by_model(utterance: Utterance) -> str | None:
    """The model that wrote the text; None for what people wrote."""
    said = utterance.extra.get(LABELED_BY)
    return str(said).strip() or None if said is not None else None


def by_people(corpus: Corpus) -> Corpus:
    """The rows whose texts people wrote."""
    return corpus.filter(lambda one: by_model(one) is None)


def held_out(data: Corpus, fraction: float, seed: int, *, by: str = "auto") -> tuple[Corpus, Corpus]:
    """(the rest, a part of what people transcribed), as `Corpus.split_by_speaker`. What a model wrote is never held out: it judges nothing.

    Raises: BadCorpus where one side would be empty.
    """
    real = by_people(data)
    if len(real) == len(data):
        return data.split_by_speaker(fraction, seed, by=by)
    if not len(real):
        raise BadCorpus(f"a model wrote all texts of {data.name or 'the corpus'}. Give data that people transcribed, with --dev-data.")
    _, part = real.split_by_speaker(fraction, seed, by=by)
    held = {one.id for one in part}
    return data.filter(lambda one: one.id not in held), part


def check_references(corpus: Corpus, what: str) -> None:
    """Look whether a corpus can be scored on.

    Raises: BadInput where a model wrote some of its texts.
    """
    found = [(one.id, who) for one in corpus if (who := by_model(one)) is not None]
    if found:
        raise BadInput(
            f"{len(found):,} of the {len(corpus):,} texts of {what} {corpus.name!r} were written by a model ({found[0][0]}: by {found[0][1]}, as its column "
            f"{LABELED_BY!r} says): they can be trained on, and are no references. Give data that people transcribed."
        )
