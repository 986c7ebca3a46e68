"""Rows of shards → batches: which rows, how much context, what targets. A batch holds rows of one context."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scripts.mini.shards import N_MELS, Row, Shard, complete
from scripts.mini.splice import Cuts, Splicer
from scripts.mini.tokens import Tokens

IGNORED = -100
FEW = ("real", "heard")  # speech of few speakers


@dataclass(frozen=True)
class Stage:
    """What a block of training draws from. `long` is the chance that a step adds rows of 8 to 30 s of context."""

    max_seconds: float
    real_share: float
    long: float
    masking: bool
    noisy: float = 0.35  # the share of synthesized speech that may have noise in it
    spliced: float = 0.8  # the share of real speech that is put together anew, once it is known where its words are
    heard: float = 0.0  # the share of real speech without a text, for a teacher
    taught: bool = True  # whether a teacher hears it too, where there is one


@dataclass(frozen=True)
class Batch:
    features: Tensor  # (rows, 80, 2·T) float32
    ids: Tensor  # (rows, n) decoder inputs
    labels: Tensor  # (rows, n) the next token, or IGNORED
    frames: Tensor  # (rows,) encoder frames that hold the utterance
    characters: list[list[int]]
    clean: Tensor | None = None  # (rows, 80, 2·T) what a teacher hears: at the same pace, but undisturbed, unmasked, with its own throat
    taught: Tensor | None = None  # (rows,) as `frames`, 0 where there is nothing to learn from a teacher

    def half(self) -> Batch:
        """Features in half precision, for the way from one process to another."""
        return replace(self, features=self.features.half(), clean=None if self.clean is None else self.clean.half())

    def to(self, device: torch.device) -> Batch:
        """The large tensors there; counts stay."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in ("features", "ids", "labels")}
        return replace(self, **moved, clean=None if self.clean is None else self.clean.to(device, non_blocking=True))


