"""Events for those who are not watching: a file with a JSON object a line, and the trackers that accelerate knows.

    {"time": "2026-11-21T20:15:03.412+00:00", "event": "step", "step": 12, "total": 400, "loss": 1.93, "lr": 0.0004, …}

Each is a `Progress`: `both(shown, EventLog(path))` gives every event to both. Neither can end a run: where a log or a tracker can no
longer be written, that is told once, and training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asrpeft.errors import BadInput
from asrpeft.registry import did_you_mean
from asrpeft.report.values import as_json
from asrpeft.training.events import DevScore, Event, GuardScore, Interim, Message, Progress, Scoring, Skipped, Step, ignore

KINDS: dict[type, str] = {
    Step: "step",
    DevScore: "evaluation",
    GuardScore: "guard",
    Scoring: "scoring",
    Skipped: "skipped",
    Message: "message",
    Interim: "interim",
}


def both(*sinks: Progress | None) -> Progress:
    """A callback that gives every event to each of several; None stands for nobody."""
    there = [sink for sink in sinks if sink is not None]

    def give(event: Event) -> None:
        for sink in there:
            sink(event)

    return give


class EventLog:
    """Appends a line to `path` for every event; a resumed run goes on in the same file.

    Steps that a killed run took after its last checkpoint are taken again and stand there twice: the later line counts.

    Args:   tell: told once where the file can no longer be written.
    Raises: BadInput where it cannot be written from the start.
    """

    def __init__(self, path: str | Path, *, tell: Progress = ignore):
        self.path, self.tell, self._broken = Path(path), tell, False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise BadInput(f"The log {str(path)!r} cannot be written: {error.strerror or error}. Choose another --log-file.") from None

    def __call__(self, event: Event) -> None:
        if self._broken:
            return
        told = {"found": event.found.to_json()} if isinstance(event, Interim) else asdict(event)
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": KINDS[type(event)]} | told
        text = as_json(line, indent=None).strip()
        try:
            with self.path.open("a", encoding="utf-8") as file:  # opened anew: a file that was moved away is made again
                file.write(text + "\n")
        except OSError as error:
            self._broken = True
            self.tell(Message(f"The log {str(self.path)!r} can no longer be written ({error.strerror or error}): training goes on without it."))


class Trackers:
    """Steps and evaluations for experiment trackers, through accelerate: `tensorboard`, `wandb`, `mlflow`, … .

    `loss`, `lr` and `utterances_per_second` of every step; `dev/wer`, `dev/cer`, `dev/loss` of every evaluation; `guard/loss`.

    Args:
        names: such as "tensorboard" or "tensorboard,wandb"; "all" takes those that are installed. Or a tracker of one's own, an
            `accelerate.tracking.GeneralTracker`.
        folder: where those that write files put them.
        config: what the run was asked for; values that are no number, text or truth value are written as text.
        tell: told once where a tracker fails.
    Raises: BadInput for a tracker that accelerate does not know, or that is not installed.
    """

    def __init__(self, names: Any, folder: str | Path, *, config: Mapping[str, Any], project: str = "asrpeft", tell: Progress = ignore):
        from accelerate import Accelerator

        wanted = _check([one.strip() for one in names.split(",") if one.strip()]) if isinstance(names, str) else names
        self.tell, self._broken = tell, False
        self.accelerator = Accelerator(log_with=wanted, project_dir=str(folder))
        plain = {key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in config.items()}
        self._guarded(lambda: self.accelerator.init_trackers(project, config=plain))

    def __call__(self, event: Event) -> None:
        values = _values(event)
        if values and not self._broken:
            step = event.step if isinstance(event, Step | DevScore | GuardScore) else None
            self._guarded(lambda: self.accelerator.log(values, step=step))

    def close(self) -> None:
        """Let them write what they hold. (Not `end_training`, which would end the processes' group too.)"""
        for tracker in self.accelerator.trackers:
            self._guarded(tracker.finish)

    def _guarded(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # a service that is down, a full disk: theirs have no common ancestor
            self._broken = True
            self.tell(Message(f"The tracker failed ({type(error).__name__}: {str(error)[:200]}): training goes on without it."))


def _check(names: list[str]) -> list[str]:
    """Look whether the trackers asked for can be used.

    Raises: BadInput where one is unknown or not installed; accelerate would go on without it in silence.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = {str(getattr(one, "value", one)) for one in get_available_trackers()}
    for name in names:
        if name != "all" and name not in LOGGER_TYPE_TO_CLASS:
            hint = did_you_mean(name, LOGGER_TYPE_TO_CLASS)
            known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise BadInput(f"--tracker: there is no tracker {name!r}.{f' {hint}' if hint else ''} accelerate knows {known}.")
        if name != "all" and name not in installed:
            raise BadInput(f"--tracker {name}: its library is not installed. Install it (pip install {name}), or take --log-file, which needs none.")
    if not installed:
        raise BadInput("--tracker all: no tracker is installed. Install one (pip install tensorboard), or take --log-file, which needs none.")
    return names


def _values(event: Event) -> dict[str, float]:
    """What a tracker draws of an event, by the name of its curve."""
    if isinstance(event, Step):
        return {"loss": event.loss, "lr": event.lr, "utterances_per_second": event.utterances_per_second}
    if isinstance(event, DevScore):
        drawn = {f"dev/{event.kind}": event.score, "dev/cer": event.cer, "dev/loss": event.loss if event.kind != "loss" else event.score}
        return {name: value for name, value in drawn.items() if value is not None}
    return {"guard/loss": event.loss} if isinstance(event, GuardScore) else {}
