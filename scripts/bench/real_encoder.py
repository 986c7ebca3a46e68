"""Adapt the real encoder of a Whisper by CTC alone, method by method, and measure on speakers that were not trained on.

    python -m scripts.bench.ctc_start FOLDER --task children --speech DIR --out starts/children
    python -m scripts.bench.real_encoder FOLDER --task children --speech DIR --init-head starts/children/head.safetensors --methods head,lora --steps 150
    python -m scripts.bench.real_encoder openai/whisper-tiny.en --task mboshi --speech DIR --methods lora --lr 1e-3,3e-3 --out sweep.jsonl
    python -m scripts.bench.real_encoder --tables sweep.jsonl

A character CTC head is trained on the encoder's states together with the adapter (`--loss ctc`), and writes alone: no decoder and no
token table is used, so that a checkpoint without one can be measured. A base without a head writes nothing, so there is no row of
the base as it comes; `head` is the row with which to compare, the head on the frozen encoder. With --init-head all runs start from one
head that was learned on the frozen encoder before (`ctc_start.py`), which is then that row: they need not wait a thousand steps
for the first letters. With --upper N besides, adapters lie in the N upper layers of the encoder alone, and what the others give is
computed once (`upper.py`): a comparison of methods at a fraction of the cost. Without a head to start from, it trains from nothing in
each run, and in `head` beside an adapter that cannot move.
DIR holds speechocean762/{train,test}.parquet (Zhang et al., 2021, arXiv:2104.01378; tasks `children`, `adults`) and
mboshi/{train,test}.parquet (Godard et al., 2018, arXiv:1710.03501). Each run is a line of JSON in --out, from which a later
call goes on; the tables at the end are Markdown, and --tables FILE makes them of such a file: each run, and each method against the
head and against the best of them. Intervals are over speakers where there are ten, else over utterances.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from asrpeft import load, read
from asrpeft.corpus import Corpus
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune
from asrpeft.methods import method
from asrpeft.options import AdapterOptions, Data, DecodingOptions, OutputOptions, ScoringOptions, TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import Bootstrap, Score, score
from asrpeft.scoring.ranking import Ranker
from asrpeft.scoring.significance import Comparison
from asrpeft.training.optimizer import learning_rate
from asrpeft.training.precision import has_bf16
from scripts.bench.ctc_start import DEV_SHARE, read_head

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


@dataclass(frozen=True)
class Measured:
    """What every run of a call has in common."""

    base: str
    task: str
    speech: Path
    where: str | None
    settings: dict[str, Any]
    init_head: Path | None
    length: dict[str, int]  # {"steps": 200} or {"epochs": 4}
    head_lr: float
    beams: int
    precision: str
    test_speakers: int | None  # whole speakers, drawn by seed 0; None: all
    dev_every: int | None
    dev_utterances: int
    device: str = "auto"

    @classmethod
    def asked(cls, args: argparse.Namespace) -> Measured:
        """What a command line asks for."""
        length = {"steps": args.steps} if args.steps else {"epochs": args.epochs}
        settings = {name: json.loads(value) if name == "settings" else value for name, value in vars(args).items()}
        return cls(length=length, **{field.name: settings[field.name] for field in fields(cls) if field.name != "length"})

    def key(self, name: str, seed: int, lr: float | None) -> str:
        """What tells a run from others in the file of results."""
        settings = json.dumps(self.settings.get(name, {}), sort_keys=True)
        return json.dumps([self.task, name, seed, lr, self.length, self.where, settings, self.head_lr, self.test_speakers])


def run(given: Measured, name: str, seed: int, lr: float | None) -> dict[str, Any]:
    """One adapter, trained and measured; for `head` the head to start from, on the frozen encoder."""
    task = TASKS[given.task]
    train, test = (part(task, given.speech, one) for one in ("train", "test"))
    test = some_speakers(test, given.test_speakers)
    recognizer = load(given.base, device=given.device)
    recognizer.info = replace(recognizer.info, contexts=("full", "auto"))  # the head was learned on short contexts
    if given.init_head is not None:
        recognizer.ctc = read_head(given.init_head).to(recognizer.device)
    lang = task.lang if recognizer.multilingual else "en"
    began, about = time.monotonic(), {"trained": 0, "head": 0, "steps": 0}
    frozen = name == HEAD
    if not (frozen and given.init_head is not None):
        options = TrainingOptions(
            **given.length,
            loss="ctc",
            seed=seed,
            lr=1e-12 if frozen else lr,
            head_lr=given.head_lr,
            precision=given.precision,
            dev_every=given.dev_every,
            dev_utterances=given.dev_utterances,
        )
        kind = "lora" if frozen else name
        done = finetune(
            recognizer,
            Data(train, check_nonspeech=False),
            lang=lang,
            method=AdapterOptions(kind, where=f"{given.where or method(kind).where},-decoder", settings=given.settings.get(name, {}), name="measured"),
            out=OutputOptions(record=False),
            training=options,
            progress=lambda event: print(event, file=sys.stderr) if "Step" not in type(event).__name__ else None,
        ).to_json()
        lr = rate_used(recognizer, options)
        about = {"trained": 0 if frozen else done["trained_parameters"], "head": done["head_parameters"], "steps": done["steps"]}
        about |= {"seconds_a_step": done["seconds"] / done["steps"], "utterances_per_second": done["utterances_per_second"]}
        about |= {"dev": done["dev"] and done["dev"]["measures"]}
    return (
        score_of(given, recognizer, test, None if not about["steps"] else "measured", lang=lang, seed=seed)
        | about
        | {
            "task": given.task,
            "base": Path(recognizer.info.id).name,
            "method": name,
            "seed": seed,
            "used_lr": lr,
            "head_lr": given.head_lr,
            "where": given.where,
            "init_head": given.init_head is not None,
            "minutes": (time.monotonic() - began) / 60,
            "threads": torch.get_num_threads(),
            "device": recognizer.device.type,
            "date": datetime.now(UTC).date().isoformat(),
        }
    )


def some_speakers(corpus: Corpus, count: int | None) -> Corpus:
    """All that `count` of the speakers say, the same ones in every call."""
    if count is None or count >= len(corpus.speakers):
        return corpus
    chosen = set(random.Random(0).sample(corpus.speakers, count))
    return corpus.filter(lambda utterance: utterance.speaker in chosen)


def upper_task(given: Measured, count: int) -> Any:
    """What `--upper` needs once for all runs: the lower layers' states of training, development and test speech."""
    from scripts.bench.upper import Task as UpperTask
    from scripts.bench.upper import Upper

    task, recognizer = TASKS[given.task], load(given.base, device=given.device)
    learning, dev = part(task, given.speech, "train").split_by_speaker(DEV_SHARE, 0)
    test = some_speakers(part(task, given.speech, "test"), given.test_speakers)
    wanted = ("train", learning, (0, 1)), ("dev60", dev.shuffle(0)[:60], (None,)), (f"test{given.test_speakers or ''}", test, (None,))
    upper, folder = Upper(recognizer, count), Path(given.init_head).parent
    return UpperTask(
        upper, *(upper.heard(corpus, epochs, seed=0, path=folder / f"upper{count}-{what}") for what, corpus, epochs in wanted), read_head(given.init_head)
    )


