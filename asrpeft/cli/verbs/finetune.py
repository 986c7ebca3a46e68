"""`asrpeft finetune`: adapt the base to a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrpeft import destination
from asrpeft.cli.flags import Given, Uses
from asrpeft.cli.following import Pushing, Sharing
from asrpeft.cli.options import CommonWithStream, Printing
from asrpeft.cli.output import first_process, print_json, reason, show, tell
from asrpeft.cli.verb import TRAIN, verb
from asrpeft.errors import Failure
from asrpeft.options import AdapterOptions, Data, DecodingOptions, OutputOptions, SpeechOptions, TrainingOptions

if TYPE_CHECKING:
    from asrpeft.jobs.results.finetuned import Finetuned

LANG = "The language spoken: a code (sw) or a name (swahili). Default: what the corpus says, else that of --init-adapter."
PROXY = "For a language without a token: the known language whose token it takes the place of and starts from."
TASK = "transcribe, or translate into English. Default: transcribe."
TAUGHT = Uses(help={"lang": LANG, "proxy_lang": PROXY, "task": TASK})
SCORED = Uses(without=("context",))  # evaluation data are heard with the context that the base, and the adapter, were trained for


@verb("finetune", panel=TRAIN)
def finetune(
    data: Given[Data],
    speech: Annotated[Given[SpeechOptions], TAUGHT],
    adapter: Given[AdapterOptions],
    training: Given[TrainingOptions],
    out: Annotated[Given[OutputOptions], Uses(defaults={"folder": Path("adapter")}, help={"folder": "The adapter's folder."})],
    decoding: Annotated[Given[DecodingOptions], SCORED],
    sharing: Given[Sharing],
    common: Given[CommonWithStream],
) -> None:
    """Fine-tune an adapter on a corpus, and say honestly whether it helped.

    A share of what it is trained on is sound without speech (--nonspeech-share): adapters trained on speech alone write words
    for noise. Base and adapter are held against each other on 16 such clips that training never hears; "nonspeech":
    {"before", "after", "more"}, each with the "rate" of clips with words.

    Ctrl-C and SIGTERM end the run after the step that is under way, with a checkpoint from which --resume goes on to the
    weights of an uninterrupted run (exit status 130, 143); a second one stops at once.

    --json: {"adapter", "method", "trained_parameters", "head_parameters", "total_parameters", "utterances_per_second",
    "peak_memory_bytes", "seconds", "steps", "lr", "eval": {"before": {…}, "after": {…}, "test": {"difference", "p", "verdict", "sentence", "also", "notes"}},
    "guard": {"before": {…}, "after": {…}, "loss", "max_loss", "passed", "interval", "chosen_by": {"data", "separate", "evaluations"}}}
    "eval" also holds "in_context": the base "told" sentences of the training texts, with its "test" (--context-text); all hold "rare_words".

    No recording may be in two of training, dev, evaluation and guard data (else status 2; --allow-overlap goes on knowingly);
    speakers and sentences that are shared are told. All of that stands in "overlap": [{"part", "other", "recordings", "ids",
    "speakers", "sentences", "examples"}]. The adapter keeps digests of what it was trained on, so that evaluate knows it too.

    "dev": {"best", "step", "chosen_by", "measures"}: dev data choose by WER; where that is 90 % or more and says little, by CER,
    and where CER does too, by the loss. "last": the folder of the last step's weights, where they are others. "pushed": the address of
    the adapter on the hub, with --push.

    Dev data choose among weights, with the part of the guard data that --max-loss sets aside ("chosen_by"; "separate" says
    that none of it is reported). --eval-data and the rest of the guard data are read once, after training, and decoded as
    --beams and --ctc-weight say; while training, dev data are decoded greedily. Without
    --max-loss guard data choose nothing, and "passed" is held against 3 points.
    """
    place, told = out(), common()
    shown = told.printing
    destination.check_adapter(Path(str(place.folder)), overwrite=place.overwrite, resume=place.resume)  # before anything is read, imports included
    shared = sharing()
    shared.pushing.check()
    from asrpeft.cli.training_progress import reporting
    from asrpeft.jobs.finetune import finetune as run

    say = shown.teller()
    how, scored = training(), decoding()
    corpora = data(told.read)
    recognizer = told.base.load(say)
    config = how.to_json() | {"method": adapter().method, "lang": speech().lang}
    with (
        reporting(quiet=shown.silent, say=say) as watched,
        shared.following.told(watched, folder=Path(str(place.folder)), config=config) as progress,
    ):
        result = run(recognizer, corpora, lang=speech(), method=adapter(), training=how, decoding=scored, out=place, progress=progress)
    finish(result, place.folder, shown, shared.pushing)
    lost = result.kept is not None and result.kept.reported is not None and not result.kept.reported.test.passed
    if corpora.guard.max_loss is not None and lost:
        reason("More was lost on the reported guard data than --max-loss allows, though the part that chose among weights passed: exit status 1.")
        raise typer.Exit(1)


def finish(result: Finetuned, folder: str | Path | None, shown: Printing, upload: Pushing) -> None:
    """Push the adapter where that was asked for, and tell what was done. Raises: Failure, last of all, where the hub refused it."""
    address, refused = None, None
    try:
        address = upload.pushed(Path(str(folder)))
    except Failure as error:  # what was trained is told first
        refused = error
    if shown.json and first_process():
        print_json(result.to_json() | ({} if address is None else {"pushed": address}))
    elif not shown.silent:
        show(result)
        tell(f"Saved in {folder}." + (f" The weights of the last step are in {result.last}." if result.last else ""))
        if address is not None:
            tell(f"Pushed to {address}.")
    if refused is not None:
        raise refused
