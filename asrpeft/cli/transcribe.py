"""`asrpeft transcribe AUDIO…`: recordings of any length to text, subtitles or JSON."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from asrpeft.cli import options as o
from asrpeft.cli.output import print_json, reason, teller, write_text
from asrpeft.errors import BadAudio, BadInput


def add_to(app: typer.Typer) -> None:
    app.command("transcribe")(transcribe)


Vad = Annotated[bool, typer.Option("--vad", help="Look for speech in short recordings too (longer ones than 30 s always are).")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Text told to have come before: names and spellings to expect.")]


def transcribe(
    audio: Annotated[list[str], typer.Argument(help="Recordings: any format that libsndfile or FFmpeg's libraries read.")],
    adapter: o.Adapter = None,
    model: o.Model = None,
    lang: o.Lang = None,
    task: o.OwnTask = None,
    context: o.Context = None,
    format: Annotated[str, typer.Option("--format", help="txt, json, srt, vtt or tsv.")] = "txt",
    out: Annotated[Path | None, typer.Option("--out", help="A folder for one file a recording. Default: standard output.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace transcripts that are there.")] = False,
    word_times: Annotated[bool, typer.Option("--word-times", help="Say when each word was said (json).")] = False,
    vad: Vad = False,
    prompt: Prompt = None,
    beams: o.Beams = None,
    ctc_weight: o.CtcWeight = 0.0,
    temperature: Annotated[float, typer.Option("--temperature", help="Above 0, tokens are drawn at random with --seed.")] = 0.0,
    merge: Annotated[bool, typer.Option("--merge", help="Fold the adapter into the weights first: no cost, same text.")] = False,
    force: o.Force = False,
    strict: o.Strict = False,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    threads: o.Threads = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Transcribe recordings.

    --json: {"transcripts": [{"audio", "text", "language", "segments": […], "words": […]}], "skipped": [{"audio", "reason"}]}
    """
    from json import loads

    from asrpeft.cli.progress import bar
    from asrpeft.decoding.writers import WRITERS, write
    from asrpeft.files import replace_file
    from asrpeft.jobs.transcribe import transcribe as run

    if format not in WRITERS:
        raise BadInput(f"There is no transcript format {format!r}; choose {', '.join(WRITERS)}.")
    say = teller(quiet=quiet, as_json=True)  # what is told besides the text never mixes with it
    places = targets(audio, out, format, overwrite=overwrite) if out is not None else {}
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    name = o.attach_one(recognizer, adapter, merge=merge, force=force)
    task = o.task_of(recognizer, [name] if name else [], task)
    o.warn_of_language(recognizer, [name] if name else [], lang)
    options = o.search(beams, ctc_weight, temperature=temperature, seed=seed)
    told, skipped = [], []
    for source in audio:
        try:
            with bar(Path(source).name, quiet=quiet) as advance:
                segments = list(run(recognizer, source, adapter=name, lang=lang, task=task, context=context, vad=vad, word_times=word_times,
                                    options=options, prompt=prompt, progress=advance))  # fmt: skip
        except BadAudio as error:
            if strict or len(audio) == 1:
                raise
            skipped.append({"audio": source, "reason": str(error)})
            say(f"skipped: {error}")
            continue
        if out is not None:
            replace_file(places[source], write(segments, format))
            say(str(places[source]))
        if json:
            told.append({"audio": source, **loads(write(segments, "json"))})
        elif out is None:
            if len(audio) > 1 and format == "txt":
                say(f"{source}:")
            write_text(write(segments, format))
    if json:
        print_json({"transcripts": told, "skipped": skipped})
    if skipped:
        reason(f"{len(skipped)} of {len(audio)} recordings could not be read.")
        raise typer.Exit(1)


def targets(audio: list[str], out: Path, kind: str, *, overwrite: bool) -> dict[str, Path]:
    """Where each recording's transcript goes: STEM.KIND; recordings with equal stems keep their relative folder.

    Raises: BadInput if two would go to one place, or one is there already.
    """
    stems = Counter(Path(source).stem for source in audio)
    paths = [Path(os.path.abspath(source)) for source in audio]  # a link keeps its name: what it points to may have none
    common = Path(os.path.commonpath([path.parent for path in paths])) if len(paths) > 1 else paths[0].parent
    places = {source: out / ((path.parent.relative_to(common) if stems[path.stem] > 1 else Path()) / f"{path.stem}.{kind}") for source, path in zip(audio, paths)}
    doubled = [str(place) for place, n in Counter(places.values()).items() if n > 1]
    if doubled:
        raise BadInput(f"Two recordings would be written to {doubled[0]}. Give them different names, or run them into different --out folders.")
    there = [place for place in places.values() if place.exists()]
    if there and not overwrite:
        raise BadInput(f"{str(there[0])!r} exists already{f' (and {len(there) - 1} more)' if len(there) > 1 else ''}. Choose another --out, or --overwrite.")
    return places
