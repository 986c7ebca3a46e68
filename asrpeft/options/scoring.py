"""How transcripts are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from asrpeft.options.flag import Flag, listed
from asrpeft.options.training import SEED

if TYPE_CHECKING:
    from asrpeft.scoring import Normalizer


@dataclass(frozen=True)
class ScoringOptions:
    """How transcripts are scored.

    Attributes:
        normalizer: what is done to texts before they are compared: a name, the path of a mapping file, or a function.
        by: columns to break the scores down by: speaker, lang, or any column of the corpus.
        cap: in the tests, count at most this many errors per reference word of an utterance. Without it every error counts, as in the rates
            beside them, and the tests say where a cap of 1.0 would say otherwise.
        base: score the base as well (there are no tests without it).
        vote: score one more system, which writes of each utterance the text that the adapters agree on most; nothing more is decoded for it.
        seed: of the bootstraps and the disturbances.
    """

    PANEL: ClassVar[str] = "Scoring"

    normalizer: Annotated[
        str | Normalizer,
        Flag("marks (default; keeps combining marks), none, whisper-english, whisper-basic, or the path of a mapping file.", takes=str),
    ] = "marks"
    by: Annotated[tuple[str, ...], Flag("Break the scores down by these columns: speaker,age.", takes=list[str], value=listed)] = ()
    cap: Annotated[
        float | None,
        Flag(
            "In the tests, count at most this many errors per reference word of an utterance: 1 for 100 %. Default: all of them, as in the rates; the output "
            "says where 1 would say otherwise."
        ),
    ] = None
    base: Annotated[bool, Flag("Score the base too, and compare with it; --no-base where it was scored before.")] = True
    vote: Annotated[
        bool, Flag('One more system, "vote": of each utterance the text that the adapters agree on most (two adapters or more; ensembles of prompts).')
    ] = False
    seed: Annotated[int, SEED] = 0
