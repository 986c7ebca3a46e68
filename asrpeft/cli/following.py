"""Who follows a run beside those who watch the terminal, and where its adapter goes when all is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from asrpeft.cli.output import first_process
from asrpeft.options.flag import Flag

if TYPE_CHECKING:
    from asrpeft.training.events import Event


@dataclass(frozen=True)
class Following:
    """Who is told of a run."""

    PANEL: ClassVar[str] = "Output"

    log_file: Annotated[
        Path | None,
        Flag("Also write every event of the run (steps, evaluations, messages) to this file, a JSON object a line; a resumed run goes on in it."),
    ] = None
    tracker: Annotated[
        str | None,
        Flag(
            "Also draw steps and evaluations with an experiment tracker that accelerate knows: tensorboard, wandb, mlflow, …; several with commas, or all "
            "that are installed. What they write as files lies in OUT.tracker."
        ),
    ] = None

    @contextmanager
    def told(self, shown: Callable[[Event], None], *, folder: Path, config: Mapping[str, Any]) -> Iterator[Callable[[Event], None]]:
        """Within the block, a callback that tells whoever was asked for, too; processes other than the first tell nobody.

        Args:   folder: of the adapter. config: what a tracker is told of the run.
        Raises: BadInput for a file that cannot be written, or a tracker that there is not.
        """
        if (self.log_file is None and self.tracker is None) or not first_process():
            yield shown
            return
        from asrpeft.training.log import EventLog, Trackers, both

        log = None if self.log_file is None else EventLog(self.log_file, tell=shown)
        trackers = None if self.tracker is None else Trackers(self.tracker, f"{folder}.tracker", config=config, tell=shown)
        try:
            yield both(shown, log, trackers)
        finally:
            if trackers is not None:
                trackers.close()


@dataclass(frozen=True)
class Pushing:
    """Where the adapter goes."""

    PANEL: ClassVar[str] = "Where it is written"

    push: Annotated[
        str | None,
        Flag(
            "When all is done, put the adapter into this repository of the Hugging Face hub, which is made if there is none (the token is that of "
            "`hf auth login`, or HF_TOKEN).",
            metavar="OWNER/NAME",
        ),
    ] = None

    def check(self) -> None:
        """Look whether what follows the training can work.

        Raises: BadInput, before anything is trained, where there is no hope of it.
        """
        if self.push is not None:
            from asrpeft.adapters.hub import check

            check(self.push)

    def pushed(self, folder: Path) -> str | None:
        """Push the adapter in `folder`; returns its address. Raises: Failure where the hub refuses."""
        if self.push is None or not first_process():
            return None
        from asrpeft.adapters.hub import push

        return push(folder, self.push)


@dataclass(frozen=True)
class Sharing:
    """Whom a run is shared with: those who follow it, and the hub that its adapter goes to."""

    following: Following = Following()
    pushing: Pushing = Pushing()
