"""Train `data/mini` on shards, for a number of minutes, in pieces that can be interrupted.

    python -m scripts.mini.train --shards runs/mini/shards --work runs/mini/run --minutes 80

Short utterances first (a mixture of lengths did not align within 600 steps, this does within 300), a character CTC head
beside the cross-entropy, a learning rate of 1.5e-3 (Muon and AdamW) that decays over the last two fifths of the time, clean and
short speech before noisy and long, a fifth of it real, later more of it and put together anew from its words, and in the last
quarter full-length contexts and an average of the weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, ctc_loss

from scripts.mini import splice
from scripts.mini import tokens as vocabulary
from scripts.mini.batches import IGNORED, Batch, Material, Stage
from scripts.mini.dev import Dev
from scripts.mini.model import Recognizer

PEAK_RATE, FLOOR, WARMUP_STEPS = 1.5e-3, 0.02, 200
DECAY_FROM, LAST_FROM = 0.6, 0.72  # shares of the time: the rate falls from the first on; full contexts from the second
SPLICE_FROM = 0.35  # the share of the time after which the CTC head is trusted to say where real words begin and end
BLOCK = 4_000  # rows drawn at a time


def stage(step: int, progress: float) -> Stage:
    """What to draw at a step, `progress` being the share of the time that is spent."""
    last = progress > LAST_FROM
    lengths = ((350, 1.6), (550, 2.4), (850, 3.8))
    longest = next((seconds for until, seconds in lengths if step < until), 14.0 if last else 5.5)
    real = 0.0 if step < 550 else 0.3 if progress > SPLICE_FROM else 0.2  # as they are, the few sentences are learned by heart
    return Stage(longest, real, 0.06 if last else 0.02 if step > 1_000 else 0.0, step > 850, 0.35 if progress > 0.6 else 0.0)


def budget_s(step: int) -> float:
    """Seconds of audio context in a step: small steps until it aligns, then such that Muon takes a tenth of the time."""
    return 115.0 if step < 2_000 else 240.0


def rate(step: int, progress: float) -> float:
    decay = max(0.0, (progress - DECAY_FROM) / (1 - DECAY_FROM))
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(1, decay))) / 2)


@dataclass
class Losses:
    text: float = 0.0
    ctc: float = 0.0


def loss(model: Recognizer, batch: Batch, ctc_weight: float) -> tuple[torch.Tensor, Losses]:
    """Cross-entropy of the tokens plus the weighted CTC of the characters, which runs in fp32 on the true frames."""
    encoded = model.encode(batch.features.to(torch.bfloat16))
    logits = model.decode(encoded, batch.ids)
    text = cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, label_smoothing=0.05)
    spoken = [n for n, c in enumerate(batch.characters) if c and len(c) < int(batch.frames[n])]
    if not spoken or not ctc_weight:
        return text, Losses(text.item())
    scores = model.ctc(encoded[spoken].float()).log_softmax(-1).transpose(0, 1)
    characters = [batch.characters[n] for n in spoken]
    aligned = ctc_loss(scores, torch.tensor(sum(characters, [])), batch.frames[spoken], torch.tensor([len(c) for c in characters]), zero_infinity=True)
    return text + ctc_weight * aligned, Losses(text.item(), aligned.item())


def optimizers(model: Recognizer) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024; scaled as in arXiv:2502.16982, so it shares AdamW's rate) for the matrices of the layers,
    AdamW for everything else."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if ".layers." in name and p.ndim == 2]
    ours = {id(p) for p in matrices}
    tables = [p for _, p in named if p.ndim > 1 and id(p) not in ours]
    vectors = [p for _, p in named if p.ndim <= 1]
    groups = [{"params": tables, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True),
    ]


class Run:
    """The state of a training run, and its checkpoint on disk."""

    def __init__(self, work: Path, shards: Path, *, minutes: float, seed: int):
        torch.manual_seed(seed)
        self.work, self.minutes, self.seed = work, minutes, seed
        self.tokens = vocabulary.Tokens(vocabulary.load(work / "tokenizer"))
        self.characters = json.loads((work / "characters.json").read_text(encoding="utf-8"))
        self.model = Recognizer(self.tokens, len(self.characters))
        self.average: Recognizer | None = None
        # Computes in bf16 throughout (a seventh faster than autocast); the weights that are updated stay in fp32.
        self.worker = copy.deepcopy(self.model).bfloat16()
        self.worker.ctc.float()
        self.optimizers = optimizers(self.model)
        self.material = Material(shards, self.tokens, self.characters)
        self.step = self.block = self.seen = 0
        self.spent_s = 0.0
        if (work / "checkpoint.pt").exists():
            self.restore(torch.load(work / "checkpoint.pt", weights_only=True))

    def splice(self) -> None:
        """Finds where the words of the real speech are, once, and has it put together anew."""
        path = self.work / "cuts.json"
        if not path.exists():
            real = [shard for shard in self.material.shards.values() if any(row.source == "real" for row in shard.rows)]
            splice.save(path, {shard.name: splice.find(self.average or self.model, shard, self.material.character) for shard in real})
        self.material.splice(splice.load(path))

    @property
    def progress(self) -> float:
        return self.spent_s / 60 / self.minutes

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step, self.block, self.seen, self.spent_s = state["counts"]
        if state["average"] is not None and self.progress >= LAST_FROM:  # a run that is made longer averages anew
            self.average = copy.deepcopy(self.model)
            self.average.load_state_dict(state["average"])

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "average": self.average.state_dict() if self.average else None,
            "counts": [self.step, self.block, self.seen, self.spent_s],
        }
        torch.save(state, self.work / "checkpoint.part")
        os.replace(self.work / "checkpoint.part", self.work / "checkpoint.pt")

    def gradients(self, batches: list[Batch], ctc_weight: float) -> list[Losses]:
        """Leaves the gradients of a step in the fp32 weights."""
        ours, theirs = list(self.model.parameters()), list(self.worker.parameters())
        torch._foreach_copy_([p.data for p in theirs], [p.data for p in ours])
        total, parts = sum(len(b.ids) for b in batches), []
        for batch in batches:
            value, part = loss(self.worker, batch, ctc_weight)
            (value * (len(batch.ids) / total)).backward()
            parts.append(part)
        for p, worked in zip(ours, theirs):
            p.grad, worked.grad = None if worked.grad is None else worked.grad.float(), None
        return parts

    def update_average(self) -> None:
        """An exponential average over about 300 steps, over the last quarter of the time."""
        if self.progress < LAST_FROM:
            return
        if self.average is None:
            self.average = copy.deepcopy(self.model).requires_grad_(False)
        ours = [p.data for p in self.average.parameters()]
        torch._foreach_lerp_(ours, [p.data for p in self.model.parameters()], 1 / 300)

    def log(self, **values: object) -> None:
        with (self.work / "train.log").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.strftime("%H:%M:%S"), "step": self.step, **values}) + "\n")

    def steps(self):
        """Steps without end, made one block ahead by a thread; a block's draws depend on the seed and its number alone."""
        ready: queue.Queue = queue.Queue(maxsize=6)

        def produce() -> None:
            block = self.block
            while True:
                self.material.refresh()
                now = stage(self.step, self.progress)
                random = np.random.default_rng((self.seed, block))
                for step in self.material.steps(now, BLOCK, budget_s(self.step), random):
                    ready.put((block, step))
                block += 1

        threading.Thread(target=produce, daemon=True).start()
        while True:
            yield ready.get()

    def train(self, *, save_every_s: float = 180.0, dev_every_s: float = 1_200.0, dev: Dev | None = None) -> None:
        started = saved = measured = time.monotonic()
        before, window, rows, stopping = self.spent_s, [], 0, threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        self.model.train()
        spliced = False
        for block, batches in self.steps():
            self.block = block
            if not spliced and self.progress > SPLICE_FROM:
                self.splice()
                spliced = True
            now_rate = rate(self.step, self.progress)
            for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                group["lr"] = now_rate
            total = sum(len(b.ids) for b in batches)
            parts = self.gradients(batches, 1.0 if self.progress < 0.6 else 0.5)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in self.optimizers:
                if torch.isfinite(norm):
                    optimizer.step()
                optimizer.zero_grad()
            self.update_average()
            self.step, self.seen, rows = self.step + 1, self.seen + total, rows + total
            window.append(parts[0])
            clock = time.monotonic()
            self.spent_s = before + clock - started
            if len(window) == 25:
                self.log(
                    ce=round(sum(w.text for w in window) / 25, 3),
                    ctc=round(sum(w.ctc for w in window) / 25, 3),
                    rate=round(now_rate, 6),
                    norm=round(float(norm), 2),
                    seen=self.seen,
                    per_second=round(rows / (clock - self.ticked if hasattr(self, "ticked") else clock - started), 1),
                    minutes=round(self.spent_s / 60, 2),
                    shards=len(self.material.shards),
                )
                window, rows, self.ticked = [], 0, clock
            over = self.progress >= 1
            if over or stopping.is_set() or clock - saved > save_every_s:
                self.save()
                saved = clock
            if stopping.is_set():
                return
            if dev is not None and (over or clock - measured > dev_every_s):
                self.log(**dev.measure(self.average or self.model, self.tokens))
                measured = time.monotonic()
            if over:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="holds tokenizer/, characters.json, checkpoint.pt, train.log")
    parser.add_argument("--minutes", type=float, required=True, help="of training in all, over all pieces")
    parser.add_argument("--dev", type=Path, help="a shard to decode now and then")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run = Run(given.work, given.shards, minutes=given.minutes, seed=given.seed)
    run.train(dev=Dev(given.dev) if given.dev else None)


if __name__ == "__main__":
    main()