def upper_run(given: Measured, task: Any, name: str, seed: int, lr: float | None, *, batch: int) -> dict[str, Any]:
    """As `run`, in the upper layers alone."""
    frozen, began = name == HEAD, time.monotonic()
    found = task.measured(
        "bitfit" if frozen else name,
        lr=lr,
        seed=seed,
        steps=0 if frozen else given.length["steps"],
        batch=batch,
        head_lr=given.head_lr,
        where=given.where,
        settings=given.settings.get(name),
    )
    found |= {"trained": 0} if frozen else {}
    return found | {
        "task": given.task,
        "base": Path(given.base).name,
        "method": name,
        "seed": seed,
        "head_lr": given.head_lr,
        "where": given.where,
        "init_head": True,
        "upper": task.upper.count,
        "batch": batch,
        "minutes": (time.monotonic() - began) / 60,
        "threads": torch.get_num_threads(),
        "device": task.upper.recognizer.device.type,
        "date": datetime.now(UTC).date().isoformat(),
    }


def rate_used(recognizer: Recognizer, options: TrainingOptions) -> float:
    """The peak rate of the run: the one that was asked for, or the method's own."""
    adapter = recognizer.adapters["measured"]
    return learning_rate(adapter.method, options, config=adapter.config, width=recognizer.base.config.d_model)


