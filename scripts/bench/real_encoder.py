"""Adapt the real encoder of a Whisper by CTC alone, method by method, and measure on speakers that were not trained on.

    python scripts/bench/real_encoder.py openai/whisper-tiny.en --task children --speech DIR --methods lora,ia3 --epochs 4
    python scripts/bench/real_encoder.py FOLDER --task mboshi --speech DIR --methods lora --lr 3e-4,1e-3,3e-3 --out sweep.jsonl

A character CTC head is trained on the encoder's states together with the adapter (`--loss ctc`), and writes alone: no decoder and no
token table is used, so that a checkpoint without one can be measured. A base without a head writes nothing, so there is no row
before training; `head` is the row with which to compare: the head on the frozen encoder, no adapter (one that cannot move).
DIR holds speechocean762/{train,test}.parquet (Zhang et al., 2021, arXiv:2104.01378; tasks `children`, `adults`) and
mboshi/{train,test}.parquet (Godard et al., 2018, arXiv:1710.03501). Each run is a line of JSON in --out, from which a later
call goes on; the table at the end is Markdown. Intervals are over speakers where there are ten, else over utterances.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from asrpeft import load, read
from asrpeft.corpus import Corpus
from asrpeft.decoding import Options
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune
from asrpeft.methods import method
from asrpeft.scoring import score
from asrpeft.training import TrainingOptions

HEAD = "head"  # not a method: the CTC head alone


@dataclass(frozen=True)
class Task:
    corpus: str
    lang: str
    keep: Any = None  # which utterances, by their columns


TASKS = {
    "children": Task("speechocean762", "en", lambda u: float(u.column("age")) <= 15),
    "adults": Task("speechocean762", "en", lambda u: float(u.column("age")) > 15),
    "mboshi": Task("mboshi", "mboshi"),
}


def part(task: Task, speech: Path, name: str) -> Corpus:
    found = read(speech / task.corpus / f"{name}.parquet")
    return found if task.keep is None else found.filter(task.keep)


def toneless(text: str) -> str:
    """Without combining marks: ká → ka."""
    return unicodedata.normalize("NFC", "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c)))


def run(given: argparse.Namespace, name: str, seed: int, lr: float | None) -> dict[str, Any]:
    """One adapter, trained and measured."""
    task = TASKS[given.task]
    train, test = (part(task, given.speech, one) for one in ("train", "test"))
    recognizer = load(given.base)
    lang = task.lang if recognizer.multilingual else "en"
    frozen = name == HEAD
    kind = "lora" if frozen else name
    options = TrainingOptions(epochs=given.epochs, loss="ctc", seed=seed, lr=1e-12 if frozen else lr, head_lr=given.head_lr, precision=given.precision)
    began = time.monotonic()
    done = finetune(
        recognizer, train, method=kind, where=f"{given.where or method(kind).where},-decoder", lang=lang, name="measured", options=options,
        settings=json.loads(given.settings).get(name, {}),
        progress=lambda event: print(event, file=sys.stderr) if "Step" not in type(event).__name__ else None,
    ).to_json()  # fmt: skip
    seconds = time.monotonic() - began
    spoken = Corpus([replace(one, lang=lang) for one in test], name=test.name)
    found = evaluate(recognizer, spoken, adapters=["measured"], base=False, options=Options(beams=given.beams), seed=seed)
    scores, heard = found.systems[0].score.to_json(), found.systems[0].transcripts
    plain = score([toneless(u.text) for u in heard.utterances], [toneless(text) for text in heard.texts], resamples=0)
    kept = {key: scores[key] for key in ("wer", "wer_interval", "cer", "cer_interval", "interval_unit", "deletions", "words", "utterances")}
    return kept | {
        "task": given.task, "base": recognizer.info.id, "method": name, "seed": seed, "lr": lr, "epochs": given.epochs, "cer_without_marks": plain.cer,
        "trained": 0 if frozen else done["trained_parameters"], "head": done["head_parameters"], "steps": done["steps"],
        "dev": done["dev"] and done["dev"]["best"], "rate": done["utterances_per_second"], "minutes": seconds / 60,
        "threads": torch.get_num_threads(), "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| task | method | trained | rate | seed | WER (95 % interval) | CER (95 % interval) | CER without marks | dev WER | minutes |", "|" + "---|" * 10]
    for row in rows:
        low_high = ["–".join(f"{100 * x:.1f}" for x in row[key]) for key in ("wer_interval", "cer_interval")]
        lines.append(
            f"| {row['task']} | `{row['method']}` | {row['trained']:,} | {row['lr'] or 'default'} | {row['seed']} | {100 * row['wer']:.1f} % ({low_high[0]}) | "
            f"{100 * row['cer']:.1f} % ({low_high[1]}) | {100 * row['cer_without_marks']:.1f} % | {100 * (row['dev'] or 0):.1f} % | {row['minutes']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a Whisper checkpoint: a hub id or a folder")
    parser.add_argument("--speech", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--task", choices=TASKS, default="children")
    parser.add_argument("--methods", default=f"{HEAD},lora", help=f"methods, and {HEAD!r}: the CTC head alone")
    parser.add_argument("--where", help="default: each method's own layers, those of the encoder")
    parser.add_argument("--settings", default="{}", help='JSON: {"lora": {"rank": 16}}')
    parser.add_argument("--lr", help="rates to try, with commas; default: each method's own")
    parser.add_argument("--head-lr", type=float, default=1e-2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--beams", type=int, default=8)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON lines; runs that stand there are not repeated")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out and given.out.exists() else []
    done = {(row["task"], row["method"], row["seed"], row["lr"], row["epochs"]) for row in rows}
    rates = [None] if given.lr is None else [float(rate) for rate in given.lr.split(",")]
    for name, seed, lr in itertools.product(given.methods.split(","), map(int, given.seeds.split(",")), rates):
        if (given.task, name, seed, lr, given.epochs) in done:
            continue
        rows.append(run(given, name, seed, lr))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if given.out:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
