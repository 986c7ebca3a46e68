"""The training loop: one adapter, one frozen base, steps in a fixed order.

    for each step:  loss = Σ_batches Σ_terms weight · sum / counts of the step   →  backward  →  clip  →  AdamW  →  the method's plan
                    now and then: an evaluation on the development data, a checkpoint

Under `accelerate launch` each process computes its rows of every batch and gradients are summed, so that many processes take
the steps of one. All chance is keyed by (seed, utterance, epoch) or (seed, step).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast
from torch import Tensor, nn

from asrpeft import interruption
from asrpeft.audio.augment import generator
from asrpeft.corpus import Corpus, Skipped
from asrpeft.errors import BadCorpus, BadInput, Failure
from asrpeft.methods.plan import collected
from asrpeft.recognizer import Recognizer
from asrpeft.training import checkpoints, memory, reading
from asrpeft.training.checkpoints import State
from asrpeft.training.choice import Rates, judge
from asrpeft.training.events import DevScore, GuardScore, Message, Progress, Step, ignore
from asrpeft.training.examples import Examples, Prompt, StepData
from asrpeft.training.frozen import only, trained_parameters, training_mode
from asrpeft.training.guard import Guard
from asrpeft.training.optimizer import adamw, learning_rate, set_rate
from asrpeft.training.options import TrainingOptions, differences
from asrpeft.training.passes import RunPasses
from asrpeft.training.precision import autocast
from asrpeft.training.schedules import rate
from asrpeft.training.steps import Steps

EVALUATIONS = 8  # at the development data, unless `dev_every` says how often
NOT_FINITE_IN_A_ROW = 5
_KEEPING = "Stopping: the state of the run is being kept. Once more stops at once."


@dataclass(frozen=True)
class Trained:
    """What a run did.

    Attributes:
        steps: optimizer steps taken; rows: utterances trained on, counting each time.
        seconds: time in the loop, with reading and augmenting audio, without start-up and evaluation.
        best: (score, step) of the evaluation on the development data whose weights were best; None without such data.
        chosen_by: the measure that found them so: `wer`, `cer` or `loss`. See `asrpeft.training.choice`.
        measures: (step, WER, CER, loss or None) of each evaluation, where rates were looked at.
        last: the weights after the last step, as a state dict, where those that were kept are others.
        evaluations: (step, score) of each evaluation, `kind` is `wer` or `loss`.
        dropped: rows that had no target for a part of the loss because it did not fit (CTC).
        skipped: utterances left out, with reasons.
        guard_evaluations: (step, loss of WER against the base) of each time the guard data were asked.
    """

    steps: int
    rows: int
    seconds: float
    peak_memory_bytes: int
    best: tuple[float, int] | None
    evaluations: tuple[tuple[int, float], ...]
    kind: str
    dropped: int
    skipped: tuple[Skipped, ...]
    guard_evaluations: tuple[tuple[int, float], ...] = ()
    chosen_by: str | None = None
    measures: tuple[tuple[int, float, float, float | None], ...] = ()
    last: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def utterances_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


def train(
    recognizer: Recognizer,
    name: str,
    data: Corpus,
    *,
    prompt: Prompt,
    options: TrainingOptions,
    dev: Corpus | None = None,
    dev_score: Callable[[], float | Rates] | None = None,
    guard: Guard | None = None,
    keep: str = "best",
    nonspeech: Corpus | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = ignore,
) -> Trained:
    """Train the attached adapter `name`, and leave in it the weights that were best on the development data.

    Args:
        prompt: the tokens before every transcript (see `Recognizer.prompt`), or a function from the utterance to them.
        dev: data that choose among the weights; without them the last are kept.
        dev_score: what to choose by, called with the adapter in evaluation mode: its rates on `dev`, of which the first that
            says something chooses, else the loss; or any number (lower is better). Without it, the loss on `dev`.
        guard: among the evaluations at `dev`, only weights that lose at most this much on what the base could do are kept.
        keep: "last" leaves the weights of the last step in the adapter, whatever the development data say; "best" gives them
            in the result, if they are others.
        nonspeech: recordings in which nobody speaks: half of the rows without speech that `options` asks for are taken from
            them, the others made on the spot.
        checkpoint: the file that holds the run's state; without it nothing is written.
        resume: go on from that file, if it exists.
    Ctrl-C and SIGTERM are met after the step that is under way, with a checkpoint written (KeyboardInterrupt, SystemExit).
    Raises: UnexpectedTraining if anything else would train; BadInput if `checkpoint` belongs to another run; BadCorpus if no
        utterance can be used; Failure if the loss is no longer a number, or if no weights pass the guard.
    """
    with interruption.listening(), torch.random.fork_rng(devices=[]), only(recognizer, name):
        run = Run(
            recognizer,
            name,
            data,
            prompt=prompt,
            options=options,
            dev=dev,
            dev_score=dev_score,
            guard=guard,
            keep=keep,
            nonspeech=nonspeech,
            checkpoint=checkpoint,
            progress=progress,
        )
        if resume:
            run.resume()
        run.train()
        run.check_guard()
        return run.result()


class Run:
    """A run of `train`: its parts, and the `state` that a checkpoint holds."""

    def __init__(self, recognizer: Recognizer, name: str, data: Corpus, *, prompt: Prompt, options: TrainingOptions, dev: Corpus | None,
                 dev_score: Callable[[], float | Rates] | None, guard: Guard | None, keep: str,
                 nonspeech: Corpus | None, checkpoint: Path | None, progress: Progress):  # fmt: skip
        self.recognizer, self.name, self.options = recognizer, name, options
        self.adapter = recognizer.adapters[name]
        self.trained = trained_parameters(recognizer, name)
        self.loss = options.terms()
        if self.loss.needs_head and self.adapter.ctc is None:
            raise BadInput(f"The loss {options.loss!r} needs a CTC head; give the adapter one: adapter.ctc = CTCHead.for_texts(…).")
        self.accelerator = Accelerator()  # one process computes on the recognizer's device; many, each on the one it was launched for
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise BadInput("Sharded training (FSDP) is not supported yet: set the accelerate configuration to plain data parallel.")
        self.progress: Progress = progress if self.accelerator.is_main_process else ignore
        self._place()
        reserved = self.adapter.prompt_rows()
        self.examples = Examples.for_training(data, recognizer, prompt=prompt, options=options, reserved=reserved, recordings=nonspeech)
        if not len(self.examples):
            raise BadCorpus(f"{data.name or 'The corpus'} has no utterance to train on. {_reasons(self.examples.corpus.skipped)}")
        self.dev = None if dev is None else Examples(dev, recognizer, prompt=prompt, context=options.context, reserved=reserved)
        if guard is not None and dev is None:
            raise BadInput("Weights that forget too much are left out among evaluations at development data: give --dev-data.")
        if keep not in ("best", "last"):
            raise BadInput(f"There is no keep={keep!r}; choose 'best' or 'last'.")
        if guard is not None and keep == "last":
            raise BadInput("With --keep last nothing is chosen, so that --max-loss can refuse nothing. Keep one of the two.")
        self.dev_score, self.guard, self.keep = dev_score, guard, keep
        self.steps = Steps(self.examples, options)
        self.lr = learning_rate(self.adapter.method, options, config=self.adapter.config, width=recognizer.base.config.d_model)
        self.optimizer = adamw(self.trained, options, lr=self.lr, facts=self.adapter.facts)
        self.plan = self.adapter.plan()
        self.checkpoint, self.identity = checkpoint, checkpoints.identity(self.adapter, data, dev)
        if guard is not None:
            self.identity |= {"guard data": guard.key, "limits on what may be lost": guard.max_loss}
        if keep == "last":
            self.identity |= {"weights to keep": keep}
        if nonspeech is not None:
            self.identity |= {"recordings without speech": checkpoints.corpus_key(nonspeech)}
        self.state = State(total=self.steps.total, skipped={s.id: s.reason for s in self.examples.corpus.skipped})
        self.best: dict[str, Tensor] | None = None
        self.last: dict[str, Tensor] | None = None  # once the run is at its end, where those that are kept are others
        self._not_finite = 0
        self._whole, self._stop = True, False  # no step is half done; some process was asked to end
        self._kept = 0  # steps in the last checkpoint
        self._saved = self._clock = time.monotonic()  # of the last checkpoint; up to where `state.seconds` counts

    def _place(self) -> None:
        """Each process on its own device, all with the same weights to start from."""
        if self.accelerator.num_processes > 1:
            self.recognizer.to(self.accelerator.device)
        self._level()

    def _level(self) -> None:
        """Every process has the adapter of the first."""
        if self.accelerator.num_processes > 1:
            with torch.no_grad():
                for tensor in self.adapter.state_dict(keep_vars=True).values():
                    own = broadcast(tensor.byte() if tensor.dtype == torch.bool else tensor.detach().clone())
                    tensor.copy_(own)

    # -- interruption --------------------------------------------------------------------------------------------------
    def resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            self.progress(Message("There is no checkpoint to resume from: starting from the beginning."))
            return
        found = checkpoints.read(self.checkpoint)
        checkpoints.check(found, self.checkpoint, changed_options=differences(found.options, self.options), identity=self.identity)
        self.state, self._kept = found.state, found.state.step
        self.best = found.restore(self.adapter, self.optimizer)
        self.last = found.part("last.") or None
        self.progress(Message(f"Resuming after step {self.state.step:,}."))

    def save(self) -> None:
        if self.checkpoint is not None and self.accelerator.is_main_process:
            checkpoints.write(self.checkpoint, self.state, adapter=self.adapter, optimizer=self.optimizer, best=self.best,
                              last=self.last, options=self.options.to_json(), identity=self.identity)  # fmt: skip
        self._saved, self._kept = time.monotonic(), self.state.step

    # -- the loop ------------------------------------------------------------------------------------------------------
    def train(self) -> None:
        if self.state.finished:
            return
        own, head = self.adapter.trained_parameters(), self.adapter.head_parameters()
        total = sum(p.numel() for p in self.recognizer.base.parameters())
        self.progress(
            Message(f"Training {own:,} of {total + own:,} parameters ({own / (total + own):.2%})" + (f" and a CTC head of {head:,}." if head else "."))
        )
        memory.reset_peak(self.recognizer.device)
        if self.plan is not None and not self.state.step:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(generator(self.options.seed, "before").initial_seed())
                self.plan.before(self.adapter, RunPasses(self))
            self._level()
        self._clock = time.monotonic()
        try:
            # Many processes end after the same step: none may leave the others waiting for its gradients.
            with interruption.deferred(_KEEPING) if self.accelerator.num_processes > 1 else nullcontext():
                self._take_steps()
        except interruption.INTERRUPTIONS:
            if self._whole and self.state.step > self._kept:
                self.save()
            raise
        with interruption.deferred(_KEEPING):
            self._finish()

    def _take_steps(self) -> None:
        """The steps that are left, with evaluations and checkpoints among them; returns early where many processes were asked to end."""
        state = self.state
        if state.due:
            self.evaluate()
        if state.step and (self._last() or self._out_of_patience()):
            return
        steps = reading.read(self.examples, self._keys, workers=self.options.workers, pin_memory=self.recognizer.device.type == "cuda",
                             tell=lambda text: self.progress(Message(text)))  # fmt: skip
        with closing(steps):
            for data in steps:
                with interruption.deferred(_KEEPING):
                    self._whole = False
                    self.step(data)
                    state.seconds, self._clock = state.seconds + time.monotonic() - self._clock, time.monotonic()
                    last = self._last()
                    state.due = last or self._looks_now()
                    self._whole = True
                if state.due:
                    self.evaluate()
                if last or self._out_of_patience():
                    return
                if self._stop:
                    interruption.request()
                    return
                if time.monotonic() - self._saved >= self.options.checkpoint_s:
                    self.save()
                self._clock = time.monotonic()

    def _keys(self):
        rank, of = self.accelerator.process_index, self.accelerator.num_processes
        return self.steps.after(self.state.epoch, self.state.position, taken=self.state.step, rank=rank, of=of)

    def step(self, data: StepData) -> None:
        """Take one optimizer step."""
        state = self.state
        share = rate(self.options.schedule, self._progress(), warmup=self.options.warmup)
        set_rate(self.optimizer, share)
        self._note_skipped(data.skipped)
        counts = self._sum([*self.loss.counts(data.batches, self.adapter), sum(batch.utterances for batch in data.batches), interruption.pending()])
        self._stop, rows = bool(counts.pop()) and self.accelerator.num_processes > 1, round(counts.pop())
        loss = self.gradient(data, counts, rows) if any(counts) else 0.0
        if any(counts) and self._gradient_is_finite(loss):
            self.optimizer.step()
            if self.plan is not None:
                self.plan.after_step(self.adapter, step=state.step, progress=self._done(state.step + 1), lr=share * self.lr)
        self.optimizer.zero_grad(set_to_none=True)
        state.step, state.rows = state.step + 1, state.rows + rows
        state.epoch, state.position = data.key.epoch, data.key.position + 1
        state.dropped += sum(self.loss.dropped(batch, self.adapter) for batch in data.batches)
        if not state.rows and state.epoch > 0:
            raise BadCorpus(f"Of {len(self.examples)} utterances none could be read. {_reasons(self.skipped())}")
        self._tell(loss, share)

    def gradient(self, data: StepData, counts: Sequence[float], rows: int) -> float:
        """Leave the gradient of the whole step, over all processes, in the parameters; returns the loss per unit.

        Args:   counts, rows: of the step, over all processes.
        """
        device, total = self.recognizer.device, 0.0
        torch.manual_seed(generator(self.options.seed, "step", self.state.step, self.accelerator.process_index).initial_seed())
        with training_mode(self.recognizer, self.name, dropout=self.options.dropout, checkpointing=self.options.gradient_checkpointing):
            for batch in data.batches:
                batch = batch.to(device)
                with autocast(self.options.precision, device, self.recognizer.dtype), collected() as added:
                    output = self.recognizer(batch.features, batch.frames, batch.tokens if self.loss.needs_decoder else None, route=self.name)
                    loss = self.loss.value(output, batch, self.adapter, counts)
                if added:  # means over the rows at hand, so a batch weighs as many as it has
                    loss = loss + sum(added) * (len(batch) / rows)
                loss.backward()
                total += float(loss.detach())
        self._sum_gradients()
        penalty = self.plan.penalty(self.adapter) if self.plan is not None else None
        if penalty is not None:  # the same in every process: after the sum
            penalty.backward()
        if self.plan is not None:
            self.plan.before_step(self.adapter, step=self.state.step, progress=self._done(self.state.step))
        return self._sum([total])[0]

    def _gradient_is_finite(self, loss: float) -> bool:
        """Clip the gradient; a step whose gradient is not finite is not taken.

        Raises: Failure when that happens again and again.
        """
        gradients = [p for p in self.trained.values() if p.grad is not None]
        norm = float(nn.utils.clip_grad_norm_(gradients, self.options.clip or float("inf")))
        fine = norm == norm and abs(norm) != float("inf")
        self._not_finite = 0 if fine else self._not_finite + 1
        if self._not_finite >= NOT_FINITE_IN_A_ROW:
            raise Failure(f"The gradient was not finite in {self._not_finite} steps in a row (loss {loss:.3g}, step {self.state.step}). "
                          f"Lower --lr (it is {self.lr:g}), or use --precision no.")  # fmt: skip
        return fine

    def _sum(self, values: Sequence[float]) -> list[float]:
        """Numbers summed over the processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        sums = torch.tensor(
            values,
            dtype=torch.float64 if self.accelerator.device.type != "mps" else torch.float32,
            device=self.accelerator.device,
        )
        return self.accelerator.reduce(sums, "sum").tolist()

    def _sum_gradients(self) -> None:
        """One sum over the processes for all parameters; a parameter that no row here reached counts as zero."""
        if self.accelerator.num_processes == 1:
            return
        parameters = list(self.trained.values())
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        flat = self.accelerator.reduce(flat, "sum")
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.grad = part.view_as(parameter).clone()

    # -- how far it is -------------------------------------------------------------------------------------------------
    def _progress(self) -> float:
        """The share of the run at the middle of the coming step."""
        if self.state.total is not None:
            return (self.state.step + 0.5) / self.state.total
        return self._elapsed() / (60 * self.options.minutes)

    def _elapsed(self) -> float:
        """Seconds in the loop; the mean over processes, which must all stop at once."""
        return self._sum([self.state.seconds])[0] / self.accelerator.num_processes

    def _done(self, steps: int) -> float:
        """The share of the run that is done after `steps` steps."""
        return min(1.0, steps / self.state.total if self.state.total is not None else self._progress())

    def _last(self) -> bool:
        if self.state.total is not None:
            return self.state.step >= self.state.total
        return self._elapsed() >= 60 * self.options.minutes

    def _tell(self, loss: float, share: float) -> None:
        state, total = self.state, self.state.total
        spent = max(state.seconds + time.monotonic() - self._clock, 1e-6)  # this step's included
        remaining = spent / max(1, state.step) * (total - state.step) if total is not None else max(0.0, 60 * self.options.minutes - spent)
        self.progress(Step(state.step, total, loss, share * self.lr, state.rows / spent, remaining))

    # -- development data ----------------------------------------------------------------------------------------------
    def _looks_now(self) -> bool:
        if self.dev is None:
            return False
        if self.options.dev_every is not None:
            return self.state.step % self.options.dev_every == 0
        if self.state.total is not None:
            return self.state.step % max(1, -(-self.state.total // EVALUATIONS)) == 0
        return self._elapsed() * EVALUATIONS >= 60 * self.options.minutes * (len(self.state.evaluations) + 1)

    def evaluate(self) -> None:
        """Score the adapter on the development data, and keep its weights if they are the best so far that pass the
        guard."""
        state = self.state
        if self.dev is None:
            state.due = False
            return
        found = self.dev_score() if self.dev_score is not None else self.dev_loss()
        result = judge(found, self.dev_loss) if isinstance(found, Rates) else None
        score, rank = (found, (0, found)) if result is None else (result.wer, result.rank)
        # Equal scores are common (100 % WER at first): the later weights are kept, but they are no improvement.
        before = None if state.best is None else tuple(state.rank or (0, state.best[0]))
        improved = before is None or rank < before
        best = improved or rank == before
        loss = self.guard.loss() if best and self.guard is not None else None
        with interruption.deferred(_KEEPING):
            best = best and (loss is None or self._passes(loss))
            state.evaluations.append((state.step, score))
            if result is not None:
                state.measures.append((state.step, result.wer, result.cer, result.loss))
            state.since_best = 0 if best and improved else state.since_best + 1
            if best:
                state.best, state.rank = (score, state.step), rank
                state.chosen_by = self.kind if result is None else result.by
                self.best = {n: t.detach().cpu().clone() for n, t in self.adapter.state_dict().items()}
            state.due = False
            details = {} if result is None else {"cer": result.cer, "loss": result.loss, "by": result.by}
            self.progress(DevScore(state.step, score, self.kind, best, **details))

    def _passes(self, loss: float) -> bool:
        """Whether what is lost on the guard data stays within its limit."""
        passed = loss <= self.guard.max_loss
        self.state.guard_evaluations.append((self.state.step, loss))
        self.progress(GuardScore(self.state.step, loss, self.guard.max_loss, passed))
        return passed

    def check_guard(self) -> None:
        """Raises: Failure where no evaluation gave weights that pass: an adapter that forgets too much is none."""
        if self.guard is None or self.state.best is not None:
            return
        step, loss = min(self.state.guard_evaluations, key=lambda one: one[1])
        raise Failure(
            f"No weights passed the guard: of {len(self.state.guard_evaluations)} evaluations the best (step {step}) lost "
            f"{100 * loss:.1f} points of WER on what the base could do, and {100 * self.guard.max_loss:g} are allowed. "
            f"No adapter was kept. Train for less, with a lower --lr or fewer parameters, mix some of that speech into "
            f"the training data, or allow more with --max-loss."
        )

    @property
    def kind(self) -> str:
        return "wer" if self.dev_score is not None else "loss"

    def _out_of_patience(self) -> bool:
        if self.options.patience is None or self.state.since_best < self.options.patience:
            return False
        self.progress(Message(f"Stopping: {self.state.since_best} evaluations at the development data without an improvement."))
        return True

    @torch.no_grad()
    def dev_loss(self) -> float:
        """The loss on the development data, without chance: no augmentation, no jitter, no dropout."""
        rows = sorted(range(len(self.dev)), key=lambda i: self.dev.corpus[i].duration)[: self.options.dev_utterances]
        sums, totals = [0.0] * len(self.loss.terms), [0] * len(self.loss.terms)
        for first in range(0, len(rows), 16):
            batch, bad = self.dev.batch(rows[first : first + 16], None)
            self._note_skipped(bad)
            if batch is None:
                continue
            own = self.loss.counts([batch], self.adapter)
            batch = batch.to(self.recognizer.device)
            with autocast(self.options.precision, self.recognizer.device, self.recognizer.dtype):
                output = self.recognizer(batch.features, batch.frames, batch.tokens if self.loss.needs_decoder else None, route=self.name)
                for i, (_, term) in enumerate(self.loss.terms):
                    sums[i] += float(term.total(output, batch, self.adapter)) if own[i] else 0.0
                    totals[i] += own[i]
        if not any(totals):
            raise BadCorpus(f"No utterance of the development data can be used. {_reasons(self.skipped())}")
        return sum(weight * s / n for (weight, _), s, n in zip(self.loss.terms, sums, totals) if n)

    # -- the end -------------------------------------------------------------------------------------------------------
    def _finish(self) -> None:
        if self.best is not None and self.keep == "best":
            self._say_what_is_kept()
            if self.state.best[1] != self.state.step:
                self._settle()
                self.last = {n: t.detach().cpu().clone() for n, t in self.adapter.state_dict().items()}
            self.adapter.load_state_dict(self.best)
        self._settle()
        if self.state.dropped:
            self.progress(Message(f"{self.state.dropped:,} times, a transcript did not fit its frames and was no target for CTC."))
        self.state.finished = True
        self.save()

    def _settle(self) -> None:
        """What the method does once, after the last step, to the weights that are in the adapter."""
        if self.plan is not None:
            self.plan.finish(self.adapter)

    def _say_what_is_kept(self) -> None:
        state = self.state
        score, step = state.best
        kept = f"Kept: the weights of step {step:,} of {state.step:,}, the best on the development data by"
        if state.chosen_by == "wer" or not state.measures:
            named = f"{100 * score:.1f} % WER" if self.kind == "wer" else f"loss, {score:.4f}"
            self.progress(Message(f"{kept} {named}."))
            return
        _, wer, cer, loss = next(one for one in state.measures if one[0] == step)
        if state.chosen_by == "cer":
            self.progress(Message(f"{kept} CER, {100 * cer:.1f} %: WER says little there ({100 * wer:.1f} %)."))
        else:
            self.progress(Message(f"{kept} loss, {loss:.4f}: WER ({100 * wer:.1f} %) and CER ({100 * cer:.1f} %) say little there."))

    def _note_skipped(self, skipped: Sequence[Skipped]) -> None:
        for item in skipped:
            if item.id not in self.state.skipped:
                self.state.skipped[item.id] = item.reason
                self.progress(item)

    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(id_, reason) for id_, reason in self.state.skipped.items())

    def result(self) -> Trained:
        state = self.state
        return Trained(steps=state.step, rows=state.rows, seconds=state.seconds, peak_memory_bytes=memory.peak(self.recognizer.device), best=state.best,
                       evaluations=tuple(state.evaluations), kind=self.kind, dropped=state.dropped, skipped=self.skipped(),
                       guard_evaluations=tuple(state.guard_evaluations), chosen_by=state.chosen_by,
                       measures=tuple(map(tuple, state.measures)), last=self.last)  # fmt: skip


def _reasons(skipped: Sequence[Skipped]) -> str:
    return " ".join(f"{s.id}: {s.reason}." for s in skipped[:3])