def score_of(given: Measured, recognizer: Recognizer, test: Corpus, name: str | None, *, lang: str, seed: int) -> dict[str, Any]:
    """Error rates on speakers nobody was trained on, by the head that goes with adapter `name` (None: by the head to start from)."""
    spoken = Corpus([replace(one, lang=lang) for one in test], name=test.name)
    found = evaluate(
        recognizer,
        spoken,
        adapters=[name] if name else [],
        decoding=DecodingOptions(
            stop_loops=False, beams=given.beams, ctc_weight=1.0, context="auto", autocast=given.precision != "no" and has_bf16(recognizer.device)
        ),
        scoring=ScoringOptions(base=name is None, seed=seed),
    )
    heard = found.systems[0].transcripts
    return measures([u.text for u in heard.utterances], heard.texts, [u.speaker for u in heard.utterances], seed=seed)


def measures(spoken: Sequence[str], said: Sequence[str], speakers: Sequence[str | None], *, seed: int) -> dict[str, Any]:
    """Error rates with intervals, and what they are of: from that a later call can test one row against another."""
    found = score(spoken, said, speakers=speakers, bootstrap=Bootstrap(seed=seed)).to_json()
    kept = {key: found[key] for key in ("wer", "wer_interval", "cer", "cer_interval", "interval_unit", "deletions", "words", "utterances")}
    plain = score([toneless(text) for text in spoken], [toneless(text) for text in said], bootstrap=None)
    return kept | {"cer_without_marks": plain.cer, "heard": {"spoken": list(spoken), "said": list(said), "speakers": list(speakers)}}


def by_character(row: dict[str, Any], name: str) -> Score:
    """The row's score with characters in place of words, so that what is said of words is said of characters."""
    heard = row["heard"]
    spoken, said = ([" ".join("▁" if c == " " else c for c in " ".join(text.split())) for text in heard[key]] for key in ("spoken", "said"))
    return score(spoken, said, normalizer="none", speakers=heard["speakers"], name=name, bootstrap=None)


def tests(rows: list[dict[str, Any]]) -> str:
    """CER of every method, as the mean over its seeds, against the head that all start from and against the best: a table, and what it says.

    Tests are over speakers, and over seeds where a method has several; corrected for their number as `compare` does.
    """
    rows = [row for row in rows if "heard" in row]
    start = [row for row in rows if row["method"] == HEAD and not row["steps"]]
    if not start or len(rows) < 2:
        return ""
    ranker, kinds = Ranker(by_character(start[0], HEAD)), dict.fromkeys(called(row) for row in rows if row["steps"])
    for kind in kinds:
        ranker.add(kind, [by_character(row, kind) for row in rows if row["steps"] and called(row) == kind])
    found = ranker.ranking()
    lines = ["| method | seeds | CER | less than the head's | p | above the best | p |", "|---|---|---|---|---|---|---|"]
    for kind, rate in found.rates.items():
        own, other = found.against_base[kind], found.to_best.get(kind)
        best = ("–", "–") if other is None else (gap(other.test, 1), f"{other.test.p_adjusted:.2g}")
        lines.append(f"| {kind} | {len(rate.seeds)} | {100 * rate.wer:.1f} % | {gap(own, -1)} | {own.p_adjusted:.2g} | {best[0]} | {best[1]} |")
    said = [line.replace("WER", "CER") for line in found.sentences()]
    return "\n".join([*lines, "", *said])


