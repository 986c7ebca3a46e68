"""Memory of training above the loaded model, side by side at one geometry: the usual recipe, and what lowers it here.

    python scripts/bench/memory.py [--shape mini|tiny|base] [--utterances 16] [--turns 3] [--only usual,lora,…] [--json]

    usual         LoRA by `peft` in a `Seq2SeqTrainer`, float32: features of 30 s, 8 rows a batch
    usual-bf16    the same with bf16=True
    lora          ours at the same geometry: LoRA (rank 32 on q_proj and v_proj), 30 s, 8 rows a batch, bf16
    lora-float32  in float32
    lora-fa       A stays as it starts (LoRA-FA, --set train=B), bf16
    checkpointing lora with --gradient-checkpointing
    fa-checkpointing   both
    parts         lora, computed in parts of 60 s of audio at once (--budget-seconds 60): the same gradient
    lora-int8     lora on a base in 8 bits (--base-precision int8; needs torchao)
    own           ours with its defaults: as much audio context as each utterance needs, batches of 60 s

Each is a process of its own; counted is the peak of its resident memory above what it held with the model loaded and its allocators
warm, medians over turns. Speed is told beside: what lowers memory may cost time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.report import Table  # noqa: E402
from scripts.bench.training import ROOT, SHAPES, run, shaped  # noqa: E402

_SAME: dict[str, Any] = {"by": "ours", "same": True, "precision": "bf16"}
SIDES: dict[str, dict[str, Any]] = {
    "usual": {"by": "usual", "precision": "no"},
    "usual-bf16": {"by": "usual", "precision": "bf16"},
    "lora": _SAME,
    "lora-float32": _SAME | {"precision": "no"},
    "lora-fa": _SAME | {"settings": {"train": "B"}},
    "checkpointing": _SAME | {"options": {"gradient_checkpointing": True}},
    "fa-checkpointing": _SAME | {"settings": {"train": "B"}, "options": {"gradient_checkpointing": True}},
    "parts": _SAME | {"options": {"budget_seconds": 60.0}},
    "lora-int8": _SAME | {"base_precision": "int8"},
    "own": {"by": "ours", "precision": "bf16"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("mini", *SHAPES), default="tiny")
    parser.add_argument("--data", default=str(ROOT / "data/demo/sw-train.parquet"))
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(SIDES), help="sides to run")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    names = [name for name in asked.only.split(",") if name != "lora-int8" or importlib.util.find_spec("torchao") is not None]
    with tempfile.TemporaryDirectory() as folder:
        model = str(shaped(asked.shape, Path(folder)))
        common = {"data": asked.data, "utterances": asked.utterances, "threads": asked.threads, "workers": 0, "model": model, "epochs": 2}
        turns = [{name: run(SIDES[name], common) for name in names} for _ in range(asked.turns)]
    found = {name: {key: statistics.median(turn[name][key] for turn in turns) for key in ("memory", "steady")} for name in names}
    if asked.json:
        print(json.dumps({"sides": found, **vars(asked)}))
        return
    base = found.get("usual", {}).get("memory")
    rows = [(name, f"{one['memory'] / 1e6:,.0f}", "" if base is None else f"{one['memory'] / base:.2f}", f"{one['steady']:.2f}") for name, one in found.items()]
    print(Table.of(f"{asked.shape}: peak above the loaded model", ("side", "MB", "of usual", "utterances/s"), rows))


if __name__ == "__main__":
    main()
