"""`data/mini` from nothing, in one command that may be interrupted and repeated: it goes on where it stopped.

    python -m scripts.mini.build --speech PATH|hub:mispeech/speechocean762 --out data/mini --minutes 180

texts and tokenizer → speech rendered (in a second process, while training runs) → training → export → alignment heads →
evaluation → model card. Synthesized speech alone (without --speech) works too, and carries over badly to real voices.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from scripts.mini import card, evaluate, heads, real
from scripts.mini.export import export
from scripts.mini.prepare import prepare
from scripts.mini.shards import Shard, complete

TRAIN = Path(__file__).with_name("train.sh")


def finish(work: Path, out: Path, *, speech: str | None, test: str | None, demo: Path, seed: int, minutes: float, verdict: str) -> None:
    """Everything after training: `out` and its card."""
    export(work, out, seed=seed)
    found, medians = heads.find(out, Shard(work / "dev"))
    heads.write(out, found)
    table = evaluate.evaluate(out, train=speech, test=test, demo=demo)
    adults = real.split(real.read(speech))[0] if speech else []
    voices = f"{len(adults):,} utterances by {len({u.speaker for u in adults})} speakers"
    card.write(
        out,
        table=table,
        log=work / "train.log",
        verdict=verdict,
        real=voices,
        seed=seed,
        minutes_asked=minutes,
        distance=f"{1000 * np.array([medians[i, j] for i, j in found]).mean():.0f} ms",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/mini"))
    parser.add_argument("--work", type=Path, default=Path("runs/mini"), help="shards, checkpoints and log")
    parser.add_argument("--speech", help="real speech with audio,text,speaker,age: Parquet, or hub:NAME[:SPLIT]")
    parser.add_argument("--speech-test", help="the like, for the card only")
    parser.add_argument("--demo", type=Path, default=Path("data/demo"), help="for the held-out language's row of the card")
    parser.add_argument("--minutes", type=float, default=180, help="of training, over all pieces")
    parser.add_argument("--shards", type=int, default=28)
    parser.add_argument("--copies", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verdict", default="the table says how far they were met.", help="a sentence for the card")
    parser.add_argument("--only-finish", action="store_true", help="export and measure the checkpoint there is")
    given = parser.parse_args()
    if not given.only_finish:
        given.work.mkdir(parents=True, exist_ok=True)
        if not (given.work / "characters.json").exists():
            prepare(given.work, given.speech, given.seed)
        shards = given.work / "shards"
        command = [
            sys.executable,
            "-m",
            "scripts.mini.render",
            "--out",
            str(shards),
            "--shards",
            str(given.shards),
            "--copies",
            str(given.copies),
            "--seed",
            str(given.seed),
        ]
        rendering = subprocess.Popen([*command, *(["--speech", given.speech] if given.speech else [])])
        try:
            while not complete(shards):
                if rendering.poll() is not None:
                    raise SystemExit("Rendering ended without a shard; see its message above.")
                time.sleep(2)
            subprocess.run(
                [TRAIN, "--shards", shards, "--work", given.work, "--minutes", str(given.minutes), "--seed", str(given.seed), "--dev", given.work / "dev"],
                check=True,
                env=os.environ | {"PYTHON": sys.executable},
            )
        finally:
            rendering.terminate()
    finish(given.work, given.out, speech=given.speech, test=given.speech_test, demo=given.demo, seed=given.seed, minutes=given.minutes, verdict=given.verdict)


if __name__ == "__main__":
    main()
