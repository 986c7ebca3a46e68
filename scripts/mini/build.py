"""`data/mini` from nothing, in one command that may be interrupted and repeated: it goes on where it stopped.

    python -m scripts.mini.build --speech PATH|hub:mispeech/speechocean762 --out data/mini --minutes 180

texts and tokenizer → speech rendered (in other processes, while training runs) → training → export → alignment heads →
evaluation → model card. Synthesized speech alone (without --speech) works too, and carries over badly to real voices.
With --teacher a real Whisper's encoder teaches (`teacher.py`), which also learns from --heard; with --from it goes on from a model.

On a machine with a GPU for half an hour, in calls of ten minutes, of which nothing but the working tree and a pack travels (`pack.py`):

    python -m scripts.mini.pack --out runs/pack --speech … --heard … --teacher TINY.EN --megabytes 30                 # at home
    python -m scripts.mini.build --pack runs/pack --from data/mini --device cuda --jobs 14 --scale 2 \\
        --minutes 22.5 --piece 7.5 --out runs/mini-4 --id mini-4 --teacher-name openai/whisper-tiny.en   # there, until it says that it is done
    python -m scripts.mini.build --pack runs/pack --from runs/mini-4 --begun 0.6 …             # instead, where runs/mini was lost between
    python -m scripts.mini.build --only-finish --speech … --speech-test … --out runs/mini-4                            # at home again

Each call there exports what it has, in half precision, 15 MB; at home that is measured and gets its card, which also wants
runs/mini/train.log from there. There it needs the project's packages, of which `espeakng-loader`, `soundfile`, `soxr` and `jiwer` are
those that a PyTorch machine seldom has.

Whether the teacher is worth its time is best seen there too, in two short runs over the same batches, judged on the dev speakers:

    python -m scripts.mini.train --shards runs/mini/shards --work runs/{plain,taught} --from data/mini --steps 1500 --device cuda [--teacher DIR]
    python -m scripts.mini.dev --shard runs/mini/dev --work runs/plain runs/taught --threads 16
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from scripts.mini import card, evaluate, heads, real
from scripts.mini.export import BASE_ID, export, spent
from scripts.mini.pack import HEARD, MADE, REAL, TEACHER, TEXTS, Pack
from scripts.mini.prepare import adopt, prepare
from scripts.mini.shards import Shard, complete

TRAIN = Path(__file__).with_name("train.sh")
HEARD_SHARE = 0.1  # of what is heard in training, where there is a teacher


def finish(out: Path, given: argparse.Namespace) -> None:
    """What follows the export: the heads that follow speech, the measurements, the card."""
    found, medians = heads.find(out, Shard(given.work / "dev"))
    heads.write(out, found)
    table = evaluate.evaluate(out, train=given.speech, test=given.speech_test, demo=given.demo)
    spoken = real.split(real.read(given.speech))[0] if given.speech else []
    voices = f"{len(spoken):,} utterances by {len({u.speaker for u in spoken})} speakers"
    card.write(
        out,
        table=table,
        log=given.work / "train.log",
        verdict=given.verdict,
        real=voices,
        seed=given.seed,
        minutes_asked=given.minutes,
        distance=f"{1000 * np.array([medians[i, j] for i, j in found]).mean():.0f} ms",
    )


def options(given: argparse.Namespace, *names: str) -> list[str]:
    """These of the options again, for another command; those that were not given are left out, and so are flags that are off."""
    out: list[str] = []
    for name in names:
        value = getattr(given, name)
        if value not in (None, False):
            out += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return out


def parts_of(given: argparse.Namespace) -> argparse.Namespace:
    """The command with what its pack holds, where nothing else was asked for."""
    if given.pack is None:
        return given
    parts = Pack(given.pack)
    found = {"speech": parts.part(REAL), "heard": parts.part(HEARD), "made": parts.part(MADE), "texts": parts.part(TEXTS), "teacher": parts.part(TEACHER)}
    as_text = "speech", "heard"  # may be names on the hub
    found = {name: str(path) if path and name in as_text else path for name, path in found.items()}
    return argparse.Namespace(**vars(given) | {name: getattr(given, name) or path for name, path in found.items()})


def wait(rendering: subprocess.Popen[bytes], shards: Path, wanted: set[str]) -> None:
    """Until training can begin: these shards are there, or rendering has ended and others are."""
    while not wanted <= {path.name for path in complete(shards)}:
        if rendering.poll() is not None:
            if complete(shards):
                return
            raise SystemExit("Rendering ended without a shard; see its message above.")
        time.sleep(0.5)


def make(given: argparse.Namespace) -> bool:
    """Render and train until the time is up or this piece of it; whether all of it is."""
    given.work.mkdir(parents=True, exist_ok=True)
    start = given.start
    if start is not None and not (given.work / "characters.json").exists():
        adopt(given.work, start)
    if not (given.work / "characters.json").exists() or not (given.work / "dev").exists():
        prepare(given.work, given.speech, given.seed, texts=given.texts)
    shards = given.work / "shards"
    about = options(given, "speech", "heard", "made", "texts", "shards", "size", "copies", "seed", "jobs")
    about += ["--paired"] * bool(given.teacher) + ["--long"] * bool(start)
    rendering = subprocess.Popen([sys.executable, "-m", "scripts.mini.render", "--out", str(shards), *about])
    try:
        wait(rendering, shards, {"synth-000"} | ({"real-00"} if start and given.speech else set()))
        about = options(given, "minutes", "piece", "begun", "teacher", "layers", "taught_every", "share_real", "device", "scale", "seed")
        about += ["--from", str(start)] * bool(start) + ["--loaders", str(given.jobs)] * (given.jobs > 1)
        about += ["--share-heard", str(HEARD_SHARE)] * bool(given.heard and given.teacher)
        subprocess.run(
            [TRAIN, "--shards", shards, "--work", given.work, "--dev", given.work / "dev", *about], check=True, env=os.environ | {"PYTHON": sys.executable}
        )
    finally:
        rendering.terminate()
    return spent(given.work) >= given.minutes


def exported(given: argparse.Namespace) -> None:
    told = {
        "from": given.start and json.loads((given.start / "asrpeft.json").read_text(encoding="utf-8"))["id"],
        "teacher": given.teacher and (given.teacher_name or Path(given.teacher).name),
        "heard": given.heard and given.heard_name,
        "taught_every": given.taught_every,
        "share_real": given.share_real,
    }
    about = {"id_": given.id, "seed": given.seed, "start": given.start, "changed_share": given.changed_share}
    export(given.work, given.out, **about, **{name: value for name, value in told.items() if value})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/mini"))
    parser.add_argument("--work", type=Path, default=Path("runs/mini"), help="shards, checkpoints and log")
    parser.add_argument("--speech", help="real speech with audio,text,speaker,age: Parquet, or hub:NAME[:SPLIT]")
    parser.add_argument("--speech-test", help="the like, for the card only")
    parser.add_argument("--demo", type=Path, default=Path("data/demo"), help="for the held-out language's row of the card")
    parser.add_argument("--minutes", type=float, default=180, help="of training, over all pieces")
    parser.add_argument("--shards", type=int, default=28)
    parser.add_argument("--size", type=int, help="utterances of a synthesized shard; default: that of render.py")
    parser.add_argument("--copies", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verdict", default="the table says how far they were met.", help="a sentence for the card")
    parser.add_argument("--only-finish", action="store_true", help="measure what is exported, or the checkpoint there is")
    parser.add_argument("--id", default=BASE_ID, help="what the model is called")
    parser.add_argument("--from", dest="start", type=Path, help="an exported model to go on from, such as data/mini")
    parser.add_argument("--begun", type=float, help="share of the schedule that lies behind (see train.py)")
    parser.add_argument("--teacher", type=Path, help="a Whisper checkpoint whose encoder teaches")
    parser.add_argument("--teacher-name", help="what the card calls it, such as openai/whisper-tiny.en; default: its folder")
    parser.add_argument("--layers", choices=["last", "all"], help="of the teacher")
    parser.add_argument("--taught-every", type=int, help="of so many blocks of steps the teacher hears one (see train.py)")
    parser.add_argument("--share-real", type=float, help="of real speech, once it is put together anew (see train.py)")
    parser.add_argument("--changed-share", type=float, help="of what training changed in --from, so much is exported (default: all of it; see export.py)")
    parser.add_argument("--heard", help="speech for the teacher alone, with audio: Parquet")
    parser.add_argument("--heard-name", default="other languages", help="what the card calls that")
    parser.add_argument("--made", type=Path, help="synthesized speech of another system, as pack.py writes it")
    parser.add_argument("--texts", type=Path, help="texts of another system, as pack.py writes them")
    parser.add_argument("--pack", type=Path, help="a folder of pack.py, for --speech, --heard, --made, --texts and --teacher")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--scale", type=float, help="how many times as much speech in a step as two cores like")
    parser.add_argument("--piece", type=float, help="minutes of training after which this call exports and ends; the same call goes on")
    parser.add_argument("--jobs", type=int, default=1, help="processes that render, and as many that make batches")
    given = parts_of(parser.parse_args())
    if not given.only_finish:
        over = make(given)
        exported(given)
        if not over or given.piece:
            print(f"{given.out}: {spent(given.work):.1f} of {given.minutes:g} minutes. " + ("Done: --only-finish measures it." if over else "Call again."))
            return
    elif (given.work / "checkpoint.pt").exists():
        exported(given)
    elif not (given.work / "dev").exists():
        adopt(given.work, given.out)
        prepare(given.work, given.speech, given.seed)
    finish(given.out, given)


if __name__ == "__main__":
    main()
