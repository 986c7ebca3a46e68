"""New utterances from parts of real ones: cut between words, joined within a speaker (after Lam et al., 2021, arXiv:2104.01393).

1,140 real sentences are soon known by heart: without this the base had 0 % WER on them and 62 % on new speakers. Where the
words lie is found by the CTC head of the base in training, once it is good enough.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchaudio.functional import forced_align

from scripts.mini.model import Recognizer
from scripts.mini.shards import Row, Shard

Cuts = dict[str, dict[int, list[int]]]  # shard → offset of the row → frames between its words, both ends included
_PARTS = (0.3, 0.45, 0.25)  # shares of new utterances made from one, two, three parts
_MOST_WORDS = 5
_BLEND = 3  # frames over which one part fades into the next


@torch.inference_mode()
def find(model: Recognizer, shard: Shard, character: dict[str, int], rows_at_once: int = 32) -> dict[int, list[int]]:
    """Where the words of each row of a shard begin and end: in the quietest frame between two words of the CTC head's alignment.

    A row whose text does not fit into its frames is left out.
    """
    was_training, found = model.training, {}
    model.eval()
    groups = defaultdict(list)
    for row in shard.rows:
        groups[math.ceil(row.frames / 100 + 0.2)].append(row)
    for context, rows in groups.items():
        for start in range(0, len(rows), rows_at_once):
            part = rows[start : start + rows_at_once]
            features = shard.padded(part, context)
            scores = model.ctc(model.encode(torch.from_numpy(features).transpose(1, 2))).log_softmax(-1).cpu()
            for row, frames, row_scores in zip(part, features, scores):
                try:
                    path, _ = forced_align(row_scores[None, : (row.frames + 1) // 2], torch.tensor([[character[c] for c in row.text]]))
                except RuntimeError:  # more characters than frames
                    continue
                found[row.offset] = _between(path[0].tolist(), row, frames)
    model.train(was_training)
    return found


def _between(path: list[int], row: Row, frames: np.ndarray) -> list[int]:
    """Cuts from the aligned label of each encoder frame, which is two frames of features."""
    places = [2 * n for n, label in enumerate(path) if label and (n == 0 or label != path[n - 1])]
    energy, cuts, at = frames.mean(1), [0], 0
    for word in row.text.split(" ")[:-1]:
        at += len(word)
        low, high = places[at - 1] + 1, places[at + 1]  # its last character and the first of the next word; a space between
        cuts.append(low + int(energy[low : max(high, low + 1)].argmin()))
        at += 1
    return [*cuts, row.frames]


class Splicer:
    """Draws new utterances from the rows of one speaker in one shard."""

    def __init__(self, cuts: Cuts):
        self.cuts = cuts
        self.speakers: dict[tuple[str, str], list[Row]] = defaultdict(list)

    def add(self, shard: Shard) -> None:
        known = self.cuts.get(shard.name, {})
        for row in shard.rows:
            if row.offset in known:
                self.speakers[shard.name, row.voice].append(row)

    def draw(self, shard: Shard, row: Row, longest: float, random: np.random.Generator, *, paired: bool = False) -> tuple[Row, np.ndarray] | None:
        """An utterance of the speaker of `row`, at most `longest` seconds, and its features, as of a row; None without cuts.

        `paired`: with what a teacher hears (see `Shard.features`).
        """
        rows = self.speakers.get((shard.name, row.voice))
        if not rows:
            return None
        words: list[str] = []
        features = np.empty((0, 160 if paired else 80), np.float32)
        parts = 1 + int(random.choice(3, p=_PARTS))
        for _ in range(parts):
            source = rows[random.integers(len(rows))]
            cuts, text = self.cuts[shard.name][source.offset], source.text.split(" ")
            size = min(len(text), int(random.integers(2 if parts == 1 else 1, _MOST_WORDS + 1)))
            first = int(random.integers(len(text) - size + 1))
            part = np.asarray(shard.features(source, paired=paired)[cuts[first] : cuts[first + size]], np.float32)
            if words and len(features) + len(part) > 100 * longest:
                break
            features, words = _join(features, part), words + text[first : first + size]
        return replace(row, frames=len(features), text=" ".join(words), start=0.0, end=len(features) / 100), features


def _join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    n = min(_BLEND, len(a), len(b))
    if n == 0:
        return b if len(b) else a
    weight = (np.arange(1, n + 1, dtype=np.float32) / (n + 1))[:, None]
    return np.concatenate([a[:-n], a[-n:] * (1 - weight) + b[:n] * weight, b[n:]])


def load(path: Path) -> Cuts:
    return {shard: {int(offset): cuts for offset, cuts in rows.items()} for shard, rows in json.loads(path.read_text()).items()}


def save(path: Path, cuts: Cuts) -> None:
    path.with_suffix(".part").write_text(json.dumps(cuts))
    path.with_suffix(".part").replace(path)
