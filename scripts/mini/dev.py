"""A quick look at the word error rate while training: a small shard of real and synthesized speech, decoded greedily."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import jiwer
import torch

from scripts.mini.model import Recognizer
from scripts.mini.shards import Shard
from scripts.mini.tokens import Tokens


class Dev:
    def __init__(self, folder: Path):
        self.shard = Shard(folder)

    @torch.inference_mode()
    def measure(self, model: Recognizer, tokens: Tokens) -> dict[str, float]:
        """{"dev_real": WER in %, "dev_en": …} of each kind (synthesized speech by its language)."""
        was_training = model.training
        model.eval()
        groups, pairs = defaultdict(list), defaultdict(list)
        for row in self.shard.rows:
            groups[row.lang, math.ceil(row.frames / 100 + 0.2)].append(row)
        for (lang, context), rows in groups.items():
            encoded = model.encode(torch.from_numpy(self.shard.padded(rows, context)).transpose(1, 2))
            prefix = [tokens.sot, tokens.languages[f"<|{lang}|>"], tokens.transcribe, tokens.no_timestamps]
            for row, ids in zip(rows, model.greedy(encoded, prefix, tokens.eot, limit=40)):
                kind = "real" if row.source == "real" else row.lang
                pairs[kind].append((row.text, tokens.tokenizer.decode(ids, skip_special_tokens=True).strip()))
        model.train(was_training)
        return {f"dev_{kind}": round(100 * jiwer.wer([a for a, _ in both], [b for _, b in both]), 1) for kind, both in sorted(pairs.items())}
