"""A learning-rate range test of a method on a corpus: which `--lr` to begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from asrpeft.jobs.results.rates import FoundRate
from asrpeft.jobs.start import TRANSCRIBE, attach, prompts
from asrpeft.methods import method as method_named
from asrpeft.options import AdapterOptions, SpeechOptions, TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.training import TrainingData, rate_range
from asrpeft.training.events import Progress, ignore

if TYPE_CHECKING:
    from asrpeft.corpus import Corpus

STEPS = 100


def find_rate(
    recognizer: Recognizer,
    data: Corpus,
    *,
    lang: str | SpeechOptions | None = None,
    method: str | AdapterOptions = "lora",
    training: TrainingOptions | None = None,
    progress: Progress = ignore,
) -> FoundRate:
    """Train an adapter for some steps while the rate rises from 10⁻⁶ to 1, and tell where the loss fell fastest. Nothing is kept of it.

    Args:
        data: what would be trained on.
        lang, method: as for `finetune`.
        training: how; its `steps` are the test's (100 unless given), its rate and schedule do not matter.
    Raises: BadInput, BadCorpus, CannotAttach as `finetune` does; Failure where no rate gives a loss that is a number.
    """
    how = training or TrainingOptions(steps=STEPS)
    speech, wanted = SpeechOptions.of(lang), AdapterOptions.of(method)
    speech = speech if speech.task else replace(speech, task=TRANSCRIBE)
    name = wanted.name or wanted.method
    adapter = attach(recognizer, name, wanted, speech=speech, training=how, data=data)
    try:
        cls, width = method_named(wanted.method), recognizer.base.config.d_model
        prompt = prompts(recognizer, name, lang=speech.lang, task=str(speech.task))
        prompt(data[0])  # an unknown language or task is told before any audio is read
        found = rate_range.find_rate(recognizer, name, TrainingData(data, prompt), options=how, steps=how.steps or STEPS, progress=progress)
        return FoundRate(wanted.method, cls.rate(adapter.config, width), found)
    finally:
        recognizer.adapters.detach(name)
