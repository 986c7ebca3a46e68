"""What is known of the rows that are decoded: out of the columns of a corpus, out of the audio, or said once for all rows.

A row's adapter is named by a `Conditioned` name that carries it, wherever rows go: into batches, beams, fallbacks and streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asrpeft.adapters.conditions import Conditions, columns_of, heard
from asrpeft.adapters.routing import Conditioned, facts_of
from asrpeft.corpus import Corpus, Utterance
from asrpeft.errors import BadCorpus
from asrpeft.recognizer import Recognizer


def conditions_of(recognizer: Recognizer, name: str | None) -> Conditions:
    """What an adapter, or the adapters of a sum, are told of each row, each fact once."""
    found = {} if name is None else {part.name: part for adapter in recognizer.adapters.parts(name) for part in adapter.conditions}
    return Conditions(tuple(found.values()))


def told(recognizer: Recognizer, name: str | None, utterance: Utterance) -> str | None:
    """The adapter's name with what the utterance's columns say of the row; what it carries already stays."""
    conditions = conditions_of(recognizer, name)
    if name is None or not conditions.columns:
        return name
    return Conditioned(name, {**columns_of(conditions, utterance), **facts_of(name)})


def listened(recognizer: Recognizer, name: str | None, samples: np.ndarray) -> str | None:
    """The adapter's name with what the row's own audio says: (n,) samples at 16 kHz."""
    conditions = conditions_of(recognizer, name)
    missing = [source for source in conditions.sources if source not in facts_of(name)]
    if name is None or not missing:
        return name
    found = heard(samples, n_mels=recognizer.n_mels)
    return Conditioned(name, {source: found[source] for source in missing})


def check_columns(recognizer: Recognizer, corpus: Corpus, adapters: Sequence[str | None]) -> list[str]:
    """Sentences to tell where rows have what their adapter never met: it takes them for strangers.

    Raises: BadCorpus where the corpus lacks a column that an adapter is told, and nothing was said in its place.
    """
    said = []
    for name in adapters:
        conditions, given = conditions_of(recognizer, name), facts_of(name)
        for part in conditions:
            if part.name in given or part.name not in conditions.columns:
                continue
            values = [value for u in corpus if (value := u.column(part.name)) is not None]
            if not values:
                raise BadCorpus(
                    f"The adapter {name!r} is told the {part.name} of each row, and the corpus {corpus.name!r} has no such column. Map "
                    f"one (--columns {part.name}=COLUMN), or say what holds for all rows (--condition {part.name}=…; nothing after "
                    f"the = for unknown)."
                )
            if part.kind == "category" and (strange := sorted({str(value) for value in values if not part.knows(value)})):
                said.append(
                    f"{len(strange)} of {len({str(v) for v in values})} values of {part.name!r} are new to {name!r} ({', '.join(strange[:3])}"
                    f"{', …' * (len(strange) > 3)}): it hears them as somebody unknown."
                )
    return said
