"""Adapt the embedded base to real speech, adults and children apart, and test on other speakers.

    python scripts/bench/real_speech.py --train speechocean762/train.parquet --test speechocean762/test.parquet --minutes 4

The corpora are Parquet files with `audio`, `text`, `speaker` and `age` (speechocean762: Zhang et al., 2021, arXiv:2104.01378;
on the hub as mispeech/speechocean762). Prints one JSON object: per group the base's and the adapted error rates with
intervals, deletions as a share of the words, and the paired test in which an utterance counts at most 100 % errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

import torch

from asrpeft import load, read
from asrpeft.jobs.finetune import finetune
from asrpeft.training import TrainingOptions

GROUPS = {"adults": lambda u: float(u.column("age")) > 15, "children": lambda u: float(u.column("age")) <= 15}
SETTINGS = {"rank": 16, "alpha": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--model", help="default: the embedded base")
    parser.add_argument("--groups", default="adults,children")
    parser.add_argument("--where", default="attention,conv,ff")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, a group")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train, test = read(given.train), read(given.test)
    found = {"date": datetime.now(UTC).date().isoformat(), "threads": torch.get_num_threads(), "seed": given.seed, "minutes": given.minutes, "groups": {}}
    for group in given.groups.split(","):
        recognizer = load(given.model)
        found["base"] = recognizer.info.id
        options = TrainingOptions(minutes=given.minutes, seed=given.seed)
        done = finetune(
            recognizer, train.filter(GROUPS[group]), options=options, method="lora", where=given.where, settings=SETTINGS, lang="en", name=group,
            eval_data=test.filter(GROUPS[group]), progress=lambda event: print(event, file=sys.stderr) if "Step" not in type(event).__name__ else None,
        ).to_json()  # fmt: skip
        told = {"trained_parameters": done["trained_parameters"], "steps": done["steps"], "seconds": round(done["seconds"]), "test": done["eval"]["test"]}
        for when in ("before", "after"):
            score = done["eval"][when]
            told[when] = {key: score[key] for key in ("wer", "wer_interval", "cer", "cer_interval", "interval_unit", "words", "utterances")}
            told[when]["deletions_of_words"] = score["deletions"] / score["words"]
        found["groups"][group] = told
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
