"""Training speed and memory, against `peft` with `Seq2SeqTrainer`, as ratios: sides take turns, each in a process of its own.

    python scripts/bench/training.py [--shape mini|tiny|base] [--data CORPUS] [--utterances 48] [--turns 3] [--only a,b,c,d] [--json]

    usual     LoRA by `peft` in a `Seq2SeqTrainer`, as its users write it: features of 30 s from `Dataset.map`, 8 rows a batch, float32
    ours      the same LoRA (rank 32 on q_proj and v_proj) by `asrpeft`, with its defaults
    bf16, full, decoder, cached     changes of a side: half precision; 30 s for ours too; sites in the decoder alone

A process loads the model, takes a first epoch from cold files (usual: features are made and stored; ours: an empty cache) and then two
more, and tells utterances a second of both parts and its peak of memory above what it held before. Ratios are medians over turns:

    a   ours : usual, first epoch and steady state, in the same precision (bf16) and against float32
    b   the same geometry: 30 s, the same rows a batch, no augmentation, both in the precision of --precision
    c   adapters in the decoder alone, after the first epoch (one variant of each utterance) : ours (a) in steady state
    d   the adapters of several speakers trained together : one after another (--speakers 6, --speakers-data)

`mini` is the embedded base; `tiny` and `base` have the shapes of whisper-tiny and whisper-base with random weights: speed does not ask what
they are. Imports, loading and evaluation are not counted; a worker process of ours reads audio beside (--workers 0: none).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RANK, ROWS, EPOCHS = 32, 8, 3
SIDES: dict[str, dict[str, Any]] = {
    "usual": {"by": "usual", "precision": "no"},
    "usual-bf16": {"by": "usual", "precision": "bf16"},
    "ours": {"by": "ours", "precision": "no"},
    "ours-bf16": {"by": "ours", "precision": "bf16"},
    "ours-same": {"by": "ours", "same": True},
    "usual-same": {"by": "usual"},
    "cohort": {"by": "speakers", "together": True},
    "one-by-one": {"by": "speakers", "together": False},
    "ours-decoder": {"by": "ours", "variants": 1, "where": "decoder.*.q_proj,decoder.*.v_proj"},
}
# (what, faster, than, of which speed)
RATIOS = (
    ("a", "first epoch, both bf16", "ours-bf16", "usual-bf16", "cold"),
    ("a", "steady, both bf16", "ours-bf16", "usual-bf16", "steady"),
    ("a", "first epoch, bf16 against float32", "ours-bf16", "usual", "cold"),
    ("a", "steady, bf16 against float32", "ours-bf16", "usual", "steady"),
    ("a", "steady, both float32", "ours", "usual", "steady"),
    ("a", "memory, both bf16", "ours-bf16", "usual-bf16", "memory"),
    ("b", "same geometry, steady", "ours-same", "usual-same", "steady"),
    ("b", "same geometry, memory", "ours-same", "usual-same", "memory"),
    ("c", "sites in the decoder alone, steady", "ours-decoder", "ours-bf16", "steady"),
    ("d", "a cohort, one after another", "cohort", "one-by-one", "cold"),
)


# -- one side, in a process of its own -------------------------------------------------------------------------------------
def side(told: dict[str, Any]) -> dict[str, float]:
    import torch

    torch.set_num_threads(told["threads"])
    torch.manual_seed(0)
    return {"usual": usual, "ours": ours, "speakers": speakers}[told["by"]](told)


def corpus_of(told: dict[str, Any]) -> Any:
    from asrpeft.corpus import read

    found = read(told["data"])
    return found.shuffle(0)[: told["utterances"]]


def held() -> int:
    import torch

    from asrpeft.training import memory

    memory.reset_peak(torch.device("cpu"))
    return memory.peak(torch.device("cpu"))


def grown(before: int) -> int:
    import torch

    from asrpeft.training import memory

    return memory.peak(torch.device("cpu")) - before


def ours(told: dict[str, Any]) -> dict[str, float]:
    from asrpeft.options import TrainingOptions
    from asrpeft.recognizer import load
    from asrpeft.training import Step, TrainingData, train

    recognizer, data = load(told["model"], base_precision=told.get("base_precision", "full")), corpus_of(told)
    same, epochs = told.get("same"), told.get("epochs", EPOCHS)
    plain: dict[str, Any] = {"augment": "none", "nonspeech_share": 0.0, "context": "full", "batch_seconds": 30.0 * ROWS} if same else {}
    plain |= told.get("options", {})
    options = TrainingOptions(epochs=epochs, precision=told["precision"], lr=1e-4, workers=told["workers"], variants=told.get("variants"), **plain)
    settings = {"rank": RANK, "alpha": 2.0 * RANK} | told.get("settings", {})
    recognizer.adapt("lora", name="x", where=told.get("where", "q_proj,v_proj"), lang="sw", context=options.context, **settings)
    ticks: list[float] = []
    before, started = held(), time.perf_counter()
    done = train(
        recognizer,
        "x",
        TrainingData(data, recognizer.prompt(lang="sw", adapter="x")),
        options=options,
        progress=lambda event: ticks.append(time.perf_counter() - started) if isinstance(event, Step) else None,
    )
    first = ticks[round(len(ticks) / epochs) - 1]
    return {"cold": done.rows / epochs / first, "steady": done.rows * (epochs - 1) / epochs / (ticks[-1] - first), "memory": grown(before)}


def speakers(told: dict[str, Any]) -> dict[str, float]:
    """Adapters of several speakers, in one process: in the same batches, or one after another."""
    from asrpeft.corpus import read
    from asrpeft.options import TrainingOptions
    from asrpeft.recognizer import load
    from asrpeft.training import Choice, TrainingData, train
    from asrpeft.training.cohort import train_together
    from asrpeft.training.loop import Run

    recognizer = load(told["model"])
    spoken = read(told["speakers_data"]).by_speaker()
    chosen = {name: mine[: told["each"]] for name, mine in list(spoken.items())[: told["speakers"]]}
    options = TrainingOptions(epochs=EPOCHS, precision=told["precision"], lr=1e-4, workers=told["workers"])
    data = {}
    for name, mine in chosen.items():
        recognizer.adapt("lora", name=name, where="q_proj,v_proj", lang="en", rank=8, context=options.context)
        data[name] = TrainingData(mine, recognizer.prompt(lang="en", adapter=name))
    before, started = held(), time.perf_counter()
    if told["together"]:
        runs = {
            name: lambda name=name: Run(recognizer, name, data[name], options=options, choice=Choice(), checkpoint=None, progress=lambda event: None)
            for name in data
        }
        done = list(train_together(runs, recognizer).values())
    else:
        done = [train(recognizer, name, given, options=options) for name, given in data.items()]
    speed = sum(one.rows for one in done) / (time.perf_counter() - started)  # type: ignore[union-attr]
    return {"cold": speed, "steady": speed, "memory": grown(before)}


def usual(told: dict[str, Any]) -> dict[str, float]:
    """What the tutorials for adapting Whisper with `peft` have their readers write."""
    import datasets
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        TrainerCallback,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
    )

    from asrpeft.audio.decode import decode

    datasets.disable_progress_bars()
    extractor = WhisperFeatureExtractor.from_pretrained(told["model"])
    tokenizer = WhisperTokenizerFast.from_pretrained(told["model"], language=told.get("lang", "sw"), task="transcribe")
    model = WhisperForConditionalGeneration.from_pretrained(told["model"])
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"], lora_dropout=0.0, bias="none"))
    rows = [{"audio": Path(found).read_bytes() if isinstance(found := u.audio.read(), Path) else found, "text": u.text} for u in corpus_of(told)]

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        features = extractor(decode(row["audio"]), sampling_rate=16_000).input_features[0]
        return {"input_features": features, "labels": tokenizer(row["text"]).input_ids}

    def collate(found: list[dict[str, Any]]) -> dict[str, Any]:
        batch = extractor.pad([{"input_features": row["input_features"]} for row in found], return_tensors="pt")
        labels = tokenizer.pad([{"input_ids": row["labels"]} for row in found], return_tensors="pt")
        wanted = labels["input_ids"].masked_fill(labels.attention_mask.ne(1), -100)
        start = bool((wanted[:, 0] == model.config.decoder_start_token_id).all())
        return {**batch, "labels": wanted[:, 1:] if start else wanted}

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter() - started)

    before, started = held(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        data = datasets.Dataset.from_list(rows).map(prepare, remove_columns=["audio", "text"], cache_file_name=f"{folder}/features.arrow")
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=ROWS,
            learning_rate=told.get("lr", 1e-4),
            num_train_epochs=told.get("epochs", EPOCHS),
            bf16=told["precision"] == "bf16",
            use_cpu=True,
            remove_unused_columns=False,
            label_names=["labels"],
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        torch.set_num_threads(told["threads"])
        Seq2SeqTrainer(model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[Clock()]).train()
    if told.get("save"):
        model.save_pretrained(told["save"])
    n = len(rows)
    return {"cold": n / ends[0], "steady": n * (told.get("epochs", EPOCHS) - 1) / (ends[-1] - ends[0] or math.inf), "memory": grown(before)}


# -- both sides, in turns --------------------------------------------------------------------------------------------------
SHAPES = {"tiny": (384, 4, 6), "base": (512, 6, 8)}  # of Whisper: width, layers of each stack, heads


def shaped(shape: str, folder: Path) -> Path:
    """The embedded base, or a checkpoint of a Whisper's shape with random weights and its tokenizer."""
    mini = ROOT / "data/mini"
    if shape == "mini":
        return mini
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    for path in mini.iterdir():
        if path.suffix == ".json" and path.name != "config.json":
            shutil.copy(path, folder)
    (folder / "asrpeft.json").unlink()
    torch.manual_seed(0)
    known = WhisperConfig.from_pretrained(mini)
    width, layers, heads = SHAPES[shape]
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        vocab_size=51_865,
        dropout=0.0,
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
        pad_token_id=known.pad_token_id,
        decoder_start_token_id=known.decoder_start_token_id,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    shutil.copy(mini / "generation_config.json", folder)
    return folder


