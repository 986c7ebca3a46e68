"""Train `data/mini` on shards, for a number of minutes, in pieces that can be interrupted.

    python -m scripts.mini.train --shards runs/mini/shards --work runs/mini/run --minutes 80
    python -m scripts.mini.train --shards … --work … --minutes 27 --piece 8.5 --from data/mini --teacher TINY.EN --device cuda --loaders 14 --scale 2

Short utterances first (a mixture of lengths did not align within 600 steps, this does within 300), a character CTC head
beside the cross-entropy, a learning rate of 1.5e-3 (Muon and AdamW) that decays over the last two fifths of the time, clean and
short speech before noisy and long, a fifth of it real, later more of it and put together anew from its words, and in the last
quarter full-length contexts and an average of the weights. With --from it goes on from an exported model, past the short utterances.
With --teacher the encoder learns from a real Whisper's too, until the rate has fallen (see `teacher.py`).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, ctc_loss
from torch.utils.data import DataLoader, Dataset, get_worker_info

from scripts.mini import splice
from scripts.mini import tokens as vocabulary
from scripts.mini.batches import IGNORED, Batch, Material, Stage
from scripts.mini.dev import Dev
from scripts.mini.model import Recognizer
from scripts.mini.prepare import adopt
from scripts.mini.teacher import Lesson, Teacher, of_speech, taught_states

PEAK_RATE, FLOOR, WARMUP_STEPS = 1.5e-3, 0.02, 200
CONTINUED_RATE, BEGUN, WELL_ON = 5e-4, 0.4, 5_000  # of a run from weights that can hear: its peak, and how far on it begins
TAUGHT_UNTIL = 0.85  # share of the time; from DECAY_FROM on the teacher has less and less to say
AVERAGED_STEPS = 300
BEGINNING_STEPS = 12  # of speech from which the lesson's maps begin: 257 numbers for each of the teacher's 384 want some 50,000 frames
DECAY_FROM, LAST_FROM = 0.6, 0.72  # shares of the time: the rate falls from the first on; full contexts from the second
SPLICE_FROM = 0.35  # the share of the time after which the CTC head is trusted to say where real words begin and end
REAL_SHARE = 0.3  # of real speech, from SPLICE_FROM on
BLOCK, LOADED = 4_000, 1_000  # rows drawn at a time by a thread, and by each of several processes, which hand them over in shared memory


def stage(step: int, progress: float, real_later: float = REAL_SHARE) -> Stage:
    """What to draw at a step, `progress` being the share of the time that is spent."""
    last = progress > LAST_FROM
    lengths = ((350, 1.6), (550, 2.4), (850, 3.8))
    longest = next((seconds for until, seconds in lengths if step < until), 14.0 if last else 5.5)
    real = 0.0 if step < 550 else real_later if progress > SPLICE_FROM else 0.2  # as they are, the few sentences are learned by heart
    return Stage(longest, real, 0.06 if last else 0.02 if step > 1_000 else 0.0, step > 850, 0.35 if progress > 0.6 else 0.0)


def budget_s(step: int) -> float:
    """Seconds of audio context in a step: small steps until it aligns, then such that Muon takes a tenth of the time."""
    return 115.0 if step < 2_000 else 240.0


def rate(step: int, progress: float, *, peak: float = PEAK_RATE, warmup: int = WARMUP_STEPS) -> float:
    decay = max(0.0, (progress - DECAY_FROM) / (1 - DECAY_FROM))
    return peak * min(1.0, (step + 1) / warmup) * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(1, decay))) / 2)


@dataclass(frozen=True)
class Losses:
    text: Tensor
    ctc: Tensor | float = 0.0
    lesson: Tensor | float = 0.0


def loss(model: Recognizer, batch: Batch, ctc_weight: float, encoded: Tensor) -> tuple[Tensor, Losses]:
    """Cross-entropy of the tokens plus the weighted CTC of the characters, which runs in fp32 on the true frames.

    `encoded` (rows, T, width): the encoder's states of the batch.
    """
    logits = model.decode(encoded, batch.ids)
    summed = cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, label_smoothing=0.05, reduction="sum")
    text = summed / (batch.labels != IGNORED).sum().clamp(min=1)  # of speech without a text there is none
    spoken = [n for n, c in enumerate(batch.characters) if c and len(c) < int(batch.frames[n])]
    if not spoken or not ctc_weight:
        return text, Losses(text.detach())
    scores = model.ctc(encoded[spoken].float()).log_softmax(-1).transpose(0, 1)
    characters = [batch.characters[n] for n in spoken]
    targets = torch.tensor(sum(characters, []), device=scores.device)
    aligned = ctc_loss(scores, targets, batch.frames[spoken], torch.tensor([len(c) for c in characters]), zero_infinity=True)
    return text + ctc_weight * aligned, Losses(text.detach(), aligned.detach())


def optimizers(model: Recognizer, lesson: Lesson | None = None) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024; scaled as in arXiv:2502.16982, so it shares AdamW's rate) for the matrices of the layers,
    AdamW for everything else; one of its own for what the teacher's lesson has."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if ".layers." in name and p.ndim == 2]
    ours = {id(p) for p in matrices}
    tables = [p for _, p in named if p.ndim > 1 and id(p) not in ours]
    vectors = [p for _, p in named if p.ndim <= 1]
    groups = [{"params": tables, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    theirs = [] if lesson is None else [torch.optim.AdamW(lesson.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)]
    return [
        torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True),
        *theirs,
    ]


@dataclass(frozen=True)
class Plan:
    """How long and from where a run goes, and who teaches.

    Attributes:
        minutes, steps: how long in all; by steps a run that is cut and resumed comes to the weights of one that was not.
        begun: the share of the schedule that lies behind: 0 from nothing; from weights that can hear, what comes after they could.
        peak: the highest learning rate.
        scale: how many times as much speech a step holds as two cores like.
        teaching: the weight of the teacher's loss while it teaches; heard: the share of speech that it alone has something to say about.
        taught_every: of so many blocks of steps the teacher hears one, for it makes a step twice as long on a CPU.
        real: the share of real speech once it is put together anew.
        loaders: processes that make batches; 0: a thread does.
        piece: minutes after which this call saves and ends, wherever the run is.
    """

    minutes: float = 180.0
    steps: int | None = None
    seed: int = 1
    begun: float = 0.0
    peak: float = PEAK_RATE
    scale: float = 1.0
    teaching: float = 1.0
    heard: float = 0.0
    taught_every: int = 1
    real: float = REAL_SHARE
    loaders: int = 0
    device: str = "cpu"
    piece: float | None = None

    @property
    def warmup(self) -> int:
        return WARMUP_STEPS if self.steps is None else max(1, min(WARMUP_STEPS, self.steps // 10))

    @property
    def averaged(self) -> int:
        """Steps that the average of the weights looks back."""
        return AVERAGED_STEPS if self.steps is None else max(1, min(AVERAGED_STEPS, self.steps // 8))

    @property
    def told_every(self) -> int:
        """Steps between lines of the log."""
        return 25 if self.steps is None else max(1, min(25, self.steps // 20))

    def lesson_weight(self, progress: float) -> float:
        """Full until the rate falls, then less and less: what is left of the time belongs to the texts."""
        return self.teaching * min(1.0, max(0.0, (TAUGHT_UNTIL - progress) / (TAUGHT_UNTIL - DECAY_FROM)))


class Blocks(Dataset):
    """Blocks of steps: a block's draws depend on the seed, its number and its stage alone."""

    def __init__(self, material: Material, cuts: Path, seed: int):
        self.material, self.cuts, self.seed = material, cuts, seed
        self.read = 0  # when the cuts that are known were written

    def __getitem__(self, asked: tuple[int, Stage, float, int]) -> tuple[int, Iterable[list[Batch]]]:
        block, now, budget, rows = asked
        self.material.refresh()
        if self.cuts.exists() and (written := self.cuts.stat().st_mtime_ns) != self.read:
            self.material.splice(splice.load(self.cuts))
            self.read = written
        steps = self.material.steps(now, rows, budget, np.random.default_rng((self.seed, block)))
        if get_worker_info() is None:
            return block, steps  # one after another: a block of them fills a gigabyte
        return block, [[batch.half() for batch in step] for step in steps]


