"""How much audio is computed at once: as much as fits in memory, found before the first step, halved where it was too much.

A step learns from the batches that the options ask for, whatever the machine: a batch that does not fit is computed in parts whose
gradients add up to the batch's. So the budget changes what a step costs, and (but for the order of sums) not what it does.

    bytes per frame    = peak of one row of the longest utterance, forward and backward, over its frames
    budget in frames   = SAFETY · bytes that may be taken / bytes per frame
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from asrpeft.batching import by_budget
from asrpeft.errors import Failure
from asrpeft.options import TrainingOptions
from asrpeft.recognizer import IGNORED
from asrpeft.recognizer.context import ENCODER_FRAMES_PER_SECOND, FULL, JITTER
from asrpeft.training import memory
from asrpeft.training.batch import Batch
from asrpeft.training.checkpoints import State
from asrpeft.training.events import Message, Progress
from asrpeft.training.examples import Examples
from asrpeft.training.processes import Processes

SAFETY = 0.8  # of what may be taken: allocators waste some, and rows differ in their tokens
SHARE_OF_GPU, SHARE_OF_SYSTEM = 0.9, 0.5  # of what is free at the start: a GPU is rarely shared, a machine's memory nearly always
LOWER = 0.5  # after memory ran out
ROOMY = 4.0  # times a batch: worth a word
_SAID_BY_THE_CPU = ("can't allocate memory", "not enough memory", "cannot allocate memory")
_SAID_BY_THE_GPU = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in (*_SAID_BY_THE_CPU, *_SAID_BY_THE_GPU))


def free(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class OutOfMemory(Exception):
    """A step did not fit, in this process or in another of the run."""


class Budget:
    """How much of a run's audio is computed at once; stands in `state.budget_s`, so that a resumed run goes on with it.

    Args:
        trial: computes a batch forward and backward, and leaves nothing behind.
        generous: bytes that a frame takes at most, or more: where even so a batch fits, nothing is tried.
    """

    def __init__(
        self,
        state: State,
        options: TrainingOptions,
        processes: Processes,
        device: torch.device,
        *,
        trial: Callable[[Batch], None],
        generous: float,
        progress: Progress,
    ):
        self.state, self.options, self.processes, self.device = state, options, processes, device
        self.trial, self.generous, self.progress = trial, generous, progress

    @property
    def seconds(self) -> float | None:
        return self.state.budget_s

    def find(self, examples: Examples) -> None:
        """Find it, unless it was given, or a checkpoint says what it was found to be."""
        given, known = self.options.budget_seconds, self.state.budget_s
        if given is not None or known is not None:
            self.state.budget_s = min(one for one in (given, known) if one is not None)
            return
        wanted = self.options.batch_seconds
        surely = self.device.type != "cuda" and self.generous * wanted * ENCODER_FRAMES_PER_SECOND < SAFETY * self.may_take()
        self.state.budget_s = found = self.processes.least(wanted if surely else self._measured(largest_row(examples), wanted))
        if found < wanted:
            self.progress(
                Message(
                    f"About {found:,.0f} seconds of audio fit in memory at once, and a batch has {wanted:,.0f}: it is computed in parts, with "
                    f"the gradient of the whole."
                )
            )
        elif self.device.type == "cuda" and found > ROOMY * wanted:
            self.progress(
                Message(
                    f"About {found:,.0f} seconds of audio fit in memory at once: with a --batch-seconds nearer to that, steps are fewer and the GPU is busier."
                )
            )

    def _measured(self, row: Batch, wanted: float) -> float:
        """Seconds of audio that fit, by what the costliest row takes."""
        frames = int(row.frames[0])
        found = SAFETY * self.may_take() / max(1, memory.taken_by(lambda: self.trial(row), self.device)) * frames / ENCODER_FRAMES_PER_SECOND
        free(self.device)
        if self.device.type == "cuda":
            found = self._tried(row, found, wanted)
        return max(found, frames / ENCODER_FRAMES_PER_SECOND)

    def may_take(self) -> float:
        """Bytes that a step may take."""
        if self.options.memory_gb is not None:
            return self.options.memory_gb * 2**30
        return (SHARE_OF_GPU if self.device.type == "cuda" else SHARE_OF_SYSTEM) * memory.available(self.device)

    def _tried(self, row: Batch, seconds: float, wanted: float) -> float:
        """Compute as much as a batch will have: what was estimated from one row is believed once it went through."""
        while True:
            rows = max(1, int(min(seconds, wanted) * ENCODER_FRAMES_PER_SECOND / int(row.frames[0])))
            try:
                self.trial(part(row, [0] * rows))
                return seconds
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or rows == 1:
                    raise
            free(self.device)
            seconds = min(seconds, wanted) * LOWER

    def lower(self, batches: Sequence[Batch]) -> None:
        """What was computed at once was too much: from now on less is, here and in every other process.

        Raises: Failure where that was a single utterance.
        """
        at_once = [len(one) * int(one.frames.max()) for batch in batches for one in parts(batch, self.seconds)]
        alone = [int(batch.frames.max()) for batch in batches]
        tried, smallest = (max(some, default=0) / ENCODER_FRAMES_PER_SECOND for some in (at_once, alone))
        # In frames: in one process at least the largest part was of several rows, or nothing can become smaller.
        if not self.processes.totals([float(tried > smallest)])[0]:
            raise Failure(
                f"Memory ran out with a single utterance of {smallest:.0f} s of audio context. Use --gradient-checkpointing, --precision bf16, a "
                f"smaller base, or fewer layers (--where); or leave longer recordings out."
            )
        largest = -self.processes.least(-tried)
        self.state.budget_s = LOWER * min(largest, self.seconds or largest)
        self.progress(
            Message(
                f"Memory ran out. The step is taken again, and from now on at most {self.state.budget_s:,.0f} seconds of audio are computed at "
                f"once; what is learned stays the same."
            )
        )


def generous_bytes(config: Any) -> float:
    """More than a frame of audio takes in a step on a base of this config: activations of every layer in float32, and logits of the
    tokens that may go with it. (A layer of Whisper keeps about 34 numbers for each of its width.)"""
    layers, tokens = config.encoder_layers + config.decoder_layers, config.max_target_positions / FULL
    return 4.0 * (40 * config.d_model * layers + 3 * tokens * config.vocab_size)


def largest_row(examples: Examples) -> Batch:
    """A batch of one row as costly as any utterance of the corpus, of silence and of targets that mean nothing."""
    slowest = 1.0 if examples.augmentation is None else min(1.0, *examples.augmentation.speeds)
    frames = min(FULL, round(max(examples.frames(None)) / slowest * (1 + JITTER)) + ENCODER_FRAMES_PER_SECOND)
    n = max(len(before) + len(prompt) + len(text) for before, prompt, text in zip(examples.before, examples.prompts, examples.texts))
    ends = torch.full((1, n), examples.end)
    return Batch(
        ("",),
        ("",),
        torch.zeros(1, examples.n_mels, 2 * frames),
        torch.tensor([frames]),
        torch.tensor([frames]),
        ends,
        ends.clone(),
        keys=(None,),
        states=(None,),
    )


def parts(batch: Batch, seconds: float | None) -> Iterator[Batch]:
    """The batch in parts of at most `seconds` of audio context each, padding included (a single row may have more)."""
    frames = batch.frames.tolist()
    budget = len(batch) * max(frames) if seconds is None else int(seconds * ENCODER_FRAMES_PER_SECOND)
    if len(batch) * max(frames) <= budget:
        yield batch
        return
    for rows in by_budget(sorted(range(len(batch)), key=lambda i: frames[i]), lambda i: frames[i], batch_frames=budget):
        yield part(batch, rows)


def part(batch: Batch, rows: list[int]) -> Batch:
    """Some rows of a batch, without the padding that only the others needed."""
    index = torch.tensor(rows, device=batch.frames.device)
    longest = int(batch.frames[index].max())
    wanted = (batch.labels[index] != IGNORED).any(0).nonzero()
    n = int(wanted.max()) + 1 if len(wanted) else batch.labels.shape[1]
    return replace(
        batch,
        ids=tuple(batch.ids[i] for i in rows),
        texts=tuple(batch.texts[i] for i in rows),
        features=batch.features[index, :, : 2 * longest],
        frames=batch.frames[index],
        speech=batch.speech[index],
        tokens=batch.tokens[index, :n],
        labels=batch.labels[index, :n],
        keys=tuple(batch.keys[i] for i in rows) if batch.keys else (),
        states=tuple(batch.states[i] for i in rows) if batch.states else (),
        facts=tuple(batch.facts[i] for i in rows) if batch.facts else (),
        hypotheses=tuple(batch.hypotheses[i] for i in rows) if batch.hypotheses else (),
        weights=tuple(batch.weights[i] for i in rows) if batch.weights else (),
    )
