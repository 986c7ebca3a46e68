"""`asrpeft transcribe AUDIO…`: recordings of any length to text, subtitles or JSON."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from asrpeft import destination
from asrpeft.cli import options as o
from asrpeft.cli.output import print_json, reason, teller, write_text
from asrpeft.errors import BadAudio, BadInput
from asrpeft.report.words import duration


def add_to(app: typer.Typer) -> None:
    app.command("transcribe")(transcribe)


SPEECH, SUBTITLES = "Finding speech", "Subtitles (srt, vtt)"  # panels of --help
Vad = Annotated[
    bool | None,
    typer.Option(
        "--vad/--no-vad",
        help="Look for speech in short recordings too, or in none: long ones are then cut every 30 s, where they are quietest. Default: in recordings of more than 30 s.",
        show_default=False,
        rich_help_panel=SPEECH,
    ),
]
Threshold = Annotated[float, typer.Option("--vad-threshold", help="Probability from which a moment is speech: lower finds more.", rich_help_panel=SPEECH)]
MinSpeech = Annotated[float, typer.Option("--vad-min-speech", help="Seconds; shorter sounds are no speech.", rich_help_panel=SPEECH)]
MinSilence = Annotated[float, typer.Option("--vad-min-silence", help="Seconds of silence that end a stretch of speech.", rich_help_panel=SPEECH)]
Pad = Annotated[float, typer.Option("--vad-pad", help="Seconds kept before and after speech; at most half of --vad-min-silence.", rich_help_panel=SPEECH)]
MaxSpeech = Annotated[float, typer.Option("--vad-max", help="Seconds; longer speech is cut where it is quietest, 30 at most.", rich_help_panel=SPEECH)]
Timestamps = Annotated[
    bool, typer.Option("--timestamps", help="Let the model write timestamps: segments begin and end where it says. For bases and adapters trained with them.")
]
LineWidth = Annotated[int, typer.Option("--max-line-width", help="Columns of a line.", rich_help_panel=SUBTITLES)]
LineCount = Annotated[
    int | None, typer.Option("--max-line-count", help="Lines of a cue. Default: 2, with --max-words-per-line 1.", show_default=False, rich_help_panel=SUBTITLES)
]
LineWords = Annotated[
    int | None, typer.Option("--max-words-per-line", help="Words of a line. Default: as many as fit.", show_default=False, rich_help_panel=SUBTITLES)
]
CueSeconds = Annotated[float, typer.Option("--max-cue-seconds", help="The longest a cue may last.", rich_help_panel=SUBTITLES)]
ReadingSpeed = Annotated[
    float, typer.Option("--reading-speed", help="Characters a second: a cue stays so long, if the next one leaves time.", rich_help_panel=SUBTITLES)
]
Highlight = Annotated[bool, typer.Option("--highlight-words", help="Underline each word while it is said.", rich_help_panel=SUBTITLES)]
Formats = Annotated[list[str], typer.Option("--format", help="txt, json, srt, vtt, tsv or all; several with --out: --format srt,json.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Text told to have come before: names and spellings to expect.")]


def transcribe(
    audio: Annotated[
        list[str],
        typer.Argument(
            help="Recordings in any format that libsndfile or FFmpeg's libraries read, of any length; folders of them, globs, pipes, - for standard input."
        ),
    ],
    adapter: o.Adapter = None,
    speakers: o.SpeakersDir = None,
    speaker: o.Speaker = None,
    model: o.Model = None,
    lang: o.Spoken = None,
    task: o.OwnTask = None,
    context: o.Context = None,
    format: Formats = ["txt"],  # noqa: B006 - the parser's own default
    out: Annotated[Path | None, typer.Option("--out", help="A folder for one file a recording. Default: standard output.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace transcripts that are there.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out recordings whose transcripts are all there: goes on with what was interrupted.")
    ] = False,
    word_times: Annotated[bool, typer.Option("--word-times", help="Say when each word was said (json; subtitles always know).")] = False,
    timestamps: Timestamps = False,
    max_line_width: LineWidth = 42,
    max_line_count: LineCount = None,
    max_words_per_line: LineWords = None,
    max_cue_seconds: CueSeconds = 7.0,
    reading_speed: ReadingSpeed = 17.0,
    highlight_words: Highlight = False,
    vad: Vad = None,
    vad_threshold: Threshold = 0.5,
    vad_min_speech: MinSpeech = 0.25,
    vad_min_silence: MinSilence = 0.5,
    vad_pad: Pad = 0.2,
    vad_max: MaxSpeech = 30.0,
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

    --json: {"transcripts": [{"audio", "text", "language", "segments": […], "words": […]}], "skipped": [{"audio", "reason"}],
    "existing": […]}, the last being what --skip-existing left out.
    """
    if out is not None:
        destination.check(out)
    from json import loads

    from asrpeft.audio.vad import SpeechSettings
    from asrpeft.cli.progress import bar
    from asrpeft.decoding.cues import CueStyle
    from asrpeft.decoding.writers import WRITERS, write
    from asrpeft.files import replace_file
    from asrpeft.jobs.pace import Pace
    from asrpeft.jobs.sources import sources
    from asrpeft.jobs.transcribe import transcribe as run

    kinds = formats(format, several=out is not None or json)
    if out is None and (overwrite or skip_existing):
        raise BadInput(f"--{'overwrite' if overwrite else 'skip-existing'} is about files: name a folder for them with --out.")
    lines = (1 if max_words_per_line else 2) if max_line_count is None else max_line_count
    style = CueStyle(max_line_width, lines, max_cue_seconds, max_words_per_line, reading_speed, highlight_words)
    subtitles = any(WRITERS[kind].cues for kind in kinds)
    if style != CueStyle() and not subtitles:
        raise BadInput("--max-line-width and the other options of subtitles shape srt and vtt: choose one of these with --format.")
    speech = SpeechSettings(vad_threshold, vad_min_speech, vad_min_silence, vad_pad, vad_max)
    if speech != SpeechSettings() and vad is False:
        raise BadInput("--no-vad looks for no speech, so that the other --vad options mean nothing. Leave out one or the other.")
    speech.detector()  # refuses what contradicts itself before a model is loaded
    say = teller(quiet=quiet, as_json=True)  # what is told besides the text never mixes with it
    named, missing = sources(audio)
    if missing and strict:
        raise BadInput(missing[0][1])
    places = targets(named, out, kinds, overwrite=overwrite, skip_existing=skip_existing) if out is not None else {}
    existing = [source for source in places if not places[source]]
    audio = [source for source in named if places.get(source) != {}]
    for source in existing:
        say(f"there already: {source}")
    transcripts: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = [{"audio": source, "reason": why} for source, why in missing]
    for one in skipped:
        say(f"skipped: {one['reason']}")
    if not audio:  # nothing to load a model for
        return _end(transcripts, skipped, existing, len(named) + len(missing), json=json)
    folder = o.voice_of(speakers, speaker, adapter, say=say)
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    name = o.attach_one(recognizer, folder, merge=merge, force=force)
    task = o.task_of(recognizer, [name] if name else [], task)
    o.warn_of_language(recognizer, [name] if name else [], lang)
    options = o.search(beams, ctc_weight, temperature=temperature, seed=seed, timestamps=timestamps)
    lengths = [length(source) for source in audio] if len(audio) > 1 else [1.0]
    if len(audio) > 1:
        say(f"{len(audio):,} recordings, {duration(sum(lengths))} of sound.")
    pace = Pace(lengths)
    for number, source in enumerate(audio, 1):
        which = f" ({number:,} of {len(audio):,}{pace.step()})" if len(audio) > 1 else ""
        try:
            with bar(Path(source).name + which, quiet=quiet) as advance:
                segments = list(run(recognizer, source, adapter=name, lang=lang, task=task, context=context, vad=vad, speech=speech,
                                    word_times=word_times or subtitles, options=options, prompt=prompt, progress=advance))  # fmt: skip
        except BadAudio as error:
            if strict or len(named) + len(missing) == 1:
                raise
            skipped.append({"audio": source, "reason": str(error)})
            say(f"skipped: {error}")
            continue
        if segments and segments[0].language_probability is not None:
            say(f"{Path(source).name}: {segments[0].language} is spoken (probability {segments[0].language_probability:.2f})")
        for kind, place in places.get(source, {}).items():
            replace_file(place, write(segments, kind, style=style))
            say(str(place))
        if json:
            transcripts.append({"audio": source, **loads(write(segments, "json"))})
        elif out is None:
            if len(audio) > 1 and kinds == ["txt"]:
                say(f"{source}:")
            write_text(write(segments, kinds[0], style=style))
    return _end(transcripts, skipped, existing, len(named) + len(missing), json=json)


