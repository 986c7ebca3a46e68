"""The time of a decoding step and of a training step with attached adapters, with ΔW kept and made anew each time.

    python scripts/bench/method_cost.py [--methods lora,loha] [--widths 384,768] [--json]

A random Whisper of two layers and the given width decodes token by token for one row, and takes training passes (forward and
backward, without an optimizer) over 4 rows of 5 s. Plain, kept and made anew (`CHANGES.limit = 0`, what every step cost
before changes were kept) take turns in one run; the median of the turns is told, in milliseconds. Weight methods act on the attention's
projections, others where they act by default.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from asrpeft.decoding.start import new_cache
from asrpeft.methods import method
from asrpeft.methods.change_cache import CHANGES
from asrpeft.recognizer import BaseInfo, Recognizer
from asrpeft.report import Table

TOKENS = 8  # decoded in a turn


def base(width: int) -> Recognizer:
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=51_865, d_model=width, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
        encoder_attention_heads=width // 64, decoder_attention_heads=width // 64, dropout=0.0,
    )  # fmt: skip
    made = WhisperForConditionalGeneration(config).eval()
    made.generation_config = GenerationConfig(no_timestamps_token_id=50_363, lang_to_id={"<|en|>": 50_259}, decoder_start_token_id=50_258)
    return Recognizer(made, None, BaseInfo(id=f"random-{width}"))


@torch.no_grad()
def decode(model: Recognizer, encoded, route: str | None) -> float:
    """Milliseconds a token, after one that is not counted."""
    with model.route(route):
        _, cache = model.decode(encoded, torch.tensor([[50_258]]), cache=new_cache(model))
        started = time.perf_counter()
        for token in range(TOKENS):
            _, cache = model.decode(encoded, torch.tensor([[token]]), cache=cache)
    return 1e3 * (time.perf_counter() - started) / TOKENS


def step(model: Recognizer, features, frames, tokens, route: str) -> float:
    """Milliseconds of a forward and a backward pass."""
    adapter = model.adapters[route].train()
    started = time.perf_counter()
    model(features, frames, tokens, route=route).logits.square().mean().backward()
    taken = 1e3 * (time.perf_counter() - started)
    adapter.zero_grad(), adapter.eval()
    return taken


def measure(width: int, names: list[str], turns: int) -> list[dict]:
    model, limit = base(width), CHANGES.limit
    features, frames = torch.randn(4, 80, 500), torch.full((4,), 250)
    tokens = torch.randint(0, 50_000, (4, 20))
    with torch.no_grad():
        encoded = model.encode(features[:1], frames[:1])
    rows = []
    for name in names:
        adapter = model.adapt(name, name=name, where="attention" if method(name).changes_weights() else None)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        times: dict[str, list[float]] = {"plain": [], "anew": [], "kept": [], "train": []}
        for _ in range(turns):
            times["plain"].append(decode(model, encoded, None))
            CHANGES.limit = 0
            forget(adapter)
            times["anew"].append(decode(model, encoded, name))
            CHANGES.limit = limit
            times["kept"].append(decode(model, encoded, name))
            times["train"].append(step(model, features, frames, tokens, name))
        rows.append({"width": width, "method": name} | {key: statistics.median(own) for key, own in times.items()})
        model.adapters.detach(name)
    return rows


def forget(adapter) -> None:
    for piece in adapter.pieces.values():
        CHANGES.forget(piece)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,loha,dora,oft,randlora,vera,boft")
    parser.add_argument("--widths", default="384,768")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [row for width in given.widths.split(",") for row in measure(int(width), given.methods.split(","), given.turns)]
    if given.json:
        print(json.dumps(rows))
        return
    shown = [(row["method"], row["width"], *(f"{row[key]:.2f}" for key in ("plain", "anew", "kept")), f"{row['train']:.1f}") for row in rows]
    print(Table.of("ms: a decoded token three ways, a training pass", ("method", "width", "plain", "anew", "kept", "train"), shown))


if __name__ == "__main__":
    main()
