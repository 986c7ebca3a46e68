"""Adapt Whisper-style speech recognizers with a few hundred kilobytes of trained parameters.

    recognizer = asrpeft.load("openai/whisper-small")
    result = asrpeft.finetune(recognizer, asrpeft.read("train.jsonl"), lang="sw", out="adapters/sw")
    print(asrpeft.evaluate(recognizer, asrpeft.read("test.jsonl"), adapters=[result.name]))

`load` a base and `read` a corpus; `finetune`, `speakers` and `compare` train; `evaluate` and `score` measure; `transcribe`
reads recordings, a `Session` streams. `methods`, `scoring`, `streaming` and `training` hold what else there is of each.
Names are imported when first used, so that `import asrpeft` costs nothing; type checkers and editors see them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asrpeft import methods, report, scoring, streaming, training
    from asrpeft.adapters import Adapter
    from asrpeft.corpus import Corpus, Utterance
    from asrpeft.corpus.read import read  # and not from the package, where checkers see the module of that name
    from asrpeft.errors import AsrpeftError
    from asrpeft.jobs.compare import compare
    from asrpeft.jobs.evaluate import evaluate
    from asrpeft.jobs.finetune import finetune
    from asrpeft.jobs.speakers import speakers
    from asrpeft.jobs.transcribe import transcribe
    from asrpeft.options import (
        AdapterOptions,
        Checks,
        Data,
        DecodingOptions,
        Guard,
        MethodsOptions,
        OutputOptions,
        ScoringOptions,
        SpeakerData,
        SpeechOptions,
        TrainingGuard,
        TrainingOptions,
        VadOptions,
    )
    from asrpeft.recognizer import Recognizer
    from asrpeft.recognizer.load import load
    from asrpeft.scoring import score
    from asrpeft.streaming import Event, Policy, Session, stream

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AdapterOptions",
    "AsrpeftError",
    "Checks",
    "Corpus",
    "Data",
    "DecodingOptions",
    "Event",
    "Guard",
    "MethodsOptions",
    "OutputOptions",
    "Policy",
    "Recognizer",
    "ScoringOptions",
    "Session",
    "SpeakerData",
    "SpeechOptions",
    "TrainingGuard",
    "TrainingOptions",
    "Utterance",
    "VadOptions",
    "__version__",
    "adapt",
    "compare",
    "evaluate",
    "finetune",
    "load",
    "methods",
    "read",
    "report",
    "score",
    "scoring",
    "speakers",
    "stream",
    "streaming",
    "training",
    "transcribe",
]

# Where a name lives, for a Python that runs; the imports above say the same to those who only read.
_HOME = {
    "Adapter": "asrpeft.adapters",
    "AdapterOptions": "asrpeft.options",
    "AsrpeftError": "asrpeft.errors",
    "Checks": "asrpeft.options",
    "Corpus": "asrpeft.corpus",
    "Data": "asrpeft.options",
    "DecodingOptions": "asrpeft.options",
    "Event": "asrpeft.streaming",
    "Guard": "asrpeft.options",
    "MethodsOptions": "asrpeft.options",
    "OutputOptions": "asrpeft.options",
    "Policy": "asrpeft.streaming",
    "Recognizer": "asrpeft.recognizer",
    "ScoringOptions": "asrpeft.options",
    "Session": "asrpeft.streaming",
    "SpeakerData": "asrpeft.options",
    "SpeechOptions": "asrpeft.options",
    "TrainingGuard": "asrpeft.options",
    "TrainingOptions": "asrpeft.options",
    "Utterance": "asrpeft.corpus",
    "VadOptions": "asrpeft.options",
    "compare": "asrpeft.jobs.compare",
    "evaluate": "asrpeft.jobs.evaluate",
    "finetune": "asrpeft.jobs.finetune",
    "load": "asrpeft.recognizer",
    "read": "asrpeft.corpus",
    "score": "asrpeft.scoring",
    "speakers": "asrpeft.jobs.speakers",
    "stream": "asrpeft.streaming",
    "transcribe": "asrpeft.jobs.transcribe",
}
_ROOMS = ("methods", "report", "scoring", "streaming", "training")


def adapt(recognizer: Recognizer, method: str, *, name: str, where: str | Sequence[str] | None = None, lang: str | None = None, **settings: Any) -> Adapter:
    """Attach a fresh adapter of `method` to the layers `where` chooses; `recognizer.route(name)` then uses it.

    Args:    as `Recognizer.adapt`: `lang` is the adapter's language, `settings` are the method's own (`rank=16`).
    Raises:  CannotAttach, BadInput.
    """
    return recognizer.adapt(method, where=where, name=name, lang=lang, **settings)


if not TYPE_CHECKING:  # else a misspelled name would pass every checker, as Any

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return import_module(f"asrpeft.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'asrpeft' has no attribute {name!r}; it has {', '.join(__all__)}")
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
