"""WER of an adapter against the silence after the speech, by how much the audio context was jittered in training.

    python scripts/bench/padding.py [--rules 0,2s,0.25] [--utterances 480] [--epochs 8] [--json]

A rule is the most silence that is added in training: `2s` seconds, or a share of the speech (the one in use is
`asrpeft.recognizer.context.JITTER`). LoRA learns Swahili from data/demo on the embedded base with each; then 100 test sentences are
transcribed with 0 to 30 s more context than their own, greedily. Trained alike but for the rule: the same rows, order and seed.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch

from asrpeft.corpus import read
from asrpeft.decoding import batch as decoding
from asrpeft.decoding import transcribe_corpus
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import context, load
from asrpeft.report import Table
from asrpeft.scoring import score
from asrpeft.training import TrainingOptions, examples, train
from asrpeft.training.examples import TrainingData

ROOT = Path(__file__).resolve().parents[2]
PADDINGS = (0, 1, 2, 4, 8, 30)  # seconds
OWN = context.context_frames


def rule_of(text: str) -> Any:
    """A `context_frames` whose jitter is as `text` says."""

    def frames(n_samples: int, mode: str, *, jitter_seed: str | None = None) -> int:
        own = OWN(n_samples, mode)
        if jitter_seed is None:
            return own
        rng = random.Random(jitter_seed)
        if text.endswith("s"):
            return min(context.FULL, own + 50 * rng.randint(0, int(text[:-1])))
        return min(context.FULL, own + 50 * int(rng.uniform(0.0, float(text)) * n_samples / 16_000 + rng.random() * bool(float(text))))

    return frames


def measure(rule: str, asked: argparse.Namespace) -> dict[str, Any]:
    recognizer = load(None, threads=asked.threads)
    data = read(ROOT / "data/demo/sw-train.parquet").shuffle(0)[: asked.utterances]
    test = read(ROOT / "data/demo/sw-test.parquet").shuffle(0)[: asked.test]
    torch.manual_seed(0)
    recognizer.adapt("lora", name="x", where="attention,conv", lang="sw", context="auto", rank=16, alpha=32.0)
    examples.context_frames = rule_of(rule)
    options = TrainingOptions(epochs=asked.epochs, lr=3e-3, nonspeech_share=0.0, workers=0, seed=0)
    train(recognizer, "x", TrainingData(data, recognizer.prompt(lang="sw", adapter="x")), options=options)
    frames = [rule_of(rule)(round(16_000 * u.duration), "auto", jitter_seed=f"{u.id}-{epoch}") for u in data for epoch in range(asked.epochs)]
    told: dict[str, Any] = {"rule": rule, "mean_context_s": sum(frames) / len(frames) / 50, "wer": {}}
    as_asked = DecodingOptions(context="auto", autocast=True, stop_loops=False)
    for padding in PADDINGS:
        decoding.context_frames = lambda n, mode, more=50 * padding: min(context.FULL, OWN(n, mode) + more)
        found = transcribe_corpus(recognizer, test, adapter="x", lang="sw", options=as_asked)
        told["wer"][padding] = score([u.text for u in found.utterances], found.texts, bootstrap=None).wer
    examples.context_frames = decoding.context_frames = OWN
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default="0,2s,0.25")
    parser.add_argument("--utterances", type=int, default=480)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = [measure(rule, asked) for rule in asked.rules.split(",")]
    if asked.json:
        print(json.dumps(vars(asked) | {"rules": found}))
        return
    rows = [(one["rule"], f"{one['mean_context_s']:.2f}", *(f"{100 * wer:.1f}" for wer in one["wer"].values())) for one in found]
    print(Table.of("WER, %, by silence behind the speech", ("rule", "context s", *(f"+{padding} s" for padding in PADDINGS)), rows))


if __name__ == "__main__":
    main()
