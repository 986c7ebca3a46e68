"""Where a run writes its adapters, and what it leaves there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from asrpeft.errors import BadInput
from asrpeft.options.flag import Flag

KEEP = ("both", "best", "last")


@dataclass(frozen=True)
class OutputOptions:
    """Where a run writes. Where a folder is all there is to say, `out="adapters/sw"` stands for it.

    Attributes:
        folder: of the adapter, or of several; the checkpoint of a run lies beside it until the run is done. Without one nothing is saved.
        overwrite: replace what is there.
        resume: go on from the checkpoint of an interrupted run with the same arguments; what had come to its end is loaded.
        keep: "best": the weights that the development data choose; "last": those of the last step, whatever the looks at the development
            data said; "both": the best, and beside the folder, in FOLDER.last, the last where they are others.
        record: let digests of the recordings, ids and speakers go with the adapter, by which `evaluate` knows them again.
    """

    PANEL: ClassVar[str] = "Where it is written"

    folder: Annotated[str | Path | None, Flag("The folder to write.", "--out", takes=Path | None)] = None
    overwrite: Annotated[bool, Flag("Replace what is there.")] = False
    resume: Annotated[bool, Flag("Go on from the last checkpoint of an interrupted run with the same --out.")] = False
    keep: Annotated[
        str,
        Flag("best: the weights that the dev data choose; last: those of the last step; both: the best, and in OUT.last the last where they are others."),
    ] = "both"
    record: Annotated[
        bool,
        Flag(
            "--no-record leaves out of the adapter the digests of its recordings, ids and speakers, by which evaluate knows what it was trained on. (They hold "
            "no text, and none can be read back.)"
        ),
    ] = True

    def __post_init__(self) -> None:
        if self.keep not in KEEP:
            raise BadInput(f"--keep {self.keep}: choose {', '.join(KEEP)}.")

    @classmethod
    def of(cls, out: str | Path | OutputOptions | None) -> OutputOptions:
        """A folder alone stands for a new run that writes to it."""
        return out if isinstance(out, OutputOptions) else cls(out)

    @property
    def path(self) -> Path | None:
        return None if self.folder is None else Path(self.folder)