def length(source: str) -> float:
    """Seconds of a recording, as its header has them; 0 where that is not known, or reading would take what a pipe holds."""
    from asrpeft.audio import probe

    try:
        return probe(source) if Path(source).is_file() else 0.0
    except (BadAudio, OSError):
        return 0.0  # told when its turn comes


def _end(transcripts: list[dict[str, Any]], skipped: list[dict[str, Any]], existing: list[str], total: int, *, json: bool) -> None:
    if json:
        print_json({"transcripts": transcripts, "skipped": skipped, "existing": existing})
    if skipped:
        reason(f"{len(skipped)} of {total} recordings could not be read.")
        raise typer.Exit(1)


def formats(named: list[str], *, several: bool) -> list[str]:
    """`["srt,json", "txt"]` → each format once, in order.

    Raises: BadInput for one that there is not, or for more than one unless `several` can be told apart.
    """
    from asrpeft.decoding.writers import WRITERS

    kinds = list(dict.fromkeys(kind for part in named for one in part.split(",") for kind in (WRITERS if one.strip() == "all" else [one.strip()])))
    for kind in kinds:
        if kind not in WRITERS:
            raise BadInput(f"{WRITERS.unknown(kind)} Or choose all.")
    if len(kinds) > 1 and not several:
        raise BadInput(f"{len(kinds)} formats on one standard output could not be told apart. Name a folder for the files with --out.")
    return kinds


