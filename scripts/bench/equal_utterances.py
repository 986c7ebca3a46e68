"""Error rates after the same number of utterances: `peft` with `Seq2SeqTrainer` as its users write it, and asrpeft with its defaults.

    python scripts/bench/equal_utterances.py [--data CORPUS] [--test CORPUS] [--lang sw] [--utterances 600] [--epochs 1] [--lr 1e-3] [--json]

    usual     LoRA (rank 32 on q_proj and v_proj) by `peft`: features of 30 s, 8 rows a batch, linear decay from --lr, bf16 (`training.py`)
    ours      the same LoRA by `asrpeft` with its own rate, schedule, augmentation, batches and audio context, in bf16

Both see the same utterances, equally often. The usual adapter is read from its `peft` folder and told that it was trained on 30 s; both
are then decoded greedily by asrpeft, on the audio context that each was trained with. The paired test resamples speakers. Whether ours is
no worse: the upper end of the interval of the difference, in points of WER.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.adapters.peft_format import read_peft  # noqa: E402
from asrpeft.corpus import Corpus, read  # noqa: E402
from asrpeft.jobs.evaluate import evaluate  # noqa: E402
from asrpeft.jobs.finetune import finetune  # noqa: E402
from asrpeft.options import AdapterOptions, Checks, Data, DecodingOptions, OutputOptions, TrainingOptions  # noqa: E402
from asrpeft.recognizer import load  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from asrpeft.scoring import compare  # noqa: E402
from scripts.bench.training import RANK, ROOT, corpus_of, run  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "data/mini"))
    parser.add_argument("--data", default=str(ROOT / "data/demo/sw-train.parquet"))
    parser.add_argument("--test", default=str(ROOT / "data/demo/sw-test.parquet"))
    parser.add_argument("--lang", default="sw")
    parser.add_argument("--utterances", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-3, help="of the usual recipe; ours takes the method's own")
    parser.add_argument("--seed", type=int, default=0, help="of ours, and of the test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    told = {"model": asked.model, "data": asked.data, "utterances": asked.utterances, "lang": asked.lang, "epochs": asked.epochs, "lr": asked.lr}
    recognizer = load(asked.model, threads=asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        run({"by": "usual", "save": f"{folder}/usual"}, told | {"threads": asked.threads})
        read_peft(recognizer.adapters, f"{folder}/usual", name="usual", language=asked.lang, task="transcribe", context="full")
    settings = {"rank": RANK, "alpha": 2.0 * RANK}
    finetune(
        recognizer,
        Data(corpus_of(told), dev=Corpus([]), check_nonspeech=False),
        lang=asked.lang,
        method=AdapterOptions("lora", where="q_proj,v_proj", settings=settings, name="ours"),
        out=OutputOptions(record=False),
        training=TrainingOptions(epochs=asked.epochs, precision="bf16", seed=asked.seed, workers=0),
    )
    names = ("base", "usual", "ours")
    found = evaluate(
        recognizer,
        read(asked.test),
        adapters=names[1:],
        lang=asked.lang,
        decoding=DecodingOptions(ctc_weight=0.0),
        checks=Checks(overlap="ignore"),
    )
    scores = dict(zip(names, (one.score for one in found.systems)))
    test = compare(scores["usual"], scores["ours"], seed=asked.seed)
    if asked.json:
        print(json.dumps({"scores": {name: one.to_json() for name, one in scores.items()}, "ours_against_usual": test.to_json(), **vars(asked)}))
        return
    rows = [(name, f"{100 * one.wer:.1f}", f"{100 * one.cer:.1f}") for name, one in scores.items()]
    low, high = test.interval.low, test.interval.high
    print(Table.of(f"{asked.utterances} utterances of {Path(asked.data).name}, {asked.epochs} times", ("system", "WER %", "CER %"), rows))
    print(f"ours less usual: {100 * test.difference:+.1f} points of WER ({100 * low:+.1f} to {100 * high:+.1f}), p = {test.p:.4f}: {test.verdict}")


if __name__ == "__main__":
    main()