def profiled(told: dict[str, Any]) -> str:
    """Where the time of a side goes, operation by operation, after a run that does not count."""
    from torch.profiler import ProfilerActivity, profile

    side(told | {"epochs": 2})
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        side(told)
    return str(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=50))


def run(side_of: dict[str, Any], common: dict[str, Any]) -> dict[str, float]:
    """What a side told, in a process of its own."""
    told = {"precision": "bf16"} | common | side_of
    with tempfile.TemporaryDirectory() as cache:
        threads = str(told["threads"])
        env = os.environ | {
            "ASRPEFT_CACHE": cache,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_DATASETS_CACHE": cache,
            "PYTHONPATH": str(ROOT),
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        ended = subprocess.run([sys.executable, __file__, "--side", json.dumps(told)], env=env, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{side_of} failed:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def ratios(found: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    made = []
    for part, what, one, other, speed in RATIOS:
        turns = [turn[one][speed] / turn[other][speed] for turn in found if one in turn and other in turn]
        if turns:
            made.append({"part": part, "what": what, "ratio": statistics.median(turns), "least": min(turns), "most": max(turns), "turns": len(turns)})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("mini", *SHAPES), default="mini")
    parser.add_argument("--data", default=str(ROOT / "data/demo/sw-train.parquet"))
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--speakers", type=int, default=6, help="of part d")
    parser.add_argument("--speakers-data", default=str(ROOT / "data/demo/speakers.parquet"), help="their corpus")
    parser.add_argument("--each", type=int, default=8, help="utterances of each speaker of part d")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="of ours; `Seq2SeqTrainer` reads in its own process unless told otherwise")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16", help="of parts b and c")
    parser.add_argument("--only", default="a,b,c,d", help="parts to run")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", choices=SIDES, help="run this side alone, in this process, and show where its time goes")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(side(json.loads(asked.side))))
        return
    parts = asked.only.split(",")
    names = list(dict.fromkeys(name for part, _, one, other, _ in RATIOS if part in parts for name in (other, one)))
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "data": asked.data,
            "utterances": asked.utterances,
            "threads": asked.threads,
            "workers": asked.workers,
            "precision": asked.precision,
            "speakers": asked.speakers,
            "each": asked.each,
            "speakers_data": asked.speakers_data,
            "model": str(shaped(asked.shape, Path(folder))),
        }
        if asked.profile:
            print(profiled({"precision": asked.precision, **common, **SIDES[asked.profile]}))
            return
        found = []
        for turn in range(asked.turns):
            found.append({name: run(SIDES[name], common) for name in (names if turn % 2 == 0 else reversed(names))})
    sides = {name: {key: statistics.median(turn[name][key] for turn in found) for key in ("cold", "steady", "memory")} for name in names}
    if asked.json:
        settings = {key: value for key, value in vars(asked).items() if key not in ("side", "json")}
        print(json.dumps({"sides": sides, "ratios": ratios(found), **settings}))
        return
    print(f"{asked.shape}, {asked.utterances} utterances of {Path(asked.data).name}, {asked.threads} threads, medians of {asked.turns} turns")
    for name, own in sides.items():
        print(f"{name:14} first epoch {own['cold']:7.2f}/s   steady {own['steady']:7.2f}/s   memory +{own['memory'] / 1e6:6.0f} MB")
    for one in ratios(found):
        print(f"({one['part']}) {one['what']:38} {one['ratio']:6.2f}   ({one['least']:.2f} to {one['most']:.2f})")


if __name__ == "__main__":
    main()