def targets(audio: list[str], out: Path, kinds: list[str], *, overwrite: bool, skip_existing: bool = False) -> dict[str, dict[str, Path]]:
    """Where each recording's transcripts go, by format: STEM.FORMAT; recordings with equal stems keep their relative folder.

    With `skip_existing` those that are there are left out; {} for a recording that has all of them.
    Raises: BadInput if two would go to one place, one is there already, or `out` cannot be a folder.
    """
    if overwrite and skip_existing:
        raise BadInput("--overwrite and --skip-existing exclude each other.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {str(out)!r} cannot be a folder: {error.strerror}.") from None
    stems = Counter(Path(source).stem for source in audio)
    paths = [Path(os.path.abspath(source)) for source in audio]  # a link keeps its name: what it points to may have none
    common = Path(os.path.commonpath([path.parent for path in paths])) if len(paths) > 1 else paths[0].parent
    folders = [out / (path.parent.relative_to(common) if stems[path.stem] > 1 else Path()) for path in paths]
    places = {source: {kind: folder / f"{path.stem}.{kind}" for kind in kinds} for source, path, folder in zip(audio, paths, folders)}
    doubled = [str(place) for place, n in Counter(place for own in places.values() for place in own.values()).items() if n > 1]
    if doubled:
        raise BadInput(f"Two recordings would be written to {doubled[0]}. Give them different names, or run them into different --out folders.")
    there = [place for own in places.values() for place in own.values() if place.exists()]
    if there and not (overwrite or skip_existing):
        raise BadInput(f"{str(there[0])!r} exists already{f' (and {len(there) - 1} more)' if len(there) > 1 else ''}. "
                       "Choose another --out, --skip-existing or --overwrite.")  # fmt: skip
    return {source: {kind: place for kind, place in own.items() if not skip_existing or not place.exists()} for source, own in places.items()}
