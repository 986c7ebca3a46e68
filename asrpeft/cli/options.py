"""The options that several verbs take, and what they mean, written once."""

from __future__ import annotations

import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrpeft.errors import BadInput

if TYPE_CHECKING:
    from asrpeft.corpus import Corpus, Reading
    from asrpeft.decoding import Options
    from asrpeft.recognizer import Recognizer

_KINDS = "A Parquet file, a JSONL/CSV/TSV manifest, a Kaldi directory, a folder of audio with transcripts, or hub:NAME:CONFIG:SPLIT."
Data = Annotated[list[str], typer.Option("--data", help=f"{_KINDS} Give the option again for more corpora: they are scored together, and each by itself.")]
_SEVERAL = "Give the option again for more corpora"
TrainingData = Annotated[
    list[str],
    typer.Option(
        "--data", help=f"{_KINDS} {_SEVERAL}; each may say how often its rows are drawn in an epoch: --data sw.jsonl:2 --data en.jsonl:0.5 (1 if it does not)."
    ),
]
DevData = Annotated[
    list[str] | None,
    typer.Option(
        "--dev-data", help=f"Chooses checkpoints and stopping. Default: a tenth of the training speakers (of the sentences, if there is one). {_SEVERAL}."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="ROLE=COLUMN", help="Which column is which: text=sentence speaker=client_id. Common names are recognized."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="The base: a hub id such as openai/whisper-small, or a folder. In a checkout the embedded data/mini is the default."),
]
Adapter = Annotated[str | None, typer.Option("--adapter", help="An adapter folder to use on the base.")]
Lang = Annotated[str | None, typer.Option("--lang", help="The language spoken: a code (sw) or a name (swahili). Default: the corpus' or the adapter's.")]
Spoken = Annotated[
    str | None,
    typer.Option(
        "--lang",
        help="The language spoken: a code (sw), a name (swahili), or auto, which lets the base find out. Default: what the corpus, the adapter or a merged model says.",
    ),
]
Task = Annotated[str, typer.Option("--task", help="transcribe, or translate into English.")]
OwnTask = Annotated[str | None, typer.Option("--task", help="transcribe, or translate into English. Default: what the adapter was trained for.")]
Context = Annotated[
    str | None,
    typer.Option("--context", help="Audio context: full pads to 30 s, auto computes what the speech needs. Default: what the model was trained for."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16: the dtype of the base's weights.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="CPU threads. Default: PyTorch's choice, one for each core. Threads that wait sleep (OMP_WAIT_POLICY=PASSIVE, unless you set it), so that other jobs on the machine cost no more than their share.",
    ),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="At most so many utterances at a time; the sum of their lengths is bounded too.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
SpeakersDir = Annotated[
    str | None,
    typer.Option(
        "--speakers",
        help="The folder that `asrpeft speakers --out` wrote: enabled adapters hear their own speakers, the pooled one or the base everybody else.",
    ),
]
Speaker = Annotated[str | None, typer.Option("--speaker", help="Who speaks, of those in --speakers.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Force = Annotated[bool, typer.Option("--force", help="Use an adapter on another base than its own, if the shapes fit.")]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on the first file that cannot be read, instead of skipping and counting it.")]
Beams = Annotated[int | None, typer.Option("--beams", help="Hypotheses kept by beam search; 1 is greedy. Default: 1, with --ctc-weight 4.")]
CtcWeight = Annotated[
    float,
    typer.Option(
        "--ctc-weight",
        help="Joint decoding: the CTC head's share of the score, 0 to 1 (0.3 is usual; 1: the head alone, as for adapters trained with --loss ctc). Slower, and far fewer errors where the head was trained (--loss ce+0.3*ctc).",
    ),
]
AllowOverlap = Annotated[
    bool,
    typer.Option(
        "--allow-overlap",
        help="Go on though recordings that are tested on were also trained or chosen on. Without it that is refused; shared speakers and sentences are told.",
    ),
]
NoRecord = Annotated[
    bool,
    typer.Option(
        "--no-record",
        help="Leave out of the adapter the digests of its recordings, ids and speakers, by which evaluate knows what it was trained on. (They hold no text, and none can be read back.)",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Fixes every random choice.")]


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`["rank=16", "alpha=32,scale=rs"]` → a dictionary.

    Raises: BadInput for a part without `=`, and for a key with two values.
    """
    found: dict[str, str] = {}
    for part in [part for text in given or [] for part in text.split(",") if part]:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"{option} takes KEY=VALUE, got {part!r}.")
        key, value = key.strip(), value.strip()
        if found.get(key, value) != value:
            raise BadInput(f"{option} says {key}={found[key]} and {key}={value}. Keep one.")
        found[key] = value
    return found


def search(beams: int | None, ctc_weight: float, **further: Any) -> Options:
    """How to decode; a row that repeats itself is cut."""
    from asrpeft.decoding import Options

    return Options(stop_loops=True, beams=beams or (4 if ctc_weight else 1), ctc_weight=ctc_weight, **further)


def load_model(model: str | None, *, device: str, dtype: str, threads: int | None, say: Any) -> Recognizer:
    """The recognizer; says so when it is the embedded default."""
    import transformers

    from asrpeft.recognizer import load

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    recognizer = load(model, device=device, dtype=dtype, threads=threads)
    if model is None:
        say(f"Base: {recognizer.info.id}, the small embedded default. For real use name one: --model openai/whisper-small")
    return recognizer


def attach(recognizer: Recognizer, folders: list[str] | None, *, force: bool = False) -> list[str]:
    """Load adapter folders and give their names: each folder's own, with its parent's where two are called alike."""
    names = []
    for folder in folders or []:
        place = Path(folder).resolve()
        name = place.name if place.name not in recognizer.adapters else f"{place.parent.name}-{place.name}"
        names.append(recognizer.adapters.load(folder, name=name, force=force).name)
    return names


def task_of(recognizer: Recognizer, names: list[str], task: str | None) -> str:
    """The task asked for, else that of the adapters, which the base beside them is told too.

    Raises: BadInput if the adapters were trained for different ones.
    """
    trained = {recognizer.adapters[name].manifest.task for name in names}
    if task is None and len(trained) > 1:
        raise BadInput(f"The adapters were trained for different tasks ({', '.join(sorted(trained))}). Choose one with --task.")
    return task or next(iter(trained), recognizer.info.task)


def warn_of_language(recognizer: Recognizer, names: list[str], lang: str | None) -> None:
    """Tell on standard error, whatever is quiet, where an adapter is asked for another language than its own."""
    from asrpeft.cli.output import reason
    from asrpeft.recognizer.languages import foreign

    for name in names if recognizer.multilingual else ():
        if warning := foreign(name, recognizer.adapters[name].manifest.language, lang):
            reason(f"Warning: {warning}")


def voice_of(speakers: str | None, speaker: str | None, adapter: str | None, *, say: Any) -> str | None:
    """The adapter folder to use: that of `--adapter`, or of a speaker in `--speakers`; None is the base.

    Raises: BadInput where both are given, or only half of what it takes.
    """
    if speakers is None and speaker is None:
        return adapter
    if speakers is None or speaker is None:
        from asrpeft.jobs.voices import Voices

        known = "" if speakers is None else f" of {', '.join(sorted({*(found := Voices.read(speakers)).own, *found.disabled})[:8])}"
        raise BadInput(f"--speakers DIR and --speaker NAME belong together: which folder, and whose voice{known}.")
    if adapter is not None:
        raise BadInput("--adapter and --speakers both say what to hear with. Keep one.")
    from asrpeft.jobs.voices import Voices

    voices = Voices.read(speakers)
    folder = voices.folder_for(speaker)
    if speaker not in voices.own:
        say(f"The adapter of {speaker!r} did not help on the speaker's own dev sentences: {'the base' if folder is None else 'the pooled adapter'} is used.")
    return None if folder is None else str(folder)


def attach_one(recognizer: Recognizer, folder: str | None, *, merge: bool, force: bool = False) -> str | None:
    """Load the adapter, if one is named, and fold it into the base's weights if asked for; its name, or None.

    Raises: BadInput if nothing is named to fold.
    """
    name = attach(recognizer, [folder], force=force)[0] if folder else None
    if merge:
        if name is None:
            raise BadInput("--merge folds an adapter into the base; name one with --adapter.")
        recognizer.adapters.merge(name)
    return name


def read_corpus(data: str | list[str], *, columns: list[str] | None = None, strict: bool = False, limit: int | None = None, weights: bool = False,
                quiet: bool = True) -> Corpus:  # fmt: skip
    """One corpus, or several as one; unless `quiet`, with a bar while it is read.

    Raises: BadInput for weights where nothing is trained.
    """
    from asrpeft.cli.progress import bar
    from asrpeft.corpus import read

    if not weights:
        _without_weights(data)
    with bar("reading", quiet=quiet) as advance:
        return read(data, columns=pairs("--columns", columns), strict=strict, limit=limit, progress=advance)


def open_corpus(data: list[str], *, columns: list[str] | None = None, strict: bool = False) -> Reading:
    """The same, row by row, where nothing is trained."""
    from asrpeft.corpus import open_corpus

    _without_weights(data)
    return open_corpus(data, columns=pairs("--columns", columns), strict=strict)


def _without_weights(data: str | list[str]) -> None:
    from asrpeft.corpus.mix import listed

    heavy = [(spec, weight) for spec, weight in listed(data) if weight != 1]
    if heavy:
        raise BadInput(f"{heavy[0][0]}:{heavy[0][1]:g}: a weight says how often training draws from a corpus; here every row counts once. Leave it out.")


def read_recordings(data: str) -> Corpus:
    from asrpeft.corpus.recordings import recordings

    return recordings(data)


def recipe(context: typer.Context, value: Path | None) -> Path | None:
    """Callback of `--recipe`: its settings become the defaults of the other options, so that flags still win.

    A recipe is a TOML file whose keys are option names with `_` or `-`; the table `[set]` holds the method's settings, of which
    `--set` on the command line changes those that it names.
    """
    if value is None:
        return None
    try:
        settings = tomllib.loads(value.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"The recipe {str(value)!r} cannot be read: {error}.") from None
    known = {option: parameter for parameter in context.command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    defaults: dict[str, Any] = {}
    for key, setting in settings.items():
        parameter = known.get("--" + key.replace("_", "-"))
        if parameter is None or key == "recipe":
            raise BadInput(f"The recipe {str(value)!r} sets {key!r}, which is no option of `asrpeft {context.info_name}`.")
        if isinstance(setting, dict):
            setting = [f"{k}={v}" for k, v in setting.items()]
        elif isinstance(setting, list) and not parameter.multiple:
            setting = ",".join(map(str, setting))
        elif parameter.multiple and not isinstance(setting, list):
            setting = [str(setting)]
        defaults[parameter.name] = setting
    context.default_map = {**defaults, **(context.default_map or {})}
    return value


def over_recipe(context: typer.Context, settings: list[str] | None, **lengths: Any) -> tuple[list[str], dict[str, Any]]:
    """(settings of the method, the length of training) where a recipe gives some and the command line others.

    A length on the command line, in epochs, steps or minutes, takes the place of a recipe's in whatever unit.
    """
    recipes: MutableMapping[str, Any] = context.default_map or {}
    # By its name: the class is click's, or that of a copy which typer brings along.
    given = {name for name in (*lengths, "settings") if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"}
    if given & set(lengths):
        lengths = {name: value if name in given else None for name, value in lengths.items()}
    typed = pairs("--set", settings)
    kept = {key: value for key, value in pairs("--set", recipes.get("settings") if "settings" in given else None).items() if key not in typed}
    return [f"{key}={value}" for key, value in {**kept, **typed}.items()], lengths
