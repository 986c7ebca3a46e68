"""What the runs of a comparison wrote: kept after each, so that a comparison which ends early goes on where it was.

    OUT/transcripts/NAME.json   what was asked, what the run cost, and every hypothesis as it was decoded

Scores are made from the hypotheses anew, which gives the same numbers: only training and decoding take time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

from asrpeft.corpus import Corpus, Skipped
from asrpeft.decoding import Hypothesis, Transcripts
from asrpeft.errors import BadInput
from asrpeft.files import replace_file
from asrpeft.options import TrainingOptions
from asrpeft.report import Result
from asrpeft.report.values import as_json, known, plain
from asrpeft.training import Message, Progress
from asrpeft.training.options import differences

FOLDER = "transcripts"
_NUMBERS = {"logprob", "token_logprobs", "no_speech_prob", "compression_ratio", "temperature", "joint_logprobs"}  # of a hypothesis


class Ledger:
    """The transcripts of one comparison; without a folder nothing is kept, and nothing found."""

    def __init__(self, out: str | Path | None, asked: Mapping[str, Any], *, options: TrainingOptions, resume: bool):
        """`asked`: what must be the same for what is found to count, beside the training options. `resume`: look for it."""
        self.folder = None if out is None else Path(out) / FOLDER
        self.asked, self.options, self.resume = plain(asked), options, resume

    def path(self, name: str) -> Path:
        return cast(Path, self.folder) / f"{name}.json"

    def recall(self, name: str, corpus: Corpus, **own: Any) -> tuple[Transcripts, dict[str, Any]] | None:
        """(what was heard in `corpus`, what was told beside it); None where that is not kept.

        Args:    own: what this run was asked, beside what all were.
        Raises:  BadInput if it was another run, or the file is damaged.
        """
        if self.folder is None or not self.resume or not self.path(name).is_file():
            return None
        try:
            kept = json.loads(self.path(name).read_text(encoding="utf-8"))
            self._same(name, kept, own)
            rows = iter(corpus)  # both are in one order; of several corpora, two may use the same ids
            heard = Transcripts(
                tuple(next(u for u in rows if u.id == one["id"]) for one in kept["heard"]),
                tuple(_hypothesis(one) for one in kept["heard"]),
                tuple(Skipped(**one) for one in kept["skipped"]),
                kept["audio_seconds"],
                kept["seconds"],
                tuple(kept["languages"]),
            )
            return heard, kept["facts"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise BadInput(f"{str(self.path(name))!r} cannot be read ({type(error).__name__}: {error}). Remove it: {name} is then run again.") from None

    def keep(self, name: str, heard: Transcripts, own: Mapping[str, Any], **facts: Any) -> None:
        """`own`, as `recall`; `facts`: what else to tell then, numbers and texts."""
        if self.folder is None:
            return
        kept = {
            "name": name,
            "asked": {**self.asked, **own},
            "options": self.options.to_json(),
            "facts": facts,
            "audio_seconds": heard.audio_seconds,
            "seconds": heard.seconds,
            "languages": heard.languages,
            "skipped": [{"id": s.id, "reason": s.reason} for s in heard.skipped],
            "heard": [{"id": u.id, **asdict(one)} for u, one in zip(heard.utterances, heard.hypotheses, strict=True)],
        }
        replace_file(self.path(name), as_json(kept, indent=None))

    def _same(self, name: str, kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        now = {**self.asked, **plain(own)}
        other = [f"{key} was {kept['asked'].get(key)!r} and is {value!r}" for key, value in now.items() if kept["asked"].get(key) != value]
        other += differences(kept["options"], self.options)
        if other:
            raise BadInput(f"{str(self.path(name))!r} is of another comparison: {'; '.join(other)}. Resume with the same command, or choose another --out.")


def keep(found: Result, files: Sequence[str], out: Path, progress: Progress) -> None:
    """Write what is known so far into files of the folder. That they cannot be written ends nothing: more is to come."""
    try:
        for name in files:
            found.save(out / name)
    except OSError as error:
        progress(Message(f"The table of what is done so far could not be kept: {error}"))


def refuse_taken(out: str | Path, names: Iterable[str], *, resume: bool, overwrite: bool) -> None:
    """Look whether the places of all runs are free.

    Raises: BadInput, before anything is trained, where a folder or a transcript of one of these runs is there.
    """
    if resume or overwrite:
        return
    for name in names:
        for there in (Path(out) / name, Path(out) / f"{name}.checkpoint", Path(out) / FOLDER / f"{name}.json"):
            if there.exists():
                raise BadInput(f"{str(there)!r} exists already. Choose another --out, --resume the comparison that made it, or --overwrite.")


def _hypothesis(kept: Mapping[str, Any]) -> Hypothesis:
    made = {one.name: kept[one.name] for one in fields(Hypothesis) if one.name in kept}
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in made.items()}
    return Hypothesis(**{key: known(value) if key in _NUMBERS else value for key, value in values.items()})
