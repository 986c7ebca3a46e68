"""Adapters of several speakers trained together on one frozen base: their rows share batches, and nothing else.

    for each round:  the next step of every run → their rows by length, in passes of about one batch each
                     → each run's own clip, optimizer, plan, schedule, evaluation, early stopping, best weights, checkpoint

A run of a cohort is a `Run` as it would be alone; only the passes are shared. Each row uses its own adapter (see
`asrpeft.adapters.routing`), and a run's loss is a sum over its own rows, so that no row moves the gradient of another's adapter. What a
run arrives at is what it arrives at alone, to the order of sums. Runs may be of different lengths, be at different steps (after an
interruption), or end early: whoever is done leaves the rounds.

Where an adapter draws random numbers in its forward pass, or adds losses of its own there, rows would share those: such runs take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from asrpeft import interruption
from asrpeft.batching import by_budget
from asrpeft.errors import BadAudio, BadCorpus, BadInput, Failure
from asrpeft.methods.plan import Plan, collected
from asrpeft.recognizer import IGNORED, Encoded, Output, Recognizer
from asrpeft.recognizer.context import ENCODER_FRAMES_PER_SECOND
from asrpeft.training import memory, reading
from asrpeft.training.batch import Batch, StepData, StepKey
from asrpeft.training.budget import out_of_memory, part
from asrpeft.training.events import Message
from asrpeft.training.examples import Examples
from asrpeft.training.frozen import only, training_mode
from asrpeft.training.frozen_encoder import known
from asrpeft.training.loop import Counts, Run
from asrpeft.training.precision import autocast
from asrpeft.training.record import Trained
from asrpeft.training.selection import KEEPING

_FAILURES = (Failure, BadCorpus, BadAudio)  # of one run, which cost the others nothing
Round = list[tuple[int, StepData]]  # the next step of each run that has one, by the run's number


class Cohort:
    """Runs on one recognizer, of the same options. Each leaves in its adapter what `Run.train` would.

    Raises: BadInput where two of the runs train one adapter, or their options differ.
    """

    def __init__(self, runs: Sequence[Run]):
        self.runs = list(runs)
        if len({run.adapter.name for run in self.runs}) < len(self.runs):
            raise BadInput("Each run of a cohort trains an adapter of its own: two of these train the same one.")
        if len({(id(run.recognizer), repr(replace(run.options, seed=0))) for run in self.runs}) > 1:
            raise BadInput("The runs of a cohort have one recognizer and the same options.")
        self.failed: dict[int, Exception] = {}  # by the run's number: it diverged, or none of its utterances could be read
        self._active: list[int] = []
        self._passed: list[list[tuple[int, Batch]]] = []  # what was computed together last

    def train(self) -> None:
        """Train all. A run that fails is noted in `failed`, and the others go on.

        Ctrl-C and SIGTERM are met after the round that is under way, with every run's checkpoint written.
        """
        waiting = [number for number, run in enumerate(self.runs) if not run.state.finished]
        for number in waiting:
            run = self.runs[number]
            run.state.budget_s = run.state.budget_s or self.runs[waiting[0]].state.budget_s  # what fits in memory is found once
            run.begin()
        if len(waiting) > 1 and shares(self.runs[waiting[0]]):
            self._active = [number for number in waiting if not self._done(number, evaluates=True)]
            self._together()
        else:
            for number in waiting:
                self._alone(number)

    def _alone(self, number: int) -> None:
        try:
            self.runs[number].work()
        except _FAILURES as error:
            self.failed[number] = error

    # -- rounds --------------------------------------------------------------------------------------------------------
    def _together(self) -> None:
        if not self._active:
            return
        first = self.runs[self._active[0]]
        memory.reset_peak(first.recognizer.device)
        self._start_clocks()
        rounds = reading.read(
            _Steps([run.examples for run in self.runs]),
            self._keys,
            workers=first.workers,
            pin_memory=first.recognizer.device.type == "cuda",
            tell=lambda text: first.progress(Message(text)),
        )
        try:
            with closing(rounds):
                for steps in rounds:
                    own = [(number, data) for number, data in steps if number in self._active]
                    with interruption.deferred(KEEPING):
                        self._round(own)
                    for number, _ in own:
                        self._after(number)
                    if not self._active:
                        return
                    self._start_clocks()
        except interruption.INTERRUPTIONS:
            for number in self._active:
                self.runs[number].keep()
            raise

    def _keys(self) -> Iterator[tuple[tuple[int, StepKey], ...]]:
        """The steps of each round: of every run the next one, as long as it has any."""
        left = {number: self.runs[number].keys() for number in self._active}
        while left:
            found = {number: next(keys, None) for number, keys in left.items()}
            left = {number: keys for number, keys in left.items() if found[number] is not None}
            if left:
                yield tuple((number, key) for number, key in found.items() if key is not None)

    def _round(self, steps: Round) -> None:
        """One step of each run."""
        counts = {number: self.runs[number].count(data) for number, data in steps}
        losses = self._gradients([(number, data) for number, data in steps if any(counts[number].targets)], counts)
        for number, data in steps:
            try:
                self.runs[number].take(data, counts[number], losses.get(number, 0.0))
            except _FAILURES as error:
                self._fail(number, error)

    def _after(self, number: int) -> None:
        """What belongs between two steps of a run: an evaluation, its end, a checkpoint."""
        if number not in self._active:
            return
        run = self.runs[number]
        run.clock.stop()
        run.state.due = run.clock.ended() or (run.evaluates() and run.clock.evaluates_now())
        if self._done(number, evaluates=True):
            self._active.remove(number)
        elif time.monotonic() - run.saved >= run.options.checkpoint_s:
            run.save()

    def _done(self, number: int, *, evaluates: bool) -> bool:
        """Whether a run is at its end, which it is then brought to."""
        run = self.runs[number]
        try:
            if run.state.due and evaluates:
                run.evaluate()
            if not run.state.step or not (run.clock.ended() or run.selection.out_of_patience()):
                return False
            with interruption.deferred(KEEPING):
                run.finish()
        except _FAILURES as error:
            self.failed[number] = error
        return True

    def _fail(self, number: int, error: Exception) -> None:
        self.failed[number] = error
        self._active.remove(number)

    def _start_clocks(self) -> None:
        for number in self._active:
            self.runs[number].clock.start()

    # -- gradients -----------------------------------------------------------------------------------------------------
    def _gradients(self, steps: Round, counts: dict[int, Counts]) -> dict[int, float]:
        """Leave the gradient of each run's step in its adapter, computing less at once where memory runs out; returns the losses per
        target."""
        while steps:
            try:
                return self._passes(steps, counts)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            self._lower([self.runs[number] for number, _ in steps])
        return {}

    def _lower(self, runs: list[Run]) -> None:
        """Compute less at once from now on. Raises: Failure where that was a single utterance."""
        for run in runs:
            run.gradient.forget()
        seconds = max(sum(len(own) for _, own in one) * max(int(own.frames.max()) for _, own in one) for one in self._passed) / ENCODER_FRAMES_PER_SECOND
        if all(len(one) == 1 for one in self._passed):
            runs[0].budget.lower([own for one in self._passed for _, own in one])
            seconds = runs[0].budget.seconds or seconds
        else:
            seconds /= 2
            runs[0].progress(Message(f"Memory ran out. The step is taken again, and from now on at most {seconds:,.0f} seconds of audio are computed at once."))
        for run in runs:
            run.state.budget_s = seconds

    def _passes(self, steps: Round, counts: dict[int, Counts]) -> dict[int, float]:
        totals, runs = {number: 0.0 for number, _ in steps}, [self.runs[number] for number, _ in steps]
        at_once_s = min((run.budget.seconds for run in runs if run.budget.seconds is not None), default=None)
        # A processor is as fast with a batch of the options' size; a GPU is faster with as much as fits.
        seconds = runs[0].options.batch_seconds if at_once_s is None or runs[0].recognizer.device.type == "cpu" else at_once_s
        budget = round(min(seconds, at_once_s or seconds) * ENCODER_FRAMES_PER_SECOND)
        with ExitStack() as stack:
            for run in runs:
                stack.enter_context(training_mode(run.recognizer, run.adapter.name, dropout=0.0, checkpointing=run.options.gradient_checkpointing))
            self._passed = packed([(number, batch) for number, data in steps for batch in data.batches], budget)
            for one in self._passed:
                for number, loss in self._backward(runs[0].recognizer, one, counts).items():
                    totals[number] += loss
        for number in totals:
            run = self.runs[number]
            run.processes.sum_gradients(run.trained.values())
            totals[number] = run.processes.totals([totals[number]])[0]
        return totals

    def _backward(self, recognizer: Recognizer, rows: list[tuple[int, Batch]], counts: dict[int, Counts]) -> dict[int, float]:
        """One pass over batches of different runs."""
        runs = [self.runs[number] for number, _ in rows]
        batch, names = (
            joined([batch for _, batch in rows]).to(recognizer.device),
            [run.adapter.route for run, (_, own) in zip(runs, rows) for _ in range(len(own))],
        )
        with autocast(runs[0].options.precision, recognizer.device, recognizer.dtype):
            states = runs[0].examples.states if all(run.examples.states is not None for run in runs) else None
            tokens = batch.tokens if runs[0].loss.needs_decoder else None
            output = recognizer(batch.features, batch.frames, tokens, route=names, encoded=known(recognizer, batch, states))
            losses: dict[int, Tensor] = {}
            start = 0
            for run, (number, own) in zip(runs, rows):
                at = slice(start, start + len(own))
                value = run.loss.value(_rows_of(output, at), _rows(batch, at), run.adapter, counts[number].targets)
                losses[number] = losses[number] + value if number in losses else value
                start += len(own)
        torch.stack(list(losses.values())).sum().backward()
        return {number: float(loss.detach()) for number, loss in losses.items()}


def shares(run: Run) -> bool:
    """Whether rows of other runs can share the passes of this one: it draws nothing at random there, adds no losses, asks for no gradient
    of frozen weights, is told nothing of its rows, searches for nothing that its loss compares with, has no loss scale of its own, is not ended
    by time, and has one process: of several, each would have to hear where memory runs out in another. Tried on its first batch."""
    dense = run.plan is not None and type(run.plan).wants_gradients is not Plan.wants_gradients
    own = dense or run.adapter.conditions or run.loss.needs_candidates
    if own or run.options.minutes is not None or run.options.dropout or run.scale.value != 1.0 or run.processes.several:
        return False
    for key in run.keys():
        for batch in run.examples[key].batches:
            return _tried(run, batch.to(run.recognizer.device))
    return False


def _tried(run: Run, batch: Batch) -> bool:
    devices = [run.recognizer.device] if run.recognizer.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.no_grad(),
        collected() as added,
        training_mode(run.recognizer, run.adapter.name, dropout=0.0, checkpointing=False),
    ):
        before = _random_state(devices)
        with torch.enable_grad(), autocast(run.options.precision, run.recognizer.device, run.recognizer.dtype):
            tokens = batch.tokens if run.loss.needs_decoder else None
            run.recognizer(batch.features, batch.frames, tokens, route=run.adapter.route, encoded=known(run.recognizer, batch, run.examples.states))
        return not added and all(map(torch.equal, before, _random_state(devices)))


def _random_state(devices: Sequence[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]


def train_together(runs: Mapping[str, Callable[[], Run]], recognizer: Recognizer, *, resume: bool = False) -> dict[str, Trained | Exception]:
    """Train several attached adapters, each as `train` would alone.

    Args:
        runs: by the adapter's name, what makes its run.
        resume: each goes on from its own checkpoint, where there is one.
    Returns: what each run did; or why it came to nothing: a Failure where its loss was no longer a number, or no weights passed its
        guard; a BadCorpus or BadAudio where none of its utterances could be used.
    """
    results: dict[str, Trained | Exception] = {}
    with interruption.listening(), torch.random.fork_rng(devices=[]), only(recognizer, *runs):
        made: list[Run] = []
        for name, make in runs.items():
            try:
                made.append(make())
                if resume:
                    made[-1].resume()
            except _FAILURES as error:
                results[name] = error
        cohort = Cohort(made)
        cohort.train()
        for number, run in enumerate(made):
            try:
                if (failed := cohort.failed.get(number)) is not None:
                    raise failed
                run.selection.check_guard()
                results[run.adapter.name] = run.result()
            except _FAILURES as error:
                results[run.adapter.name] = error
    return results


class _Steps(Dataset[Round]):
    """The data of a round."""

    def __init__(self, examples: list[Examples]):
        self.examples = examples

    def __getitem__(self, keys: tuple[tuple[int, StepKey], ...]) -> Round:
        return [(number, self.examples[number][key]) for number, key in keys]


# -- batches of several runs ---------------------------------------------------------------------------------------------
def packed(batches: Sequence[tuple[int, Batch]], budget: int) -> list[list[tuple[int, Batch]]]:
    """The rows of batches by run, put together anew by length, whosever they are: rows · longest context is at most `budget`, but for a row that
    exceeds it alone. What one run has in a pass lies side by side; a batch of one run, whose sentences are short and long, would be padded to its longest.
    """
    rows = sorted((n, place, row) for place, (_, batch) in enumerate(batches) for row, n in enumerate(batch.frames.tolist()))
    together = []
    for chosen in by_budget(rows, lambda one: one[0], batch_frames=budget):
        own: dict[int, list[int]] = {}
        for _, place, row in sorted(chosen, key=lambda one: one[1:]):
            own.setdefault(place, []).append(row)
        together.append([(batches[place][0], part(batches[place][1], of_it)) for place, of_it in own.items()])
    return together


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches as one, padded to the longest."""
    frames, n = max(batch.features.shape[-1] for batch in batches), max(batch.tokens.shape[1] for batch in batches)
    states = any(batch.states for batch in batches)
    return Batch(
        ids=tuple(id_ for batch in batches for id_ in batch.ids),
        texts=tuple(text for batch in batches for text in batch.texts),
        features=torch.cat([pad(batch.features, (0, frames - batch.features.shape[-1])) for batch in batches]),
        frames=torch.cat([batch.frames for batch in batches]),
        speech=torch.cat([batch.speech for batch in batches]),
        tokens=torch.cat([pad(batch.tokens, (0, n - batch.tokens.shape[1])) for batch in batches]),
        labels=torch.cat([pad(batch.labels, (0, n - batch.labels.shape[1]), value=IGNORED) for batch in batches]),
        keys=tuple(key for batch in batches for key in batch.keys) if states else (),
        states=tuple(state for batch in batches for state in batch.states) if states else (),
        weights=tuple(w for batch in batches for w in batch.weights or (1.0,) * len(batch)) if any(batch.weights for batch in batches) else (),
    )


def _rows(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, as far as a loss looks at it."""
    cut = {name: getattr(batch, name)[rows] for name in ("ids", "texts", "frames", "speech", "tokens", "labels", "weights")}
    return replace(batch, **cut, features=batch.features[:0], keys=(), states=())


def _rows_of(output: Output, rows: slice) -> Output:
    encoded = output.encoded
    mask, speech = (None if part is None else part[rows] for part in (encoded.mask, encoded.speech))
    hidden, made = (None if part is None else part[rows] for part in (output.hidden, output.made))
    return replace(output, encoded=Encoded(encoded.states[rows], encoded.frames[rows], mask, speech), hidden=hidden, made=made)
