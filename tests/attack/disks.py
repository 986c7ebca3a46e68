"""Disks that are full after so many bytes: an error is said, and what was there before is still there and whole."""

from __future__ import annotations

import random
import resource
import shutil
import signal
from pathlib import Path

from asrpeft.adapters.adapter import read
from asrpeft.adapters.export import export_merged
from asrpeft.adapters.peft_format import write_peft
from asrpeft.corpus.manifest import write_manifest
from asrpeft.errors import AsrpeftError, Failure
from asrpeft.jobs.finetune import finetune
from asrpeft.options import AdapterOptions, Data, OutputOptions
from asrpeft.recognizer import load
from tests.attack.runner import Surface, Wrong
from tests.recognizer.checkpoint import tiny_checkpoint
from tests.training.tones import options, tones


def prepare(folder: Path):
    recognizer = load(str(tiny_checkpoint(folder / "base", n_mels=80)))
    adapter = recognizer.adapt("lora", name="a", lang="en")
    return recognizer, adapter, adapter.save(folder / "a")


def case(rng: random.Random, shared, own: Path) -> None:
    recognizer, adapter, saved = shared
    out = shutil.copytree(saved, own / "out")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is then an error, as on a full disk
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(10 ** rng.uniform(0, 6.3)), hard))
    action = rng.randrange(5)
    try:
        if action == 0:
            adapter.save(out, overwrite=True)
        elif action == 1:
            write_peft(adapter, own / "peft")
        elif action == 2:
            export_merged(recognizer, "a", own / "merged")
        elif action == 3:
            write_manifest(tones(6), own / "tones.jsonl")
        else:
            finetune(
                recognizer,
                Data(tones(6), dev=tones(2)),
                lang="en",
                method=AdapterOptions("ia3", name="b"),
                out=OutputOptions(out, overwrite=True),
                training=options(steps=2, checkpoint_s=0.0),
            )
        failed = False
    except (AsrpeftError, Failure, OSError):
        failed = True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        if "b" in recognizer.adapters:
            recognizer.adapters.detach("b")
    try:
        read(out)
    except AsrpeftError as error:
        raise Wrong(f"the adapter that was there is lost: {error}") from None
    halves = [name for name in ("peft", "merged", "tones.jsonl") if failed and (own / name).exists()]
    hidden = [p.name for p in own.rglob(".*") if not (failed and action in (3, 4))]
    if halves or hidden:
        raise Wrong(f"left behind after {'a failure' if failed else 'success'} of {action}: {halves + hidden}")
    if failed:
        raise Failure("the disk was full")


SURFACE = Surface("disks", prepare, case, weight=0.3)
