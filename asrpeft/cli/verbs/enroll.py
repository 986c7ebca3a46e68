"""`asrpeft enroll NAME`: a voice reads sentences aloud, and is told whether an adapter of its own helps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrpeft import destination
from asrpeft.cli.flags import Given, Uses
from asrpeft.cli.options import Common
from asrpeft.cli.output import print_json, show, tell
from asrpeft.cli.verb import TRAIN, alias, verb
from asrpeft.cli.verbs.finetune import SCORED, TAUGHT
from asrpeft.options import AdapterOptions, DecodingOptions, EnrollOptions, OutputOptions, SpeechOptions, TrainingOptions
from asrpeft.options.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from asrpeft.recognizer import Recognizer

NOT_TO_BE_USED = 3
VOICES = Path("voices")
# What another call left is gone on with where the recordings are the same, and replaced where they are not.
FOLDER = Uses(without=("keep", "overwrite", "resume"), defaults={"folder": VOICES}, help={"folder": "A folder of voices, to which this one is added."})
OWN = Uses(without=("on_adapter", "conditions"))
# Twenty sentences are little more than a minute: in batches of sixty seconds ten epochs would be twenty steps.
FEW = Uses(defaults={"batch_seconds": 16.0})


@dataclass(frozen=True)
class Reading(EnrollOptions):
    """A voice, and how its sentences come to be recorded."""

    microphone: Annotated[bool, Flag("Show one sentence after another, and record each. Takes the extra `microphone` (sounddevice).")] = False


@verb("enroll", panel=TRAIN)
def enroll(
    name: Annotated[str, typer.Argument(help="Who reads; what --speaker is then called by.")],
    voice: Given[Reading],
    speech: Annotated[Given[SpeechOptions], TAUGHT],
    adapter: Annotated[Given[AdapterOptions], OWN],
    training: Annotated[Given[TrainingOptions], FEW],
    out: Annotated[Given[OutputOptions], FOLDER],
    decoding: Annotated[Given[DecodingOptions], SCORED],
    common: Given[Common],
) -> None:
    """Enroll a voice: read sentences aloud, train an adapter on them, and be told in plain words whether to use it.

    Without recordings the sentences are printed: all sounds and letters of the language (en, sw, es, it, de, pt, pl, cs, fi, ru; others with
    --sentences). Record each and give the folder with --recordings, or let --microphone record them: what is recorded stays, so that you may
    stop and go on later. Recordings that are too quiet, overdriven, too short or of another sentence are asked for again.

    All of them train the adapter that is kept. It is tested by cross-validation: adapters trained on some of the sentences are heard on the
    others. `asrpeft transcribe --speakers voices --speaker NAME` then uses the adapter, or the base where that was found to be better.

    Exit status: 0 to use it (or sentences were printed), 3 not to use it, 2 if recordings are missing or of no use.

    --json: {"name", "adapter", "lang", "use", "verdict", "decided": {"by", "wer", "folds", "utterances"}, "base": {…}, "own": {…}, "test": {…},
    "recordings": [{"number", "text", "file", "seconds", "level_db", "clipped", "heard", "cer", "problem"}]}; without recordings
    {"name", "lang", "sentences": [{"number", "text"}]}
    """
    asked, place, told = voice(name=name), out(), common()
    shown, folder = told.printing, Path(str(place.folder))
    destination.check(folder)
    from asrpeft.jobs.enroll import enroll as run
    from asrpeft.jobs.enroll import folder_of, spoken
    from asrpeft.jobs.sentences import sentences_for

    say = shown.teller()
    how, scored = training(), decoding()
    recognizer = told.base.load(say)
    what = spoken(recognizer, speech())
    sentences = sentences_for(str(what.lang), asked.sentences)
    there = folder_of(asked, folder)
    if asked.microphone:
        record(recognizer, there, sentences, what, say=lambda text: tell(text, error=shown.json))
    elif asked.recordings is None and not there.is_dir():
        if shown.json:
            print_json({"name": name, "lang": what.lang, "sentences": [{"number": n, "text": text} for n, text in enumerate(sentences, 1)]})
        else:
            tell("\n".join(invitation(name, str(what.lang), sentences)))
        return
    from asrpeft.cli.training_progress import reporting

    with reporting(quiet=shown.quiet, say=say) as progress:
        found = run(recognizer, asked, lang=what, method=adapter(), training=how, decoding=scored, out=place, progress=progress)
    if shown.json:
        print_json(found.to_json())
    else:
        show(found)
        tell(f"asrpeft transcribe --speakers {folder} --speaker {name!r} hears with {'it' if found.use else 'the base'}.")
    if not found.use:
        raise typer.Exit(NOT_TO_BE_USED)


alias("enrol", "enroll")


def invitation(name: str, lang: str, sentences: tuple[str, ...]) -> list[str]:
    """What to read, and what to do with the recordings."""
    width = len(str(len(sentences)))
    listed = [f"{n:>{width}}  {text}" for n, text in enumerate(sentences, 1)]
    return [
        *listed,
        "",
        "Read each as you usually speak, in a quiet room, a hand's breadth from the microphone, into a recording of its own:",
        f"1.wav, 2.wav, … in one folder (m4a, mp3, flac and ogg will do). Then: asrpeft enroll {name!r} --lang {lang} --recordings FOLDER",
        f"Or let them be recorded one after another: asrpeft enroll {name!r} --lang {lang} --microphone",
    ]


def record(recognizer: Recognizer, folder: Path, sentences: tuple[str, ...], speech: SpeechOptions, *, say: Callable[[str], None]) -> None:
    """Record what is missing of the sentences, and what is of no use once more, until the reader stops."""
    from asrpeft.audio.microphone import library
    from asrpeft.cli.enrolling import Session
    from asrpeft.jobs.enroll import find, look

    library()  # first of all, since there may be none
    session = Session(folder, sentences, say)
    while session.record_missing():
        bad = [one for one in look(recognizer, find(folder, len(sentences)), sentences, speech=speech) if one.problem]
        for one in bad:
            say(f"{one.number}: {one.problem}")
            session.again(one)
        if not bad:
            return
