"""What routing costs: a pass through encoder and decoder with LoRA routed by row, merged, and without any adapter.

    python scripts/bench/routing.py [--model FOLDER] [--rows 8] [--seconds 4] [--tokens 16] [--repeats 15] [--json]

The ways are timed in turns (so that a busy machine slows all alike) and each is told by its median and by the median of
its ratios to the base of the same turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from asrpeft.recognizer import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="a checkpoint; the embedded one if omitted")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = load(asked.model, threads=asked.threads, device=asked.device)
    plain = load(asked.model, device=asked.device)
    merged = load(asked.model, device=asked.device)
    names = ["a", "b", "c", "d"]
    for name in names:
        model.adapt("lora", name=name, where="attention,conv", rank=asked.rank)
    merged.adapt("lora", name="a", where="attention,conv", rank=asked.rank)
    merged.adapters.merge("a")
    frames = 50 * asked.seconds
    features = torch.randn(asked.rows, model.n_mels, 2 * frames)
    contexts, tokens = torch.full((asked.rows,), frames), torch.randint(0, 200, (asked.rows, asked.tokens), device=model.device)
    spread = [names[i % 4] for i in range(asked.rows)]
    ways = {
        "base": (plain, None),
        "attached, not routed": (model, None),
        "merged": (merged, "a"),
        "routed, one for all rows": (model, "a"),
        "routed, four by row": (model, spread),
        "routed, half without": (model, [n if i % 2 else None for i, n in enumerate(spread)]),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with torch.no_grad():
        for turn in range(asked.repeats + 2):
            for way, (recognizer, route) in ways.items():
                started = time.perf_counter()
                with recognizer.route(route):
                    recognizer(features, contexts, tokens)
                if recognizer.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn >= 2:  # warm
                    seconds[way].append(time.perf_counter() - started)
    sides = {
        way: {"milliseconds": 1000 * statistics.median(own), "ratio": statistics.median(a / b for a, b in zip(own, seconds["base"]))}
        for way, own in seconds.items()
    }
    if asked.json:
        print(json.dumps({"ways": sides, **vars(asked)}))
        return
    print(f"{model.info.id}, {asked.rows} rows of {asked.seconds} s and {asked.tokens} tokens, rank {asked.rank}, median of {asked.repeats}")
    for way, own in sides.items():
        print(f"{way:26} {own['milliseconds']:8.1f} ms   {own['ratio']:5.2f} × base")


if __name__ == "__main__":
    main()
