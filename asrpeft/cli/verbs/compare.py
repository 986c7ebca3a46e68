"""`asrpeft compare`: the methods against each other on one corpus, or one method on growing parts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from asrpeft import destination
from asrpeft.cli.flags import Given, Uses
from asrpeft.cli.options import CommonWithData
from asrpeft.cli.output import print_json, show
from asrpeft.cli.verb import TRAIN, verb
from asrpeft.cli.verbs.finetune import SCORED, TAUGHT
from asrpeft.errors import BadInput
from asrpeft.options import AdapterOptions, DecodingOptions, GrowingData, MethodsOptions, OutputOptions, SpeechOptions, TrainingOptions
from asrpeft.options.flag import Flag, listed, pairs

if TYPE_CHECKING:
    from asrpeft.report import Result


@dataclass(frozen=True)
class Methods:
    """The methods that are compared."""

    PANEL: ClassVar[str] = "The adapters"

    names: Annotated[tuple[str, ...], Flag("Names separated by commas, or all.", "--methods", takes=list[str], value=listed)] = ("all",)
    settings: Annotated[
        dict[str, str] | None,
        Flag(
            "Settings of single methods: --set lora.rank=16 s2lora.rank=32.",
            "--set",
            takes=list[str],
            value=lambda typed: pairs("--set", typed),
            metavar="METHOD.NAME=VALUE",
        ),
    ] = None
    where: Annotated[
        str | None,
        Flag("Layers for the methods that can act on them, as finetune has it; a method that cannot uses its own. Default: each method's own."),
    ] = None

    def wanted(self) -> list[AdapterOptions]:
        """What each method is asked for. Raises: BadInput for settings of a method that is not compared."""
        from asrpeft.methods import names

        methods = names() if self.names == ("all",) else self.names
        own: dict[str, dict[str, str]] = {}
        for key, value in (self.settings or {}).items():
            name, dot, setting = key.partition(".")
            if not dot or name not in methods:
                raise BadInput(f"--set {key}={value}: write METHOD.NAME=VALUE with a method that is compared ({', '.join(methods)}).")
            own.setdefault(name, {})[setting] = value
        return [AdapterOptions(name, self.where, own.get(name, {})) for name in dict.fromkeys(methods)]


COMPARED = Uses(
    required=("eval",),
    help={
        "eval": "What the methods are scored on; give the option again for more corpora.",
        "guard.data": "What the base could already do, in its own language: how much of it each method forgets. Never trained on.",
        "max_loss": "Points of WER that may be lost on the guard data: the best weights on the dev data that lose no more are kept, and a method that has "
        "none is left out. Default: the guard data choose nothing.",
    },
)
FOLDERS = Uses(
    without=("keep",),  # what is compared is what the dev data choose
    help={
        "folder": "A folder for the adapters, and for compare.html, .csv, .json and .svg, which are written anew after every method.",
        "resume": "Go on with the comparison in --out: what is done there is neither trained nor decoded again, an interrupted run goes on from its "
        "checkpoint.",
        "overwrite": "Train again and replace what is in --out.",
    },
)


@verb("compare", panel=TRAIN)
def compare(
    data: Annotated[Given[GrowingData], COMPARED],
    speech: Annotated[Given[SpeechOptions], TAUGHT],
    methods: Given[Methods],
    seeds: Given[MethodsOptions],
    training: Given[TrainingOptions],
    out: Annotated[Given[OutputOptions], FOLDERS],
    decoding: Annotated[Given[DecodingOptions], SCORED],
    common: Given[CommonWithData],
) -> None:
    """Fine-tune with several methods, all else equal: WER against trained parameters, time, memory and what is forgotten.

    All methods have the same data, order and budget. The tests against the base are corrected for their number by Holm, those against the method
    with the lowest WER for all pairs of methods; the output says which cannot be told apart from it, and about how many speakers would tell them.

    --json: {"base": {…}, "methods": [{"method", "trained_parameters", "wer", "wer_interval", "seconds", "seconds_per_step",
    "lr", "utterances_per_second", "peak_memory_bytes", "adapter_bytes", "forgotten", "score": {…}, "test": {…}, "to_best": {…}, "guard": {…},
    "merged_equal", "seeds": […]}], "ranking": {"best", "tied", "pairs", "sentences"}, "frontier": […], "failed": {…}, "run": {…}}; with
    --amounts {"base": {…}, "amounts": [{"fraction", "utterances", "minutes", "score": {…}, "test": {…}}]}. "in_context" is the base told
    sentences of the training texts ("told"), with its "test": what is had without training (--context-text). --out also gets
    compare.json (this object), compare.csv (its table), compare.html (tables and pictures) and compare.svg; with --amounts they are
    called curve. All are written anew after every method or amount; --resume goes on after an interruption.
    """
    place, told, asked = out(), common(), methods()
    shown = told.printing
    if place.path is not None:
        destination.check(place.path)
    from asrpeft.cli.training_progress import reporting
    from asrpeft.jobs import compare as job
    from asrpeft.jobs.amounts import amounts as grow

    say = shown.teller()
    how, scored, wanted = training(), decoding(), asked.wanted()
    compared = seeds(adapters=wanted)
    growing = data.typed_for("fractions") is not None
    if growing and len(wanted) != 1:
        raise BadInput(f"--amounts compares amounts of data for one method; name it, for instance --methods lora (got {', '.join(asked.names)}).")
    if growing and compared.seeds != 1:
        raise BadInput("--seeds trains methods that are compared by several seeds; --amounts trains one method by one. Leave one of them out.")
    corpora = data(told.read)
    recognizer = told.base.load(say)
    found: Result
    with reporting(quiet=shown.quiet, say=say) as progress:
        if growing:
            found = grow(recognizer, corpora, method=wanted[0], lang=speech(), training=how, decoding=scored, out=place, progress=progress)
        else:
            found = job.compare(recognizer, corpora, methods=compared, lang=speech(), training=how, decoding=scored, out=place, progress=progress)
    if place.path is not None:
        name = "curve" if growing else "compare"
        say(f"Report and table: {', '.join(str(place.path / f'{name}.{kind}') for kind in ('html', 'csv', 'json'))}")
    if shown.json:
        print_json(found.to_json())
    else:
        show(found)
