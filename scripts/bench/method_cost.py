"""The time of a decoding step and of a training step with attached adapters, before and after, in one run.

    python scripts/bench/method_cost.py [--methods lora,loha] [--widths 384,768] [--seconds 5] [--against CHECKOUT] [--json]

A random Whisper of two layers and the given width decodes token by token for one row, and takes training steps (forward and backward
of one and of four batches of 4 rows of `--seconds`, without an optimizer), also with gradient checkpointing. Decoding is timed plain, with ΔW made anew
at each step and with ΔW kept; training with ΔW made by every pass and, where this checkout can, made once a step. With `--against`, another
checkout (an older commit's worktree) takes turns with this one, each in a process of its own, on the same inputs. The median of the turns
is told, in milliseconds; of another checkout, beside ours. Weight methods act on the attention's projections, others where they do by default.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

TOKENS = 8  # decoded in a turn
BATCHES = 4
COLUMNS = {
    "plain": "decode, no adapter",
    "anew": "decode, ΔW anew",
    "kept": "decode, ΔW kept",
    "one": "train, 1 batch",
    "four": f"train, {BATCHES} batches",
    "four once": f"train, {BATCHES}, ΔW once",
    "checkpointing": "train, checkpointing",
    "checkpointing once": "train, checkpointing, ΔW once",
}


class Bench:
    """What one checkout does: the worker's side."""

    def __init__(self, width: int, seconds: float):
        import torch
        from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

        from asrpeft.recognizer import BaseInfo, Recognizer

        torch.manual_seed(0)
        config = WhisperConfig(
            vocab_size=51_865,
            d_model=width,
            encoder_layers=2,
            decoder_layers=2,
            encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width,
            encoder_attention_heads=width // 64,
            decoder_attention_heads=width // 64,
            dropout=0.0,
        )
        made = WhisperForConditionalGeneration(config).eval()
        made.generation_config = GenerationConfig(no_timestamps_token_id=50_363, lang_to_id={"<|en|>": 50_259}, decoder_start_token_id=50_258)
        self.model = Recognizer(made, None, BaseInfo(id=f"random-{width}"))
        frames = round(50 * seconds)
        self.features, self.frames = torch.randn(4, 80, 2 * frames), torch.full((4,), frames)
        self.tokens = torch.randint(0, 50_000, (4, 20))
        with torch.no_grad():
            self.encoded = self.model.encode(self.features[:1], self.frames[:1])

    def attach(self, name: str) -> None:
        import torch

        from asrpeft.methods import method

        for there in list(self.model.adapters.names()):
            self.model.adapters.detach(there)
        adapter = self.model.adapt(name, name=name, where="attention" if method(name).changes_weights() else None)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))

    def turn(self, name: str) -> dict[str, float]:
        """Milliseconds of each."""
        cache = changes()
        limit, found = cache.limit, {"plain": self.decode(None)}
        cache.limit = 0
        for piece in self.model.adapters[name].pieces.values():
            cache.forget(piece)
        found["anew"] = self.decode(name)
        cache.limit = limit
        found["kept"] = self.decode(name)
        found["one"], found["four"] = self.step(name, 1), self.step(name, BATCHES)
        found["checkpointing"] = self.step(name, 1, checkpointing=True)
        if made_once() is not None:
            found["four once"], found["checkpointing once"] = self.step(name, BATCHES, once=True), self.step(name, 1, checkpointing=True, once=True)
        return found

    def decode(self, route: str | None) -> float:
        """Milliseconds a token, after one that is not counted."""
        import torch

        from asrpeft.decoding.start import new_cache

        with torch.no_grad(), self.model.route(route):
            _, cache = self.model.decode(self.encoded, torch.tensor([[50_258]]), cache=new_cache(self.model))
            started = time.perf_counter()
            for token in range(TOKENS):
                _, cache = self.model.decode(self.encoded, torch.tensor([[token]]), cache=cache)
        return 1e3 * (time.perf_counter() - started) / TOKENS

    def step(self, route: str, batches: int, *, checkpointing: bool = False, once: bool = False) -> float:
        """Milliseconds of the forward and backward passes of a step."""
        adapter = self.model.adapters[route].train()
        self.model.gradient_checkpointing(checkpointing)
        shared: Any = made_once()(adapter.pieces.values()) if once else nullcontext()
        started = time.perf_counter()
        with shared as held:
            for _ in range(batches):
                self.model(self.features, self.frames, self.tokens, route=route).logits.square().mean().backward()
            if held is not None:
                held.push()
        taken = 1e3 * (time.perf_counter() - started)
        self.model.gradient_checkpointing(False)
        adapter.zero_grad(), adapter.eval()
        return taken


