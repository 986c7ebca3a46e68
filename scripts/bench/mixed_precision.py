"""How many transcripts depend on which rows share a batch, or on merging, at each precision: rounding made visible.

    python scripts/bench/mixed_precision.py [--model FOLDER] [--utterances 100] [--methods lora,ia3,full] [--keep DIR] [--json]

One adapter of each method is trained for a moment (`--steps`, in float32, seeded; kept in `--keep` for the next run). Then

    mixed     utterances in random batches, rows in turn under the base and every adapter, against each row decoded alone
    merged    the same batches under one adapter folded into the weights, against that adapter routed

are decoded greedily with weights in float32, in bfloat16, and in float32 with the encoder under bfloat16 autocast. In float32 all
counts should be 0, or nearly: a row depends on its neighbors through rounding alone. On data/mini (2026-11-21, an AMD EPYC with
AVX-512 BF16, seed 0), at first; once rows of other contexts were encoded apart and the decoder summed in float32; and since a row gets
W + ΔW made in float32 and rounded once, as merging writes it, in place of the sum of two rounded products:

                mixed               merged, lora        merged, full        merged, s2lora, loha, ia3, bitfit
    float32     0  →  0  →  0        0  →  0  →  0       0  →  0  →  0
    bfloat16    12 →  0  →  0       15  →  8  →  0       9  → 10  →  0       9, 7, 13, 8  →  0, 0, 0, 0
    autocast    4  →  0  →  0       11  →  5  →  0      19  → 11  →  1                   0, 0, 0, 2

There a product of matrices gives a row the same bits in any company; padding the keys of attention does not.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from asrpeft.corpus import Corpus, read
from asrpeft.decoding import Row, decode_rows, make_row
from asrpeft.methods import method
from asrpeft.options import AdapterOptions, DecodingOptions
from asrpeft.recognizer import Recognizer, load
from asrpeft.report import Table

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
GREEDY = DecodingOptions()
PRECISIONS = {"float32": ("float32", False), "bfloat16": ("bfloat16", False), "autocast": ("float32", True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="a checkpoint; the embedded one if omitted")
    parser.add_argument("--data", default=str(DEMO / "sw-test.parquet"))
    parser.add_argument("--train-data", default=str(DEMO / "sw-train.parquet"))
    parser.add_argument("--lang", default="sw")
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--methods", default="lora,s2lora,loha,ia3,bitfit,full,prompt,prefix")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--rows", type=int, default=16, help="in a batch")
    parser.add_argument("--steps", type=int, default=40, help="of training, for each adapter")
    parser.add_argument("--keep", type=Path, default=None, help="where trained adapters are kept, and looked for")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    methods = asked.methods.split(",")
    spoken = read(asked.data)
    spoken = Corpus(random.Random(asked.seed).sample(list(spoken), min(asked.utterances, len(spoken))), name=spoken.name)
    with tempfile.TemporaryDirectory() as scratch:
        kept = asked.keep or Path(scratch)
        trained(asked, methods, kept)
        found = [measured(asked, methods, kept, precision, spoken) for precision in asked.precisions.split(",")]
    if asked.json:
        print(json.dumps({"utterances": len(spoken), "precisions": found}, ensure_ascii=False))
        return
    columns = [name for name in methods if method(name).mergeable]
    rows = [(one["precision"], one["mixed"], f"{one['utterances_per_second']:.1f}", *(one["merged"][name] for name in columns)) for one in found]
    title = f"{len(spoken)} utterances, batches of {asked.rows}, seed {asked.seed}: transcripts that differ, of a method merged from routed"
    print(Table.of(title, ("precision", "mixed", "per second", *columns), rows))


def trained(asked: argparse.Namespace, methods: Sequence[str], folder: Path) -> None:
    """One adapter folder for each method, made where it is not there yet."""
    from asrpeft.jobs.finetune import finetune
    from asrpeft.options import TrainingOptions

    missing = [name for name in methods if not (folder / name / "adapter.json").is_file()]
    if not missing:
        return
    recognizer, corpus = load(asked.model, device=asked.device, threads=asked.threads), read(asked.train_data)
    options = TrainingOptions(steps=asked.steps, seed=asked.seed, precision="no")
    for name in missing:
        finetune(recognizer, corpus, lang=asked.lang, method=AdapterOptions(name, name=name), out=folder / name, training=options)
        recognizer.adapters.detach(name)


def measured(asked: argparse.Namespace, methods: Sequence[str], folder: Path, precision: str, spoken: Corpus) -> dict:
    """Transcripts that differ at one precision, of so many utterances; and the speed of the mixed batches."""
    dtype, autocast = PRECISIONS[precision]
    recognizer = load(asked.model, device=asked.device, dtype=dtype, threads=asked.threads)
    for name in methods:
        recognizer.adapters.load(folder / name, name=name)
    names = [None, *methods]
    rows = [row_of(recognizer, u, names[i % len(names)], asked.lang) for i, u in enumerate(spoken)]
    order = list(range(len(rows)))
    random.Random(asked.seed).shuffle(order)
    batches = [order[at : at + asked.rows] for at in range(0, len(order), asked.rows)]
    decode = Decode(recognizer, autocast)
    decode(rows[:2])  # warm
    started = time.perf_counter()
    mixed = decode.batches(rows, batches)
    seconds = time.perf_counter() - started
    alone = decode.batches(rows, [[i] for i in range(len(rows))])
    merged = {}
    for name in methods:
        if method(name).mergeable:
            own = [row_of(recognizer, u, name, asked.lang) for u in spoken]
            routed = decode.batches(own, batches)
            recognizer.adapters.merge(name)
            merged[name] = differing(routed, decode.batches(own, batches))
            recognizer.adapters.unmerge()
    return {"precision": precision, "mixed": differing(mixed, alone), "merged": merged, "utterances_per_second": len(rows) / seconds}


class Decode:
    def __init__(self, recognizer: Recognizer, autocast: bool):
        self.recognizer, self.autocast = recognizer, autocast

    def __call__(self, rows: Sequence[Row]) -> list[str]:
        return [found.text for found in decode_rows(self.recognizer, rows, options=GREEDY, autocast=self.autocast)]

    def batches(self, rows: Sequence[Row], batches: Sequence[Sequence[int]]) -> list[str]:
        found = {place: text for batch in batches for place, text in zip(batch, self([rows[i] for i in batch]))}
        return [found[i] for i in range(len(rows))]


def row_of(recognizer: Recognizer, utterance, name: str | None, lang: str) -> Row:
    return make_row(recognizer, utterance.samples(), adapter=name, lang=lang)


def differing(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
