"""Several adapters fine-tuned together, each as `finetune` would alone: their rows share the batches of one frozen base."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress

from asrpeft.errors import BadAudio, BadCorpus, Failure
from asrpeft.jobs.finetune import Asked, Finetuning, Task
from asrpeft.jobs.results.finetuned import Finetuned
from asrpeft.recognizer import Recognizer
from asrpeft.training import DevScore, Message, Progress, Step, Trained
from asrpeft.training.cohort import train_together
from asrpeft.training.events import Event
from asrpeft.training.loop import Run

FAILURES = (BadAudio, BadCorpus, Failure)  # of one adapter, which cost the others nothing


def finetune_together(recognizer: Recognizer, asked: Sequence[Asked], progress: Progress) -> list[Finetuned | Exception]:
    """Fine-tune the adapters that are asked for, all with the same training options, and leave them attached.

    Returns: of each, what `finetune` gives, or the BadAudio, BadCorpus or Failure that it would raise.
    """
    results: dict[int, Finetuned | Exception] = {}
    open_: dict[int, tuple[Finetuning, Generator[Task, Trained, Finetuned], Task]] = {}
    counted = _Counted(progress)
    try:
        for number, one in enumerate(asked):
            try:
                job = Finetuning(recognizer, one, counted.of(one.adapter.name or str(number + 1)))
                parts = job.parts()
                open_[number] = (job, parts, next(parts))
            except StopIteration as done:  # it had come to its end before
                results[number] = done.value
            except FAILURES as error:
                results[number] = error
        trained = train_together({job.name: _run(job, task) for job, _, task in open_.values()}, recognizer, resume=any(one.out.resume for one in asked))
        for number, (job, parts, _) in list(open_.items()):
            del open_[number]
            results[number] = _ended(parts, trained[job.name])
    except BaseException as error:
        for _, parts, _ in open_.values():
            with suppress(BaseException):
                parts.throw(error)  # takes its adapter off, and notes what is kept
        raise
    return [results[number] for number in range(len(asked))]


def _run(job: Finetuning, task: Task) -> Callable[[], Run]:
    return lambda: Run(job.recognizer, job.name, task.data, options=job.training, choice=task.choice, checkpoint=task.checkpoint, progress=job.progress)


def _ended(parts: Generator[Task, Trained, Finetuned], trained: Trained | Exception) -> Finetuned | Exception:
    """What comes after training."""
    try:
        parts.throw(trained) if isinstance(trained, Exception) else parts.send(trained)
    except StopIteration as done:
        return done.value
    except FAILURES as error:
        return error
    raise RuntimeError("a run of finetune trains once")


class _Counted:
    """The steps of several runs as those of one, and whose each message is."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.steps: dict[str, Step] = {}

    def of(self, name: str) -> Progress:
        def tell(event: Event) -> None:
            if isinstance(event, Step):
                self.steps[name] = event
                self.progress(self._all(event))
            elif isinstance(event, DevScore):
                self.progress(Message(f"{name}: {event.kind} {event.score:.3f} on the development data after step {event.step}{', the best' * event.best}."))
            else:
                self.progress(Message(f"{name}: {event.text}") if isinstance(event, Message) else event)

        return tell

    def _all(self, last: Step) -> Step:
        steps = list(self.steps.values())
        totals = [step.total for step in steps if step.total is not None]
        total = sum(totals) if len(totals) == len(steps) else None
        return Step(
            sum(step.step for step in steps),
            total,
            last.loss,
            last.lr,
            sum(step.utterances_per_second for step in steps),
            max(step.remaining_s for step in steps),
        )