def gap(test: Comparison, sign: int) -> str:
    """A difference in points with its interval; `sign` -1: of the first against the second."""
    d, low, high = (round(100 * sign * one, 1) + 0.0 for one in (test.difference, *(test.interval.low, test.interval.high)[::sign]))
    return f"{d:.1f} ({low:.1f} to {high:.1f})"


def called(row: dict[str, Any]) -> str:
    """What tells a row from those that are not its other seeds."""
    return f"`{row['method']}`" + (f" at {row['where']}" if row["where"] else "") + (f" by {row['asked_lr']:g}" if row.get("asked_lr") else "")


def table(rows: list[dict[str, Any]]) -> str:
    heads = "task", "method", "trained", "rate", "seed", "steps", "s a step", "CER (95 % interval)", "CER without marks", "WER (95 % interval)"
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        cer, wer = (f"{100 * row[key]:.1f} % ({'–'.join(f'{100 * x:.1f}' for x in row[f'{key}_interval'])})" for key in ("cer", "wer"))
        rate, pace = (f"{row['used_lr']:g}", f"{row['seconds_a_step']:.2f}") if row["steps"] else ("–", "–")
        cells = row["task"], called(row), f"{row['trained']:,}", rate, row["seed"], row["steps"], pace, cer, f"{100 * row['cer_without_marks']:.1f} %", wer
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tables(rows: list[dict[str, Any]]) -> str:
    """All runs, and the tests of each task."""
    tasks = dict.fromkeys(row["task"] for row in rows)
    return "\n\n".join([table(rows), *(f"{task}:\n\n{found}" for task in tasks if (found := tests([row for row in rows if row["task"] == task])))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="a Whisper checkpoint: a hub id or a folder")
    parser.add_argument("--speech", type=Path, help="the folder of the corpora")
    parser.add_argument("--tables", type=Path, help="train nothing: the tables of such a file")
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
    parser.add_argument("--device", default="auto", help="cpu, cuda, …; auto: an accelerator where there is one")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON lines; runs that stand there are not repeated")
    parser.add_argument("--init-head", type=Path, help="a head of ctc_start.py that every run starts from")
    parser.add_argument("--steps", type=int, help="instead of --epochs")
    parser.add_argument("--test-speakers", type=int, help="measure on so many whole speakers; default: all")
    parser.add_argument("--dev-every", type=int, help="steps between evaluations on development data; default: eight evaluations")
    parser.add_argument("--dev-utterances", type=int, default=200)
    parser.add_argument("--upper", type=int, default=0, help="adapters in so many upper layers, the lower ones computed once; with --init-head and --steps")
    parser.add_argument("--batch", type=int, default=12, help="utterances a step with --upper")
    args = parser.parse_args()
    if args.tables:
        print(tables(read_rows(args.tables)))
        return
    if not (args.base and args.speech):
        parser.error("which checkpoint, and where are the corpora? BASE --speech DIR")
    if args.upper and not (args.steps and args.init_head):
        parser.error("--upper goes with --steps N and --init-head FILE")
    if args.threads:
        torch.set_num_threads(args.threads)
    given = Measured.asked(args)
    rows = read_rows(args.out) if args.out and args.out.exists() else []
    done = {row.get("key") for row in rows}
    upper = None
    rates = [None] if args.lr is None else [float(rate) for rate in args.lr.split(",")]
    for name, seed, lr in itertools.product(args.methods.split(","), map(int, args.seeds.split(",")), rates):
        key = given.key(name, seed, lr) + (f" upper {args.upper} batch {args.batch}" if args.upper else "")
        if key in done:
            continue
        upper = upper or (upper_task(given, args.upper) if args.upper else None)
        rows.append({"key": key, "asked_lr": lr} | (run(given, name, seed, lr) if upper is None else upper_run(given, upper, name, seed, lr, batch=args.batch)))
        print(json.dumps({name: value for name, value in rows[-1].items() if name != "heard"}), file=sys.stderr, flush=True)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with args.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(tables(rows))


if __name__ == "__main__":
    main()
