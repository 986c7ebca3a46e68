"""Development data: which they are, and how good the weights are on them."""

from __future__ import annotations

from dataclasses import replace

import torch

from asrpeft.corpus import Corpus
from asrpeft.corpus.labels import held_out
from asrpeft.corpus.stream import Stream
from asrpeft.decoding import transcribe_corpus
from asrpeft.errors import BadCorpus
from asrpeft.options import DecodingOptions, SpeechOptions, TrainingOptions
from asrpeft.recognizer import Recognizer
from asrpeft.scoring import score
from asrpeft.training import Message, Progress
from asrpeft.training.choice import Rates
from asrpeft.training.precision import has_bf16

DEV_SHARE = 0.1
GREEDILY = DecodingOptions()


def with_dev(data: Corpus, dev: Corpus | None, training: TrainingOptions, progress: Progress, *, by: str = "auto") -> tuple[Corpus, Corpus | None]:
    """(training data, development data), the latter at most `dev_utterances` long; where none are given, a tenth is held out, `by` speaker or
    sentence."""
    if dev is None and isinstance(data, Stream):
        progress(Message("Training without development data, the last weights are kept: of a stream nothing is held out. --dev-data names some."))
        return data, None
    if dev is None:
        try:
            data, dev = held_out(data, DEV_SHARE, training.seed, by=by)
        except BadCorpus as error:
            progress(Message(f"Training without development data, the last weights are kept: {error}"))
            return data, None
        progress(Message(f"Development data: {len(dev)} of {len(data) + len(dev)} utterances, {dev.name}."))
    if not len(dev):  # as was asked: nothing is held out, and nothing chooses
        return data, None
    return data, dev.shuffle(training.seed)[: training.dev_utterances]


def dev_rates(
    recognizer: Recognizer, name: str | None, dev: Corpus, *, speech: SpeechOptions, training: TrainingOptions, decoding: DecodingOptions = GREEDILY
) -> Rates:
    """What an adapter (None: the base) makes of development data, decoded greedily unless told otherwise.

    Raises: BadCorpus if none of them can be read.
    """
    fast = training.precision == "bf16" or (training.precision == "auto" and recognizer.dtype == torch.float32 and has_bf16(recognizer.device))
    how = replace(decoding, context=None if name is None else training.context, autocast=fast)
    heard = transcribe_corpus(recognizer, dev, adapter=name, lang=speech.lang, task=speech.task, options=how)
    if not heard.utterances:
        raise BadCorpus(f"No utterance of the development data can be read: {'; '.join(f'{s.id}: {s.reason}' for s in heard.skipped[:3])}.")
    found = score([u.text for u in heard.utterances], heard.texts, bootstrap=None)
    return Rates(found.wer, found.cer)
