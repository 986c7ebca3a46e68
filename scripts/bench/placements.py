"""Where one method should lie: adapters on different layers, trained alike and scored on the same sentences.

    python scripts/bench/placements.py [--model DIR] [--data CORPUS] [--test CORPUS] [--lang sw] [--method lora] [--steps 100]
        [--where attention --where attention,ff --where attention,-decoder --where conv --where last:2 …] [--threads 1] [--json]

Each place gets the same data, order, seed and number of steps, and the method's own rate and settings; the last step's weights are decoded
greedily. A test over speakers holds each against the base (Holm over the places), and against the place with the lowest WER (the largest t
over all pairs). A larger place also trains more numbers: both stand in the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.corpus import Corpus, read  # noqa: E402
from asrpeft.jobs.evaluate import evaluate  # noqa: E402
from asrpeft.jobs.finetune import finetune  # noqa: E402
from asrpeft.options import AdapterOptions, Checks, Data, DecodingOptions, OutputOptions, TrainingOptions  # noqa: E402
from asrpeft.recognizer import load  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from asrpeft.scoring.ranking import Ranker  # noqa: E402
from scripts.bench.training import ROOT  # noqa: E402

PLACES = ("q_proj,v_proj", "attention", "ff", "attention,ff", "conv", "attention,conv", "attention,-decoder", "attention,-encoder", "encoder_attn", "last:2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "data/mini"))
    parser.add_argument("--data", default=str(ROOT / "data/demo/sw-train.parquet"))
    parser.add_argument("--test", default=str(ROOT / "data/demo/sw-test.parquet"))
    parser.add_argument("--lang", default="sw")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--where", action="append", help=f"a place, as finetune has it; again for more (default: {'  '.join(PLACES)})")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    recognizer, train, test = load(asked.model, threads=asked.threads), read(asked.data), read(asked.test)
    checks, decoding = Checks(overlap="ignore"), DecodingOptions(ctc_weight=0.0)
    places = asked.where or PLACES
    runs = {
        where: finetune(
            recognizer,
            Data(train, dev=Corpus([]), check_nonspeech=False),
            lang=asked.lang,
            method=AdapterOptions(asked.method, where=where, name=f"place{number}"),
            out=OutputOptions(record=False),
            training=TrainingOptions(steps=asked.steps, batch_seconds=asked.batch_seconds, seed=asked.seed, workers=0),
        )
        for number, where in enumerate(places)
    }
    base, *placed = evaluate(recognizer, test, adapters=[run.name for run in runs.values()], lang=asked.lang, decoding=decoding, checks=checks).systems
    ranker = Ranker(base.score, asked.seed)
    for where, one in zip(runs, placed, strict=True):
        ranker.add(where, [one.score])
    trained = {where: run.trained_parameters for where, run in runs.items()}
    speed = {where: run.training.seconds / run.training.steps for where, run in runs.items()}
    found = ranker.ranking()
    if asked.json:
        of_places = {name: {"wer": one.wer, "trained": trained[name], "seconds_a_step": speed[name]} for name, one in found.rates.items()}
        print(json.dumps({"base": ranker.base.wer, "places": of_places, "ranking": found.to_json(), **vars(asked)}))
        return
    rows = [("base", 0, f"{100 * ranker.base.wer:.1f}", "", "", "")]
    for name, one in sorted(found.rates.items(), key=lambda item: item[1].wer):
        interval = f"{100 * one.interval.low:.1f}–{100 * one.interval.high:.1f}"
        rows.append((name, f"{trained[name]:,}", f"{100 * one.wer:.1f}", interval, found.against_base[name].verdict, f"{speed[name]:.2f}"))
    print(Table.of(f"{asked.method}, {asked.steps} steps", ("where", "trained", "WER %", "interval", "against the base", "s a step"), rows))
    print("\n".join(found.sentences()))


if __name__ == "__main__":
    main()