class Material:
    """All shards under a folder; `refresh` takes up those that have appeared since. `paired`: batches hold what a teacher hears too."""

    def __init__(self, root: Path, tokens: Tokens, characters: list[str], *, paired: bool = False):
        self.root, self.tokens, self.paired = root, tokens, paired
        self.character = {c: n for n, c in enumerate(characters)}
        self.shards: dict[str, Shard] = {}
        self.rows: dict[str, list[tuple[Shard, Row]]] = {"synth": [], "real": [], "heard": [], "noise": []}
        self.noisy: set[tuple[str, int]] = set()
        self.splicer = Splicer({})
        self.growing = threading.Lock()

    def splice(self, cuts: Cuts) -> None:
        """From now on, put real speech together anew."""
        splicer = Splicer(cuts)
        with self.growing:
            for shard in self.shards.values():
                splicer.add(shard)
            self.splicer = splicer  # at once, since a thread draws from it

    def refresh(self) -> None:
        with self.growing:
            for path in complete(self.root):
                if path.name not in self.shards:
                    self._add(Shard(path))

    def _add(self, shard: Shard) -> None:
        self.shards[shard.name] = shard
        self.splicer.add(shard)
        for row in shard.rows:
            self.rows[row.source].append((shard, row))
            if row.source == "synth" and _noisy(shard, row):
                self.noisy.add((shard.name, row.offset))

    def steps(self, stage: Stage, n: int, budget_s: float, random: np.random.Generator) -> Iterator[list[Batch]]:
        """Steps over about `n` drawn rows; a step is a list of batches whose losses are added."""
        fits = {kind: [r for r in rows if r[1].frames <= stage.max_seconds * 100] for kind, rows in self.rows.items()}
        quiet = [pair for pair in fits["synth"] if (pair[0].name, pair[1].offset) not in self.noisy] or fits["synth"]
        shares = {"real": stage.real_share if len(fits["real"]) > 200 else 0.0, "noise": 0.03}
        shares["heard"] = stage.heard if fits["heard"] else 0.0
        shares["synth"] = 1.0 - sum(shares.values())
        # Half of the real speech as it was recorded: there is little time, and what is to be recognized is not degraded.
        clean = [pair for pair in fits["real"] if pair[0].name == "real-00"]
        drawn = []
        for kind, share in shares.items():
            count = round(n * share)
            if kind == "real":
                pools = ((clean, count // 2), (fits["real"], count - count // 2))
            elif kind == "synth":
                pools = ((quiet, count - round(count * stage.noisy)), (fits["synth"], round(count * stage.noisy)))
            else:
                pools = ((fits[kind], count),)
            for pool, size in pools:
                drawn += [pool[i] for i in random.integers(len(pool), size=size)] if pool else []
        examples = [self.example(shard, row, stage, random) for shard, row in drawn]
        # Rows of like length share a step, so that hardly any of its context is padding but the margin.
        examples.sort(key=lambda example: len(example[1]))
        steps: list[tuple[float, list[tuple[Row, np.ndarray]]]] = []
        while examples:
            margin = 0.05 + random.exponential(0.25) if random.random() < 0.85 else random.uniform(0.5, 4)
            # The longest row left decides; the shortest of a block fill a smaller step.
            context = min(30.0, math.ceil(10 * (len(examples[-1][1]) / 100 + margin)) / 10)
            size = max(1, int(budget_s / context))
            steps.append((context, examples[-size:]))
            del examples[-size:]
        for number in random.permutation(len(steps)):
            step = [steps[number]]
            if random.random() < stage.long:
                context = 30.0 if random.random() < 0.6 else float(random.integers(8, 30))
                rows = [drawn[i] for i in random.integers(len(drawn), size=max(2, int(min(budget_s, 115.0) / context)))]
                step.append((context, [self.example(*pair, stage, random) for pair in rows]))
            yield [self.batch(context, part, stage, random) for context, part in step]

    def is_paired(self, stage: Stage) -> bool:
        """Whether batches of this stage hold what a teacher hears."""
        return self.paired and stage.taught

    def example(self, shard: Shard, row: Row, stage: Stage, random: np.random.Generator) -> tuple[Row, np.ndarray]:
        """A row, or one of the same speaker put together anew, and its features as they are trained on: (frames, 80), or paired (frames, 160)."""
        made, paired = None, self.is_paired(stage)
        if row.source == "real" and random.random() < stage.spliced:
            made = self.splicer.draw(shard, row, stage.max_seconds, random, paired=paired)
        row, features = made or (row, np.asarray(shard.features(row, paired=paired), np.float32))
        return row, self.perturbed(row, features, stage, random)

    def perturbed(self, row: Row, features: np.ndarray, stage: Stage, random: np.random.Generator) -> np.ndarray:
        """Stretched in time and along the mel axis (another pace, another throat): as many columns as before.

        Real speech, of which there are few speakers, is stretched more and nearly always, and heard through other microphones.
        A teacher hears the other pace, but its speakers' own throats and microphones.
        """
        few = row.source in FEW
        if not stage.masking or random.random() > (0.9 if few else 0.4):
            return features
        n = max(8, round(len(features) * (random.uniform(0.8, 1.25) if few else random.uniform(0.9, 1.12))))
        if len(features) <= stage.max_seconds * 100 < n:
            n = len(features)
        features = _interpolate(features, np.linspace(0, len(features) - 1, n))
        throat = random.uniform(0.86, 1.14) if few else random.uniform(0.93, 1.07)
        bins = np.clip(np.arange(N_MELS) * throat + random.uniform(-2, 2), 0, N_MELS - 1)
        ours, clean = features[:, :N_MELS], features[:, N_MELS:]
        features = np.ascontiguousarray(_interpolate(ours.T, bins).T)
        if few:  # a smooth curve of a few decibels (0.1 is 4 dB) over the mel bins
            curve = np.interp(np.arange(N_MELS), np.linspace(0, N_MELS - 1, 7), random.normal(0, random.uniform(0, 0.15), 7))
            features = np.maximum(features + curve.astype(np.float32), row.pad)
        return np.concatenate([features, clean], 1)

    def batch(self, context: float, part: list[tuple[Row, np.ndarray]], stage: Stage, random: np.random.Generator) -> Batch:
        n_frames, paired = round(context * 100), self.is_paired(stage)
        features = np.empty((len(part), n_frames, N_MELS * (1 + paired)), np.float32)
        for place, (row, values) in zip(features, part):
            values = values[:n_frames]
            place[: len(values)], place[len(values) :] = values, row.pad
            if stage.masking and (row.source in FEW or row.source == "synth" and random.random() < 0.3):
                _mask(place[: len(values), :N_MELS], random, most=5 if row.source in FEW else 3)
        sequences = [self.targets(row, len(values), random) for row, values in part]
        if stage.masking:
            sequences = [(self.misheard(ids, row, random), wanted) for (ids, wanted), (row, _) in zip(sequences, part)]
        n = max(len(ids) for ids, _ in sequences)
        ids = torch.full((len(part), n), self.tokens.eot)
        labels = torch.full((len(part), n), IGNORED)
        for number, (inputs, wanted) in enumerate(sequences):
            ids[number, : len(inputs)] = torch.tensor(inputs)
            labels[number, : len(wanted)] = torch.tensor(wanted)
        frames = torch.tensor([min(n_frames // 2, (len(values) + 1) // 2) for _, values in part])
        characters = [[self.character[c] for c in row.text] for row, _ in part]
        heard, clean = torch.from_numpy(features).transpose(1, 2).split(N_MELS, 1) if paired else (torch.from_numpy(features).transpose(1, 2), None)
        taught = torch.tensor([0 if row.source == "noise" else n for (row, _), n in zip(part, frames.tolist())])
        return Batch(heard, ids, labels, frames, characters, clean, taught)

    def misheard(self, ids: list[int], row: Row, random: np.random.Generator) -> list[int]:
        """Decoder inputs with some text tokens replaced by any others, so that the decoder listens instead of reciting.

        A base trained without this wrote whole sentences of its 1,140 real ones for what it had not understood: CER 67 % on
        new speakers, where the CTC head of the same encoder had 49 %.
        """
        share = 0.3 if row.source == "real" else 0.1
        return [t if t >= self.tokens.eot or random.random() > share else int(random.integers(256, self.tokens.eot)) for t in ids]

    def targets(self, row: Row, frames: int, random: np.random.Generator) -> tuple[list[int], list[int]]:
        """Decoder inputs and the token wanted after each."""
        t = self.tokens
        if row.source == "noise":
            # After SOT the no-speech token; had a language been given all the same, the end of the text.
            language = t.languages[f"<|{random.choice(['en', 'es', 'it', 'de', 'pt', 'pl', 'cs', 'fi', 'ru'])}|>"]
            return [t.sot, language, t.transcribe, t.no_timestamps], [t.no_speech, IGNORED, IGNORED, t.eot]
        if row.source == "heard":
            return [t.sot], [IGNORED]
        head = [t.sot, t.languages[f"<|{row.lang}|>"], t.transcribe]
        text = t.text(row.text)
        if row.source == "synth" and random.random() < 0.13:
            stretch = frames / row.frames
            whole = [*head, t.time(row.start * stretch), *text, t.time(row.end * stretch), t.eot]
        else:
            whole = [*head, t.no_timestamps, *text, t.eot]
        previous: list[int] = []
        if random.random() < 0.04:
            rows = self.rows[row.source]
            other = rows[random.integers(len(rows))][1]
            if other.lang == row.lang:
                previous = [t.previous, *t.text(other.text)[-40:]]
        return [*previous, *whole[:-1]], [IGNORED] * len(previous) + whole[1:]


def _noisy(shard: Shard, row: Row) -> bool:
    """Whether no frame at either end is silent: synthesized speech has silence there unless noise was added."""
    features = shard.features(row)
    return min(features[0].max(), features[-1].max()) > row.pad + 0.02


def _interpolate(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    low = at.astype(int)
    weight = (at - low)[:, None].astype(np.float32)
    return values[low] * (1 - weight) + values[np.minimum(low + 1, len(values) - 1)] * weight


def _mask(features: np.ndarray, random: np.random.Generator, *, most: int) -> None:
    """SpecAugment in place on (frames, 80): fewer than `most` bands of up to 14 bins, and spans of up to 0.3 s or a tenth."""
    fill = features.mean()
    for _ in range(random.integers(0, min(most, 4))):
        width = random.integers(1, 15)
        start = random.integers(0, N_MELS - width)
        features[:, start : start + width] = fill
    for _ in range(random.integers(0, most)):
        width = random.integers(1, max(2, min(30, len(features) // 10)))
        start = random.integers(0, max(1, len(features) - width))
        features[start : start + width] = fill
