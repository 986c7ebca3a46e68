"""Command lines that nobody meant: every verb with random options and values, on a tiny base and a tiny corpus."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path

import typer

from asrpeft.cli.main import app, run
from asrpeft.corpus.manifest import write_manifest
from asrpeft.errors import BadInput, Failure
from tests.attack.runner import Surface, Wrong
from tests.recognizer.checkpoint import tiny_checkpoint
from tests.training.tones import tones

NUMBERS = ["0", "1", "2", "-1", "0.5", "1e-3", "nan", "inf", "-inf", "1e400", "9" * 50, "x", "", "0x10", "１"]
VALUES = {  # values that keep a run short, and odd ones
    "--epochs": ["1", "0", "x", "nan"],
    "--steps": ["1", "2", "0", "-1"],
    "--minutes": ["0.01", "nan", "0", "-1"],
    "--threads": ["1", "0", "-1", "100000"],
    "--workers": ["0", "1", "-1"],
    "--beams": ["1", "2", "0", "-3", "9999"],
    "--resamples": ["0", "10", "-1"],
    "--device": ["cpu", "xpu", "cuda:99", "", "x"],
    "--checkpoint-minutes": ["0", "1", "nan"],
    "--amounts": ["0.5,1", "x", "0", ""],
    "--batch-size": ["1", "2", "0", "-1", "x"],
}
WORDS = (
    """en auto sw xx full lora s2lora attention conv decoder.*.q_proj { ( ce+ctc 0.1,1 text=text rank=2 all none speaker a,b [/b] 0 1 nan json srt
    standard standard,noise=nan bf16 cosine noise""".split()
    + ["\x1b[31m", "é" * 200, " "]
)
NEVER = {"--help", "-h", "--install-completion", "--show-completion"}


def prepare(folder: Path):
    model = tiny_checkpoint(folder / "base", n_mels=80)
    data = write_manifest(tones(8, speakers=2), folder / "tones.jsonl")
    test = write_manifest(tones(3), folder / "test.jsonl")
    adapter = folder / "sw"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        run(
            [
                "finetune",
                "--model",
                str(model),
                "--data",
                str(data),
                "--steps",
                "1",
                "--lang",
                "en",
                "--loss",
                "ce+ctc",
                "--out",
                str(adapter),
                "--threads",
                "1",
            ]
        )
    assert adapter.is_dir(), said.getvalue()
    recording = next((folder / "tones").iterdir())
    return {"model": model, "data": data, "test": test, "adapter": adapter, "audio": recording, "verbs": dict(_verbs(typer.main.get_command(app)))}


def _verbs(command, path: tuple[str, ...] = ()):
    """(words of the verb, its command), by what commands have and not by their classes: typer may bring a click of its own."""
    if hasattr(command, "list_commands"):
        context = command.context_class(command)
        for name in command.list_commands(context):
            yield from _verbs(command.get_command(context, name), (*path, name))
    else:
        yield path, command


def _value(option, name: str, shared, rng: random.Random) -> str:
    if name in VALUES:
        return rng.choice(VALUES[name])
    paths = [str(shared[key]) for key in ("model", "data", "test", "adapter", "audio")] + ["nowhere", ".", "", "/dev/null", "out/x"]
    if option.type_descriptor.annotation in (int, float):
        return rng.choice(NUMBERS)
    return rng.choice(paths if rng.random() < 0.4 else WORDS)


def case(rng: random.Random, shared, own: Path) -> None:
    verb = rng.choice([path for path in shared["verbs"] if path[0] not in ("serve",)])
    command = shared["verbs"][verb]
    given = list(verb)
    options = {max(p.opts, key=len): p for p in command.params if p.param_type_name == "option" and not set(p.opts) & NEVER}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            fitting = {"audio": "audio", "file": "audio", "data": "data", "adapter": "adapter", "folder": "adapter"}.get(parameter.name or "", "adapter")
            given.append(str(shared[fitting]) if rng.random() < 0.8 else rng.choice(["nowhere", "", "-x", str(own), str(shared["model"])]))
    usual = {"--model": "model", "--data": "data", "--eval-data": "test", "--adapter": "adapter"}
    for name, key in usual.items():
        if name in options and (options[name].required or name == "--model" or rng.random() < 0.4) and rng.random() < 0.93:
            given += [name, str(shared[key])]
    if "--out" in options and rng.random() < 0.7:
        given += ["--out", str(own / rng.choice(["out", "out", "out", "a/b/out", "é x"]))]
    if "--methods" in options:
        given += ["--methods", rng.choice(["lora", "ia3,prompt", "nothing", ""])]
    if "--steps" in options:
        given += ["--steps", "1"]
    if "--threads" in options:
        given += ["--threads", "1"]
    for name in rng.sample(sorted(options), min(len(options), rng.choice([0, 1, 1, 2, 3, 5]))):
        option = options[name]
        if name in given:
            continue
        if option.is_flag:
            given.append(rng.choice([*option.opts, *option.secondary_opts]))
        elif name not in ("--out",):
            given += [name, _value(option, name, shared, rng)]
    message, status = io.StringIO(), 0
    with contextlib.redirect_stdout(message), contextlib.redirect_stderr(message):
        try:
            run(given)
        except SystemExit as end:
            status = end.code or 0
    if status not in (0, 1, 2):
        raise Wrong(f"exit status {status!r}: asrpeft {' '.join(given)}"[:600])
    if (
        "Traceback (most recent call last)" in message.getvalue()
        or "an internal error" in message.getvalue()
        or "Error: " in message.getvalue()
        and "Error: Invalid" not in message.getvalue()
    ):
        line = next(line for line in message.getvalue().splitlines()[::-1] if line.strip())
        raise Wrong(f"asrpeft {' '.join(given)}: {line}"[:600])
    if "\x1b[31m" in message.getvalue():
        raise Wrong(f"an escape sequence reached the terminal: asrpeft {' '.join(given)}"[:600])

    if status:
        raise BadInput("refused") if status == 2 else Failure("failed in words")


SURFACE = Surface("flags", prepare, case, weight=0.6)