def changes() -> Any:
    """The store of changes, whose module had another name."""
    try:
        from asrpeft.methods.change_cache import CHANGES
    except ImportError:
        from asrpeft.methods.kept import CHANGES
    return CHANGES


def made_once() -> Any:
    """What makes ΔW once a step, or None in a checkout that has not got it."""
    try:
        from asrpeft.methods.step_changes import made_once
    except ImportError:
        return None
    return made_once


def work() -> None:
    """Answers lines of JSON on standard input: a width, a method to attach, or a turn to take."""
    out, bench = os.fdopen(os.dup(1), "w"), None
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        answer: Any = None
        if "width" in asked:
            bench = Bench(asked["width"], asked["seconds"])
        elif "attach" in asked:
            bench.attach(asked["attach"])
        else:
            answer = bench.turn(asked["turn"])
        print(json.dumps(answer), file=out, flush=True)


class Worker:
    def __init__(self, checkout: Path):
        paths = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout, env=os.environ | {"PYTHONPATH": paths}
        )

    def ask(self, **question: Any) -> Any:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"A worker ended with status {self.process.wait()}: see above.")
        return json.loads(answer)


def measure(workers: dict[str, Worker], width: int, names: list[str], turns: int, seconds: float) -> list[dict[str, Any]]:
    """A row for each method and checkout; the checkouts take turns."""
    rows = []
    for worker in workers.values():
        worker.ask(width=width, seconds=seconds)
    for name in names:
        for worker in workers.values():
            worker.ask(attach=name), worker.ask(turn=name)  # the first is not counted
        taken: dict[str, list[dict[str, float]]] = {label: [] for label in workers}
        for _ in range(turns):
            for label, worker in workers.items():
                taken[label].append(worker.ask(turn=name))
        for label, own in taken.items():
            medians = {key: statistics.median(turn[key] for turn in own) for key in COLUMNS if key in own[0]}
            rows.append({"width": width, "method": name, "checkout": label} | medians)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,loha,dora,oft,randlora")
    parser.add_argument("--widths", default="384,768")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of audio in each of a batch's four rows")
    parser.add_argument("--against", type=Path, help="another checkout of this repository, to be timed in turn with this one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work()
    if given.against is not None and not (given.against / "asrpeft").is_dir():
        parser.error(f"--against {given.against}: there is no checkout of asrpeft")
    workers = {"this": Worker(Path(__file__).resolve().parents[2])} | ({"other": Worker(given.against.resolve())} if given.against else {})
    rows = [row for width in given.widths.split(",") for row in measure(workers, int(width), given.methods.split(","), given.turns, given.seconds)]
    if given.json:
        print(json.dumps(rows))
        return
    from asrpeft.report import Table  # of this checkout: a worker may be of one that has none

    shown = [(row["method"], row["width"], row["checkout"], *(f"{row[key]:.2f}" if key in row else "–" for key in COLUMNS)) for row in rows]
    print(Table.of("ms: " + "; ".join(f"{key}: {text}" for key, text in COLUMNS.items()), ("method", "width", "checkout", *COLUMNS), shown))


if __name__ == "__main__":
    main()
