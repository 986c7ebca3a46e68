"""The gradient of one optimizer step: every batch forward and backward, summed over the processes, clipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from asrpeft.adapters import Adapter
from asrpeft.audio.augment import generator
from asrpeft.errors import Failure
from asrpeft.methods.plan import collected
from asrpeft.methods.step_changes import StepChanges, made_once
from asrpeft.options import TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.training.batch import Batch, StepData
from asrpeft.training.budget import OutOfMemory, free, out_of_memory, parts
from asrpeft.training.candidates import computed, guessed
from asrpeft.training.dense import DenseGradients
from asrpeft.training.frozen import training_mode
from asrpeft.training.frozen_encoder import EncoderStates, known
from asrpeft.training.losses import Loss
from asrpeft.training.precision import autocast
from asrpeft.training.processes import Processes

NOT_FINITE_IN_A_ROW = 5


class Gradient:
    """Leaves gradients in the parameters `trained` of an adapter.

    Args:   states: of an encoder in which it does not act, see `asrpeft.training.frozen_encoder`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        adapter: Adapter,
        trained: Mapping[str, nn.Parameter],
        loss: Loss,
        options: TrainingOptions,
        processes: Processes,
        states: EncoderStates | None = None,
    ):
        self.recognizer, self.adapter, self.trained = recognizer, adapter, list(trained.values())
        self.loss, self.options, self.processes = loss, options, processes
        self.states = states
        self._not_finite = 0
        self.dense: dict[str, Tensor] = {}  # gradients of frozen weights in the last step, where they were asked for

    def of(
        self, data: StepData, counts: Sequence[float], rows: int, *, step: int, dense: bool = False, at_once_s: float | None = None, scale: float = 1.0
    ) -> float:
        """Leave the gradient of the whole step, over all processes; returns the loss per target.

        Args:
            counts, rows: targets by term, and utterances, of the step over all processes.
            dense: leave those of the frozen weights as well, by path, in `dense`.
            scale: what the loss is multiplied by, and the gradient divided by at the end.
            at_once_s: seconds of audio that are computed at once; a batch that has more is computed in parts.
        Raises: OutOfMemory, in all processes, where that was too much for one.
        """
        options, total = self.options, 0.0
        seed = generator(options.seed, "step", step, self.processes.rank).initial_seed()
        # torch.manual_seed writes down who called it, for devices that are not there yet, and keeps that for good.
        torch.default_generator.manual_seed(seed) if self.recognizer.device.type == "cpu" else torch.manual_seed(seed)
        with training_mode(self.recognizer, self.adapter.name, dropout=options.dropout, checkpointing=options.gradient_checkpointing):
            watched = DenseGradients([layer for layer, _ in self.adapter.placed() if layer.tensors()] if dense else [])
            computed = [one for batch in data.batches for one in parts(batch, at_once_s)]
            with watched, self._memory_watched(), self._changes(len(computed)) as changes:
                for batch in computed:
                    total += self._backward(batch.to(self.recognizer.device), counts, rows, scale)
                if changes is not None:
                    changes.push()
        self.processes.sum_gradients(self.trained)
        self.dense = {path: self.processes.sum(gradient) / scale for path, gradient in watched.found.items()}
        for parameter in self.trained if scale != 1.0 else ():
            if parameter.grad is not None:
                parameter.grad /= scale
        return self.processes.totals([total])[0]

    def _changes(self, passes: int) -> AbstractContextManager[StepChanges | None]:
        """ΔW made once in the step, where more than one pass would make it."""
        if passes > 1 or self.options.gradient_checkpointing or self.loss.needs_candidates:
            return made_once(piece for _, piece in self.adapter.placed())
        return nullcontext()

    @contextmanager
    def _memory_watched(self) -> Iterator[None]:
        """A block in which running out of memory is told from other errors.

        Raises: OutOfMemory where memory runs out within the block, here or in another process: all of them must hear of it before
        they wait for each other's gradients."""
        failed = False
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failed = True
        if self.processes.totals([float(failed)])[0]:
            raise OutOfMemory

    def forget(self) -> None:
        """Let no gradient be there, and the memory that was taken be free."""
        for parameter in self.trained:
            parameter.grad = None
        free(self.recognizer.device)

    def trial(self, batch: Batch) -> None:
        """Compute a batch forward and backward, as in a step, for what it costs; nothing is left of it."""
        before = {name: tensor.detach().clone() for name, tensor in self.adapter.state_dict().items()}
        options = self.options
        batch = guessed(batch, options.nbest) if self.loss.needs_candidates else batch
        try:
            with (
                torch.random.fork_rng(devices=[]),
                training_mode(self.recognizer, self.adapter.name, dropout=options.dropout, checkpointing=options.gradient_checkpointing),
            ):
                self._backward(batch.to(self.recognizer.device), [1.0] * len(self.loss.terms), len(batch))
        finally:
            self.adapter.load_state_dict(before)
            for parameter in self.trained:
                parameter.grad = None

    def _backward(self, batch: Batch, counts: Sequence[float], rows: int, scale: float = 1.0) -> float:
        with autocast(self.options.precision, self.recognizer.device, self.recognizer.dtype), collected() as added:
            encoded, route = known(self.recognizer, batch, self.states), self.adapter.route_of(batch.facts)
            output, batch = computed(self.recognizer, batch, self.loss, route=route, encoded=encoded, beams=self.options.nbest)
            loss = self.loss.value(output, batch, self.adapter, counts)
        if added:  # means over the rows at hand, so a batch weighs as many as it has
            loss = loss + sum(added) * (len(batch) / rows)
        (loss * scale).backward()
        return float(loss.detach())

    def clip(self, *, loss: float, step: int, lr: float, scale: float = 1.0) -> bool:
        """Clip the gradient to its largest norm; whether it is finite, without which the step is not to be taken.

        Args:   loss, step, lr: what the error tells. scale: of the loss; while that can still be lowered, nothing is wrong.
        Raises: Failure when it is not finite again and again.
        """
        norm = float(nn.utils.clip_grad_norm_([p for p in self.trained if p.grad is not None], self.options.clip or float("inf")))
        finite = norm == norm and abs(norm) != float("inf")
        self._not_finite = 0 if finite or scale > 1.0 else self._not_finite + 1
        if self._not_finite >= NOT_FINITE_IN_A_ROW:
            raise Failure(
                f"The gradient was not finite in {self._not_finite} steps in a row (loss {loss:.3g}, step {step}). "
                f"Lower --lr (it is {lr:g}), or use --precision no."
            )
        return finite
