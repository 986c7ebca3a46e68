"""The training loop: one adapter, one frozen base, steps in a fixed order.

    for each step:  loss = Σ_batches Σ_terms weight · sum / counts of the step   →  backward  →  clip  →  optimizer  →  the method's plan
                    now and then: an evaluation on the development data, a checkpoint

Under `accelerate launch` each process computes its rows of every batch and gradients are summed, so that many processes take
the steps of one. Everything random is keyed by (seed, utterance, epoch) or (seed, step).

The parts of a run are values of their own: `gradient` (of a step), `clock` (how far it is), `selection` (which weights are kept),
`evaluation` (the loss on development data), `processes`, `passes` (for starts made from data), `checkpoints`, `record`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from asrpeft import interruption
from asrpeft.adapters.conditions import Told
from asrpeft.audio.augment import generator
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.methods.conditioned import ConditionedAdapter
from asrpeft.options import TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.training import checkpoints, frozen_encoder, memory, reading, record
from asrpeft.training.average import Average
from asrpeft.training.averaging import Averaging
from asrpeft.training.batch import StepData, StepKey
from asrpeft.training.budget import Budget, OutOfMemory, generous_bytes
from asrpeft.training.checkpoints import State
from asrpeft.training.choice import Choice
from asrpeft.training.clock import Clock
from asrpeft.training.evaluation import loss_on, reasons
from asrpeft.training.events import Message, Progress, Step, ignore
from asrpeft.training.examples import Examples, TrainingData
from asrpeft.training.frozen import only, trained_parameters
from asrpeft.training.frozen_encoder import EncoderStates
from asrpeft.training.gradient import Gradient
from asrpeft.training.loss_scale import LossScale
from asrpeft.training.optimizer import learning_rate, optimizer_for, set_rate
from asrpeft.training.options import differences, unknown_then
from asrpeft.training.passes import RunPasses
from asrpeft.training.precision import forward_dtype
from asrpeft.training.processes import Processes
from asrpeft.training.record import Trained
from asrpeft.training.schedules import momentum, rate
from asrpeft.training.selection import KEEPING, Selection, weights_of
from asrpeft.training.steps import Steps
from asrpeft.training.streamed import StreamedExamples, for_training


def train(
    recognizer: Recognizer,
    name: str,
    data: TrainingData,
    *,
    options: TrainingOptions,
    choice: Choice = Choice(),  # noqa: B008 - frozen
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = ignore,
) -> Trained:
    """Train the attached adapter `name`, and leave in it the weights that were best on the development data.

    Args:
        data: what it is trained on, and the prompt before every transcript.
        choice: what chooses among the weights; by default the last are kept.
        checkpoint: the file that holds the run's state; without it nothing is written.
        resume: go on from that file, if it exists.
    Ctrl-C and SIGTERM are met after the step that is under way, with a checkpoint written (KeyboardInterrupt, SystemExit).
    Raises: UnexpectedTraining if anything else would train; BadInput if `checkpoint` belongs to another run; BadCorpus if no
        utterance can be used; Failure if the loss is no longer a number, or if no weights pass the guard.
    """
    with interruption.listening(), torch.random.fork_rng(devices=[]), only(recognizer, name):
        run = Run(recognizer, name, data, options=options, choice=choice, checkpoint=checkpoint, progress=progress)
        if resume:
            run.resume()
        run.train()
        run.selection.check_guard()
        return run.result()


@dataclass(frozen=True)
class Counts:
    """What a step has, over all processes: targets by term of the loss, utterances, and whether one of them was asked to end."""

    targets: tuple[float, ...]
    rows: int
    stop: bool


class Run:
    """A run of `train`: its parts, and the `state` that a checkpoint holds."""

    def __init__(
        self, recognizer: Recognizer, name: str, data: TrainingData, *, options: TrainingOptions, choice: Choice, checkpoint: Path | None, progress: Progress
    ):
        self.recognizer, self.options = recognizer, options
        self.adapter = recognizer.adapters[name]
        self.trained = trained_parameters(recognizer, name)
        self.loss = options.terms()
        if self.loss.needs_head and self.adapter.head is None:
            raise BadInput(f"The loss {options.loss!r} needs a CTC head; give the adapter one: adapter.ctc = CTCHead.for_texts(…).")
        self.processes = Processes()
        self.progress: Progress = progress if self.processes.first else ignore
        self.processes.place(recognizer, self.adapter)
        reserved = self.adapter.prompt_rows()
        self.examples = for_training(data, recognizer, options=options, reserved=reserved)
        self.streamed = isinstance(self.examples, StreamedExamples)
        if not len(self.examples):
            raise BadCorpus(f"{data.corpus.name or 'The corpus'} has no utterance to train on. {reasons(self.examples.corpus.skipped)}")
        if not any(u.loss_weight for u in self.examples.corpus):
            raise BadCorpus(f"The losses of all utterances of {data.corpus.name or 'the corpus'} weigh nothing: there is nothing to train on.")
        if conditions := self.adapter.conditions:
            self.examples.told = Told(conditions, cast(type[ConditionedAdapter], self.adapter.method).untold(self.adapter.config))
        self.dev = None if choice.dev is None else Examples(TrainingData(choice.dev, data.prompt), recognizer, context=options.context, reserved=reserved)
        self._freeze_encoder()
        if conditions and self.dev is not None:
            self.dev.told = Told(conditions)
        self.plan = self.adapter.plan()
        self.steps = Steps(self.examples, options, parts=(1.0,) if self.plan is None else self.plan.parts)
        self.state = State(total=self.steps.total, skipped={s.id: s.reason for s in self.examples.corpus.skipped})
        self.clock = Clock(self.state, options, self.processes)
        self.gradient = Gradient(recognizer, self.adapter, self.trained, self.loss, options, self.processes, self.examples.states)
        self.selection = Selection(choice, self.adapter, self.state, dev_loss=self.dev_loss, patience=options.patience, progress=self.progress)
        self.lr = learning_rate(self.adapter.method, options, config=self.adapter.config, width=recognizer.base.config.d_model)
        self.optimizer = optimizer_for(self.trained, options, lr=self.lr, facts=self.adapter.facts)
        if self.plan is not None:
            self.plan.optimizer = self.optimizer
        self.budget = Budget(
            self.state,
            options,
            self.processes,
            recognizer.device,
            trial=self.gradient.trial,
            generous=generous_bytes(recognizer.base.config) * (1 + options.nbest * self.loss.needs_candidates),
            progress=self.progress,
        )
        self.scale = LossScale(self.state, forward_dtype(options.precision, recognizer.device, recognizer.dtype))
        self.average = Average(Averaging.parse(options.average), self.adapter, self.state)
        self.checkpoint, self.identity = checkpoint, checkpoints.identity(self.adapter, data, choice)
        self.last: dict[str, Tensor] | None = None  # once the run is at its end, where those that are kept are others
        self._whole, self._stop = True, False  # no step is half done; some process was asked to end
        self._kept, self.saved = 0, time.monotonic()  # steps in the last checkpoint, and when that was

    def _freeze_encoder(self) -> None:
        """Where no adapter acts in the encoder, nothing is encoded twice; what is heard in which epoch is the same without a cache."""
        frozen, asked = frozen_encoder.applies(self.recognizer, self.adapter, dropout=self.options.dropout), self.options.variants
        self.examples.variants = asked if asked is not None else frozen_encoder.VARIANTS if frozen else 0
        if frozen and self.examples.variants and not self.streamed:
            dtype = forward_dtype(self.options.precision, self.recognizer.device, self.recognizer.dtype)
            self.examples.states = EncoderStates.of(self.recognizer, self.examples, dtype=dtype)

    # -- interruption --------------------------------------------------------------------------------------------------
    def resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            self.progress(Message("There is no checkpoint to resume from: starting from the beginning."))
            return
        found = checkpoints.read(self.checkpoint)
        checkpoints.check(found, self.checkpoint, changed_options=differences(found.options, self.options), identity=self.identity)
        self.state.become(found.state)
        self._kept = self.state.step
        self.selection.best = found.restore(self.adapter, self.optimizer)
        self.last = found.part("last.") or None
        self.average.restore(found)
        self.progress(Message(f"Resuming after step {self.state.step:,}."))
        if new := unknown_then(found.options):
            self.progress(Message(f"The checkpoint is of a version that did not know {', '.join(new)}: as then, so now."))

    def save(self) -> None:
        if self.checkpoint is not None and self.processes.first:
            parts = {"best": self.selection.best, "last": self.last, **self.average.parts()}
            checkpoints.write(
                self.checkpoint, self.state, adapter=self.adapter, optimizer=self.optimizer, parts=parts, options=self.options.to_json(), identity=self.identity
            )
        self.saved, self._kept = time.monotonic(), self.state.step

    # -- the loop ------------------------------------------------------------------------------------------------------
    def train(self) -> None:
        if not self.state.finished:
            self.begin()
            self.work()

    def begin(self) -> None:
        """What comes before the first step: the method's own start, where it has one."""
        self._describe()
        self.budget.find(self.examples)
        memory.reset_peak(self.recognizer.device)
        if self.plan is not None and not self.state.step and not self.adapter.started:  # else a start would take the place of what was learned
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(generator(self.options.seed, "before").initial_seed())
                self.plan.before(self.adapter, RunPasses(self.recognizer, self.adapter, self.steps, self.loss, self.processes))
            self.processes.share_weights(self.adapter)
        self.adapter.started = True

    def work(self) -> None:
        """The steps that are left, and what comes after the last."""
        self.clock.start()
        try:
            # Many processes end after the same step: none may leave the others waiting for its gradients.
            with interruption.deferred(KEEPING) if self.processes.several else nullcontext():
                self._take_steps()
        except (*interruption.INTERRUPTIONS, ConnectionError):  # the last: of a stream
            self.keep()
            raise
        with interruption.deferred(KEEPING):
            self.finish()

    def keep(self) -> None:
        """Write a checkpoint if there is anything new to keep."""
        if self._whole and self.state.step > self._kept:
            self.save()

    def _describe(self) -> None:
        own, head = self.adapter.trained_parameters(), self.adapter.head_parameters()
        total = sum(p.numel() for p in self.recognizer.base.parameters())
        beside = f" and a CTC head of {head:,}." if head else "."
        self.progress(Message(f"Training {own:,} of {total + own:,} parameters ({own / (total + own):.2%})" + beside))

    def _take_steps(self) -> None:
        """The steps that are left, with evaluations and checkpoints among them; returns early where many processes were asked to end."""
        state = self.state
        if state.due:
            self.evaluate()
        if state.step and (self.clock.ended() or self.selection.out_of_patience()):
            return
        steps = reading.read(
            self.examples, self.keys, workers=self.workers, pin_memory=self.recognizer.device.type == "cuda", tell=lambda text: self.progress(Message(text))
        )
        with closing(steps):
            for data in steps:
                with interruption.deferred(KEEPING):
                    self._whole = False
                    self.step(data)
                    self.clock.stop()
                    last = self.clock.ended()
                    state.due = last or (self.evaluates() and self.clock.evaluates_now())
                    self._whole = True
                if state.due:
                    self.evaluate()
                if last or self.selection.out_of_patience():
                    return
                if self._stop:
                    interruption.request()
                    return
                if time.monotonic() - self.saved >= self.options.checkpoint_s:
                    self.save()
                self.clock.start()

    @property
    def workers(self) -> int:
        if self.streamed:
            return 0  # a window is read here, and the next one beside
        return reading.spare(self.recognizer.device) if self.options.workers is None else self.options.workers

    def keys(self) -> Iterator[StepKey]:
        """The steps that are left."""
        return self.steps.after(self.state.epoch, self.state.position, taken=self.state.step, rank=self.processes.rank, of=self.processes.count)

    def step(self, data: StepData) -> None:
        """Take one optimizer step."""
        counts = self.count(data)
        self._stop = counts.stop and self.processes.several
        step, plan = self.state.step, self.plan
        dense = plan is not None and plan.wants_gradients(self.adapter, step=step, progress=self.clock.done(step))
        loss = self._gradient(data, counts.targets, counts.rows, dense=dense) if any(counts.targets) else 0.0
        self.take(data, counts, loss)

    def count(self, data: StepData) -> Counts:
        """What a step has, over all processes."""
        utterances = sum(batch.utterances for batch in data.batches)
        *targets, rows, stop = self.processes.totals([*self.loss.counts(data.batches, self.adapter), utterances, interruption.pending()])
        return Counts(tuple(targets), round(rows), bool(stop))

    def take(self, data: StepData, counts: Counts, loss: float) -> None:
        """The step along the gradient that is in the parameters, if there is one; `loss` is that of the step per target."""
        state = self.state
        progress = self.clock.progress()
        share = rate(self.options.schedule, progress, warmup=self.options.warmup)
        set_rate(self.optimizer, share, momentum(self.options.schedule, progress))
        record.note_skipped(state, data.skipped, self.progress)
        if any(counts.targets):
            if self.plan is not None:
                self.plan.part = data.key.part
            self._follow(loss, share)
            self.average.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        state.step, state.rows = state.step + 1, state.rows + counts.rows
        state.epoch, state.position = data.key.epoch, data.key.position + 1
        state.dropped += sum(self.loss.dropped(batch, self.adapter) for batch in data.batches)
        if not state.rows and state.epoch > 0:
            raise BadCorpus(f"Of {len(self.examples)} utterances none could be read. {reasons(record.skipped_so_far(state))}")
        per_second, remaining_s = self.clock.rates()
        self.progress(Step(state.step, state.total, loss, share * self.lr, per_second, remaining_s))

    def _gradient(self, data: StepData, counts: Sequence[float], rows: int, *, dense: bool) -> float:
        """Leave the step's gradient in the parameters, computing less at once where memory runs out; returns the loss."""
        while True:
            try:
                return self.gradient.of(data, counts, rows, step=self.state.step, dense=dense, at_once_s=self.budget.seconds, scale=self.scale.value)
            except OutOfMemory:
                pass  # and with it goes its traceback, which holds on to what was computed
            self.gradient.forget()
            self.budget.lower(data.batches)

    def _follow(self, loss: float, share: float) -> None:
        """Step along the gradient that is in the parameters, with the method's plan before and after it."""
        state, plan = self.state, self.plan
        if plan is not None:
            if self.gradient.dense:
                plan.see_gradients(self.adapter, self.gradient.dense, step=state.step, progress=self.clock.done(state.step))
            penalty = plan.penalty(self.adapter)
            if penalty is not None:  # the same in every process, whose gradients are summed already
                penalty.backward()
            plan.before_step(self.adapter, step=state.step, progress=self.clock.done(state.step))
        finite = self.gradient.clip(loss=loss, step=state.step, lr=self.lr, scale=self.scale.value)
        self.scale.update(finite)
        if finite:
            self.optimizer.step()
            if plan is not None:
                plan.after_step(self.adapter, step=state.step, progress=self.clock.done(state.step + 1), lr=share * self.lr)

    def evaluates(self) -> bool:
        """Whether there is anything to evaluate now and then."""
        return self.dev is not None or self.average.of_evaluations

    def evaluate(self) -> None:
        """An evaluation on the development data, of the average where there is one."""
        self.average.at_evaluation()
        with self.average.in_place():
            self.selection.evaluate()

    def dev_loss(self) -> float:
        """The loss on the development data."""
        if self.dev is None:
            raise BadInput("There are no development data.")
        return loss_on(
            self.dev, self.recognizer, self.adapter, self.loss, self.options, skip=lambda skipped: record.note_skipped(self.state, skipped, self.progress)
        )

    # -- the end -------------------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Put the weights that are kept in the adapter, once no step is left."""
        state, best = self.state, self.selection.best
        if (average := self.average.weights()) is not None:
            self.adapter.load_state_dict(average)
        if best is not None and state.best is not None and self.selection.choice.keep == "best":
            if (kept := self.selection.describe()) is not None:
                self.progress(kept)
            if state.best[1] != state.step:
                self._finish_weights()
                self.last = weights_of(self.adapter)
            self.adapter.load_state_dict(best)
        self._finish_weights()
        if state.dropped:
            self.progress(Message(f"{state.dropped:,} times, a transcript did not fit its frames and was no target for CTC."))
        state.finished = True
        self.save()

    def _finish_weights(self) -> None:
        """What the method does once, after the last step, to the weights that are in the adapter."""
        if self.plan is not None:
            self.plan.finish(self.adapter)

    def result(self) -> Trained:
        return record.result(
            self.state,
            kind=self.selection.choice.kind,
            peak_memory_bytes=memory.peak(self.recognizer.device),
            last=self.last,
            variants=self.examples.variants,
            lr=self.lr,
            parameters=self.adapter.trained_parameters(),
        )
