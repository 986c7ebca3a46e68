"""Adapters in the upper layers of an encoder, trained by CTC on states of the lower ones that are computed once.

    x_k = lower layers(speech)      computed once, in half precision on disk
    loss = CTC(head(upper layers(x_k), adapter))      every step: a third of the work of the whole encoder for two of four layers

Where no adapter acts below layer k, nothing there changes; so many methods, rates and seeds can be compared on a processor in the time
that one run through the whole encoder takes. A row's context is its speech and half a second, in training and test alike. The loop
is the product's in everything that a method sees: its pieces and hooks, its plan, AdamW with the method's facts, clipping, warm-up
and cosine. Used by `rates.py --upper N` and `real_encoder.py --upper N`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asrpeft.adapters import Adapter
from asrpeft.adapters.ctc import CTCHead, frames_needed
from asrpeft.audio.features import log_mel
from asrpeft.corpus import Corpus
from asrpeft.decoding.ctc import best_path
from asrpeft.methods import Plan, method
from asrpeft.methods.plan import collected
from asrpeft.options import TrainingOptions
from asrpeft.recognizer import Recognizer, speech_frames
from asrpeft.training.examples import Examples, TrainingData
from asrpeft.training.frozen import only, trained_parameters, training_mode
from asrpeft.training.optimizer import learning_rate, optimizer_for, set_rate
from asrpeft.training.precision import autocast
from asrpeft.training.schedules import rate
from scripts.bench.ctc_start import States, kept_states, write_states

MARGIN = 25  # frames of silence after the speech, as of the shortest context `auto`
TRIED = "tried"  # what the adapter under training is called


class _Reached(Exception):
    """The lower layers are done."""


@dataclass
class Upper:
    """The upper `count` layers of a recognizer's encoder."""

    recognizer: Recognizer
    count: int

    @property
    def encoder(self) -> nn.Module:
        return self.recognizer.base.model.encoder

    def place(self, where: str) -> str:
        """The part of `where` that lies in these layers."""
        below = len(self.encoder.layers) - self.count
        parts = [f"-encoder.layers.{{0..{below - 1}}}"] if below else []
        conv = ["-conv"] if "conv" in where.split(",") else []
        return ",".join([where, "-decoder", *conv, *parts])

    @torch.no_grad()
    def lower(self, features: Tensor, frames: Tensor) -> Tensor:
        """What the first of these layers reads: (rows, frames, dim)."""
        found: list[Tensor] = []

        def reached(module: nn.Module, args: Any) -> None:
            found.append(args[0])
            raise _Reached

        handle = self.encoder.layers[-self.count].register_forward_pre_hook(reached)
        try:
            with autocast("auto", self.recognizer.device, self.recognizer.dtype):
                self.recognizer.encode(features, frames)
        except _Reached:
            pass
        finally:
            handle.remove()
        return found[0]

    def __call__(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states (rows, frames, dim) below these layers → the encoder's states."""
        inside = torch.arange(states.shape[1]) < lengths[:, None]
        x = states.to(self.recognizer.device)
        keys = None if bool(inside.all()) else inside[:, None, None, :].to(x.device)
        for layer in self.encoder.layers[-self.count :]:
            x = layer(x, keys)
        return self.encoder.layer_norm(x)

    def heard(self, corpus: Corpus, epochs: Sequence[int | None], *, seed: int, path: Path, batch: int = 12) -> States:
        """The lower layers' states of a corpus, in each of `epochs` as a run with `seed` hears it (None: as it was recorded)."""
        if (kept := kept_states(path)) is not None:
            return kept
        prompt, augmentation = self.recognizer.prompt(lang="en"), TrainingOptions(seed=seed).augmentation()
        examples = Examples(TrainingData(corpus, prompt), self.recognizer, context="auto", seed=seed, augmentation=augmentation)
        frames: list[np.ndarray] = []
        texts, speakers = [], []
        for epoch in epochs:
            rows = sorted(range(len(examples)), key=lambda row: examples.corpus[row].duration)
            for first in range(0, len(rows), batch):
                chosen = rows[first : first + batch]
                sounds = [self._features(examples, row, epoch) for row in chosen]
                lengths = torch.tensor([one.shape[1] // 2 for one in sounds])
                padded = torch.stack([F.pad(one, (0, 2 * int(lengths.max()) - one.shape[1])) for one in sounds])
                states = self.lower(padded, lengths)
                frames += [one[:n].float().cpu().numpy().astype(np.float16) for one, n in zip(states, lengths.tolist())]
                texts += [examples.corpus[row].text for row in chosen]
                speakers += [examples.corpus[row].speaker or "" for row in chosen]
        return write_states(path, frames, texts, speakers)

    @staticmethod
    def _features(examples: Examples, row: int, epoch: int | None) -> Tensor:
        """(mels, 2·(speech + margin))."""
        samples, id_ = examples.samples(row), examples.corpus[row].id
        changed = examples.augmentation if epoch is not None else None
        samples = samples if changed is None else changed.samples(samples, id_, epoch)
        speech = speech_frames(len(samples))
        features = log_mel(samples, n_mels=examples.n_mels, n_frames=2 * (speech + MARGIN))
        return features if changed is None else changed.features(features, 2 * speech, id_, epoch)


@dataclass(frozen=True)
class Task:
    """What is learned from and judged by. `head`: every run starts from a copy of it."""

    upper: Upper
    train: States
    dev: States
    test: States | None
    head: CTCHead

    def measured(
        self,
        name: str,
        *,
        lr: float | None,
        seed: int,
        steps: int,
        batch: int,
        head_lr: float,
        where: str | None = None,
        settings: dict[str, Any] | None = None,
        only_loss: bool = False,
    ) -> dict[str, Any]:
        """One run of a fresh adapter, which is taken off again; `name` None: the head alone, as it is."""
        with self._attached(name, where or method(name).where, settings or {}, seed) as adapter:
            options = TrainingOptions(steps=max(1, steps), lr=lr, head_lr=head_lr, loss="ctc", seed=seed)
            peak = learning_rate(adapter.method, options, config=adapter.config, width=self.upper.recognizer.base.config.d_model)
            began = time.monotonic()
            finite = fit(self.upper, adapter, self.train, options, lr=peak, batch=batch) if steps else True
            taken = time.monotonic() - began
            found = {"trained": adapter.trained_parameters(), "steps": steps, "used_lr": peak, "seconds_a_step": taken / max(1, steps)}
            loss = dev_loss(self.upper, adapter, self.dev) if finite else math.inf
            found["dev_loss"] = loss if math.isfinite(loss) else None
            return found if only_loss or self.test is None else found | scores(self.upper, adapter, self.test, seed=seed)

    @contextmanager
    def _attached(self, name: str, where: str, settings: dict[str, Any], seed: int) -> Iterator[Adapter]:
        recognizer = self.upper.recognizer
        torch.manual_seed(seed)
        adapter = recognizer.adapt(name, name=TRIED, where=self.upper.place(where), lang="en", context="auto", **settings)
        try:
            adapter.ctc = CTCHead.for_texts(recognizer.base.config.d_model, self.train.texts, like=self.head).to(recognizer.device)
            yield adapter
        finally:
            recognizer.adapters.detach(TRIED)


def fit(upper: Upper, adapter: Adapter, data: States, options: TrainingOptions, *, lr: float, batch: int) -> bool:
    """Take the steps; False where the gradient was not finite, which ends the run."""
    recognizer, steps, plan, head = upper.recognizer, options.steps or 1, adapter.plan(), adapter.ctc
    if plan is not None and (type(plan).before is not Plan.before or type(plan).wants_gradients is not Plan.wants_gradients):
        raise ValueError(f"{adapter.method.name} needs passes of data, or gradients of frozen weights, of the whole base: measure it without --upper.")
    with only(recognizer, TRIED):
        trained = trained_parameters(recognizer, TRIED)
        optimizer = optimizer_for(trained, options, lr=lr, facts=adapter.facts)
        if plan is not None:
            plan.optimizer = optimizer
        labels = [head.labels(text) for text in data.texts]
        fits = [row for row in range(len(data)) if labels[row] and frames_needed(labels[row]) <= data.lengths[row] - MARGIN]
        for step in range(steps):
            share = rate(options.schedule, (step + 0.5) / steps, warmup=options.warmup)
            set_rate(optimizer, share)
            rows = np.random.default_rng((options.seed, step)).choice(fits, batch, replace=False).tolist()
            torch.manual_seed(1000 * options.seed + step)
            with training_mode(recognizer, TRIED, dropout=0.0, checkpointing=False):
                with autocast("auto", recognizer.device, recognizer.dtype), collected() as added, recognizer.route(TRIED):
                    loss = ctc_loss(upper, adapter, data, rows) / sum(len(labels[row]) for row in rows)
                loss = loss + sum(added) / max(1, len(added)) if added else loss
                penalty = None if plan is None else plan.penalty(adapter)
                (loss if penalty is None else loss + penalty).backward()
            if plan is not None:
                plan.before_step(adapter, step=step, progress=step / steps)
            norm = float(nn.utils.clip_grad_norm_([p for p in trained.values() if p.grad is not None], options.clip))
            if not math.isfinite(norm):
                return False
            optimizer.step()
            if plan is not None:
                plan.after_step(adapter, step=step, progress=(step + 1) / steps, lr=share * lr)
            optimizer.zero_grad(set_to_none=True)
        if plan is not None:
            plan.finish(adapter)
    return True


def ctc_loss(upper: Upper, adapter: Adapter, data: States, rows: Sequence[int]) -> Tensor:
    """Summed over the rows' characters."""
    states = nn.utils.rnn.pad_sequence([data.of(row) for row in rows], batch_first=True)
    lengths = torch.from_numpy(data.lengths[list(rows)])
    labels = [adapter.ctc.labels(data.texts[row]) for row in rows]
    log_probs = adapter.ctc(upper(states, lengths))
    counts = torch.tensor([len(one) for one in labels])
    targets = torch.tensor([label for one in labels for label in one], device=log_probs.device)
    with torch.autocast(log_probs.device.type, enabled=False):
        return F.ctc_loss(log_probs.transpose(0, 1), targets, lengths - MARGIN, counts, reduction="sum")


@torch.no_grad()
def dev_loss(upper: Upper, adapter: Adapter, data: States, *, batch: int = 16) -> float:
    """Per character, without any chance."""
    order = sorted(range(len(data)), key=lambda row: data.lengths[row])
    total = 0.0
    for first in range(0, len(order), batch):
        with autocast("auto", upper.recognizer.device, upper.recognizer.dtype), upper.recognizer.route(TRIED):
            total += float(ctc_loss(upper, adapter, data, order[first : first + batch]))
    return total / sum(len(adapter.ctc.labels(text)) for text in data.texts)


@torch.no_grad()
def scores(upper: Upper, adapter: Adapter, data: States, *, seed: int, batch: int = 16) -> dict[str, Any]:
    """Error rates of the head's best paths, with intervals over speakers."""
    from scripts.bench.real_encoder import measures

    order, texts = sorted(range(len(data)), key=lambda row: data.lengths[row]), [""] * len(data)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        lengths = torch.from_numpy(data.lengths[rows])
        with autocast("auto", upper.recognizer.device, upper.recognizer.dtype), upper.recognizer.route(TRIED):
            states = upper(nn.utils.rnn.pad_sequence([data.of(row) for row in rows], batch_first=True), lengths)
        for row, log_probs, n in zip(rows, adapter.ctc(states), (lengths - MARGIN).tolist()):
            texts[row] = " ".join(adapter.ctc.spell(best_path(log_probs[:n])).split())
    return measures(data.texts, texts, data.speakers, seed=seed)