class Run:
    """The state of a training run, and its checkpoint on disk."""

    def __init__(self, work: Path, shards: Path, plan: Plan = Plan(), *, teacher: Teacher | None = None, start: Path | None = None):
        """`start`: an exported model to begin with, where there is no checkpoint yet; `work` then holds its tokenizer and characters."""
        torch.manual_seed(plan.seed)
        self.work, self.plan, self.device = work, plan, torch.device(plan.device)
        self.tokens = vocabulary.Tokens(vocabulary.load(work / "tokenizer"))
        self.characters = json.loads((work / "characters.json").read_text(encoding="utf-8"))
        self.model = Recognizer(self.tokens, len(self.characters))
        if start is not None:
            self.model.load_state_dict(Recognizer.shipped(start)[0].state_dict())
        self.model.to(self.device)
        if self.device.type != "cpu":
            self.model.whisper.set_attn_implementation("sdpa")
        self.average: Recognizer | None = None
        # Computes in bf16 throughout (a seventh faster than autocast); the weights that are updated stay in fp32.
        self.worker = copy.deepcopy(self.model).bfloat16()
        self.worker.ctc.float()
        self.teacher = None if teacher is None else teacher.to(self.device)
        config = self.model.whisper.config
        self.lesson = None if teacher is None else Lesson(teacher.pairs(config.encoder_layers), config.d_model, teacher.width).to(self.device)
        self.optimizers = optimizers(self.model, self.lesson)
        self.material = Material(shards, self.tokens, self.characters, paired=teacher is not None)
        self.step = self.block = self.place = self.seen = 0
        self.behind = WELL_ON if start is not None or plan.begun else 0  # steps whose curriculum is done with
        self.spent_s = 0.0
        self.ready = False  # whether the lesson's maps have begun
        if (work / "checkpoint.pt").exists():
            self.restore(torch.load(work / "checkpoint.pt", weights_only=True, map_location=self.device))

    def splice(self) -> None:
        """Finds where the words of the real speech are, in each shard once, and has it put together anew."""
        path = self.work / "cuts.json"
        self.material.refresh()
        known = splice.load(path) if path.exists() else {}
        real = [shard for shard in self.material.shards.values() if any(row.source == "real" for row in shard.rows)]
        if found := {shard.name: splice.find(self.average or self.model, shard, self.material.character) for shard in real if shard.name not in known}:
            splice.save(path, known | found)
            self.material.splice(known | found)

    @property
    def done(self) -> float:
        """The share of this run that is behind; `progress`: that of the whole schedule."""
        return self.spent_s / 60 / self.plan.minutes if self.plan.steps is None else self.step / self.plan.steps

    @property
    def progress(self) -> float:
        return self.plan.begun + (1 - self.plan.begun) * self.done

    def restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step, self.block, self.place, self.seen, self.spent_s = state["counts"]
        if self.lesson is not None and state["lesson"] is not None:
            self.lesson.load_state_dict(state["lesson"])
            self.ready = True
        if state["average"] is not None and self.progress >= LAST_FROM:  # a run that is made longer averages anew
            self.average = copy.deepcopy(self.model)
            self.average.load_state_dict(state["average"])

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "average": self.average.state_dict() if self.average else None,
            "lesson": self.lesson.state_dict() if self.lesson and self.ready else None,
            "counts": [self.step, self.block, self.place, self.seen, self.spent_s],
        }
        torch.save(state, self.work / "checkpoint.part")
        os.replace(self.work / "checkpoint.part", self.work / "checkpoint.pt")

    def gradients(self, batches: list[Batch], ctc_weight: float) -> list[Losses]:
        """Leaves the gradients of a step in the fp32 weights."""
        batches = [batch.to(self.device) for batch in batches]
        ours, theirs = list(self.model.parameters()), list(self.worker.parameters())
        torch._foreach_copy_([p.data for p in theirs], [p.data for p in ours])
        total, parts = sum(len(b.ids) for b in batches), []
        taught = self.plan.lesson_weight(self.progress) if self.teacher else 0.0
        for batch in batches:
            heard = self.worker.layers(batch.features.to(torch.bfloat16))
            value, part = loss(self.worker, batch, ctc_weight, heard[-1])
            if taught and batch.clean is not None and int(batch.taught.sum()):
                learned = self.lesson(of_speech(heard, batch), taught_states(self.teacher, batch))
                value, part = value + taught * learned, replace(part, lesson=learned.detach())
            (value * (len(batch.ids) / total)).backward()
            parts.append(part)
        for p, worked in zip(ours, theirs):
            p.grad, worked.grad = None if worked.grad is None else worked.grad.float(), None
        return parts

    def update_average(self) -> None:
        """An exponential average over a few hundred steps, over the last quarter of the time."""
        if self.progress < LAST_FROM:
            return
        if self.average is None:
            self.average = copy.deepcopy(self.model).requires_grad_(False)
        ours = [p.data for p in self.average.parameters()]
        torch._foreach_lerp_(ours, [p.data for p in self.model.parameters()], 1 / self.plan.averaged)

    def log(self, **values: object) -> None:
        with (self.work / "train.log").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.strftime("%H:%M:%S"), "step": self.step, **values}) + "\n")

    def steps(self):
        """(block, place in it, batches) without end, made a few steps ahead by a thread or by processes."""
        made: queue.Queue = queue.Queue(maxsize=6)
        produced = self.step - self.place  # steps before the next that is made

        def asked() -> Iterator[tuple[int, Stage, float, int]]:
            block = self.block
            while True:
                # By steps a block's stage is a matter of how many came before it, whoever makes it ahead of whom; by time, of the clock.
                done = self.done if self.plan.steps is None else produced / self.plan.steps
                now = stage(produced + self.behind, self.plan.begun + (1 - self.plan.begun) * done, self.plan.real)
                rows = round(BLOCK * min(1.0, self.plan.scale) if not self.plan.loaders else LOADED * max(1.0, self.plan.scale))
                rows = max(200, rows // self.plan.taught_every)  # smaller ones, of which those that are taught come the sooner
                taught = block % self.plan.taught_every == 0
                heard = self.plan.heard if now.real_share and taught else 0.0
                yield block, replace(now, heard=heard, taught=taught), self.plan.scale * budget_s(produced + self.behind), rows
                block += 1

        blocks = Blocks(self.material, self.work / "cuts.json", self.plan.seed)
        if self.plan.loaders:  # a block has more tensors than a process may have files open
            torch.multiprocessing.set_sharing_strategy("file_system")
        several = {"num_workers": self.plan.loaders, "prefetch_factor": 1, "persistent_workers": True} if self.plan.loaders else {}
        loader = DataLoader(blocks, batch_size=None, sampler=asked(), collate_fn=lambda block: block, **several)
        arriving = iter(loader)  # here: processes are not started from a thread

        def produce() -> None:
            nonlocal produced
            left = self.place  # of the first block, what was taken before the run was cut
            for block, steps in arriving:
                for place, step in enumerate(steps):
                    produced += 1
                    if place >= left:
                        made.put((block, place, step))
                left = 0

        threading.Thread(target=produce, daemon=True).start()
        while True:
            yield made.get()

    def begin_lesson(self) -> None:
        """Once: the maps from the pupil's states to the teacher's, from speech as it is trained on."""
        if self.lesson is None or self.ready:
            return
        self.material.refresh()
        rng = np.random.default_rng((self.plan.seed, 0, 0))
        steps = self.material.steps(stage(self.behind, self.progress), 50 * BEGINNING_STEPS, budget_s(0), rng)
        batches = [batch.to(self.device) for step in itertools.islice(steps, BEGINNING_STEPS) for batch in step[:1]]
        self.lesson.begin(self.model.eval(), self.teacher, batches)
        self.ready = True

    def take_step(self, batches: list[Batch]) -> tuple[list[Losses], dict[str, float]]:
        """One optimizer step; its losses, and the rate and gradient's norm."""
        now = rate(self.step, self.progress, peak=self.plan.peak, warmup=self.plan.warmup)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = now
        parts = self.gradients(batches, 1.0 if self.progress < 0.6 else 0.5)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            if torch.isfinite(norm):
                optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.seen += sum(len(b.ids) for b in batches)
        self.update_average()
        return parts, {"rate": round(now, 6), "norm": round(float(norm), 2)}

    def tell(self, window: list[Losses], **values: float) -> None:
        names = ("ce", "text"), ("ctc", "ctc"), *((("lesson", "lesson"),) if self.lesson else ())
        # Of the steps that had them: the teacher does not hear every one.
        values_of = {name: [value for part in window if (value := float(getattr(part, key)))] for name, key in names}
        means = {name: round(sum(found) / max(1, len(found)), 3) for name, found in values_of.items()}
        self.log(**means, **values, seen=self.seen, minutes=round(self.spent_s / 60, 2), shards=len(self.material.shards))

    def train(self, *, save_every_s: float = 180.0, dev_every_s: float = 1_200.0, dev: Dev | None = None) -> None:
        with asked_to_stop() as stopping:
            self.train_until(stopping, save_every_s, dev_every_s, dev)

    def train_until(self, stopping: threading.Event, save_every_s: float, dev_every_s: float, dev: Dev | None) -> None:
        started = saved = measured = told = time.monotonic()
        before, window, rows = self.spent_s, [], self.seen
        self.begin_lesson()
        self.model.train()
        spliced = False
        if self.behind:  # its CTC head is good enough from the start
            self.splice()
            spliced = True
        for block, place, batches in self.steps():
            if not spliced and self.progress > SPLICE_FROM:
                self.splice()
                spliced = True
            parts, values = self.take_step(batches)
            self.block, self.place = block, place + 1
            window.append(parts[0])
            clock = time.monotonic()
            self.spent_s = before + clock - started
            if len(window) == self.plan.told_every:
                self.tell(window, **values, per_second=round((self.seen - rows) / (clock - told), 1))
                window, rows, told = [], self.seen, clock
            over = self.done >= 1
            ends = over or stopping.is_set() or (self.plan.piece is not None and clock - started > 60 * self.plan.piece)
            if ends or clock - saved > save_every_s:
                self.save()
                saved = clock
                if spliced and not ends:
                    self.splice()  # what was rendered meanwhile
            if dev is not None and not stopping.is_set() and (ends or clock - measured > dev_every_s):
                self.log(**dev.measure(self.average or self.model, self.tokens))
                measured = time.monotonic()
            if ends:
                return


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM, within the block: the step under way is ended and saved. In another thread than the main one nothing sets it."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="holds tokenizer/, characters.json, checkpoint.pt, train.log")
    parser.add_argument("--minutes", type=float, default=180, help="of training in all, over all pieces")
    parser.add_argument("--steps", type=int, help="instead of --minutes: the same weights on any machine's clock")
    parser.add_argument("--piece", type=float, help="minutes after which this call saves and ends; the same call goes on")
    parser.add_argument("--from", dest="start", type=Path, help="an exported model to go on from, such as data/mini")
    parser.add_argument("--begun", type=float, help=f"share of the schedule that lies behind; default: 0, with --from {BEGUN}")
    parser.add_argument("--peak", type=float, help=f"learning rate; default: {PEAK_RATE:g}, with --from {CONTINUED_RATE:g}")
    parser.add_argument("--teacher", type=Path, help="a Whisper checkpoint whose encoder teaches (see scripts/mini/teacher.py)")
    parser.add_argument("--layers", choices=["last", "all"], default="last", help="of the teacher")
    parser.add_argument("--teaching", type=float, default=1.0, help="weight of the teacher's loss")
    parser.add_argument("--share-heard", type=float, default=0.0, help="share of real speech without a text")
    parser.add_argument("--taught-every", type=int, default=1, help="of so many blocks of steps the teacher hears one")
    parser.add_argument("--share-real", type=float, default=REAL_SHARE, help="of real speech, once it is put together anew")
    parser.add_argument("--dev", type=Path, help="a shard to decode now and then")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="how many times as much speech in a step as two cores like")
    parser.add_argument("--loaders", type=int, default=0, help="processes that make batches")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warm = given.start is not None
    plan = Plan(
        minutes=given.minutes,
        steps=given.steps,
        seed=given.seed,
        begun=(BEGUN if warm else 0.0) if given.begun is None else given.begun,
        peak=given.peak or (CONTINUED_RATE if warm else PEAK_RATE),
        scale=given.scale,
        teaching=given.teaching,
        heard=given.share_heard,
        taught_every=given.taught_every,
        real=given.share_real,
        loaders=given.loaders,
        device=given.device,
        piece=given.piece,
    )
    if warm and not (given.work / "characters.json").exists():
        adopt(given.work, given.start)
    teacher = Teacher.read(given.teacher, given.layers) if given.teacher else None
    run = Run(given.work, given.shards, plan, teacher=teacher, start=given.start)
    run.train(dev=Dev(given.dev) if given.dev else None)


if __name__ == "__main__":
    main()
