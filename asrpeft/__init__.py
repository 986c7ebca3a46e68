"""Adapt Whisper-style speech recognisers with a few hundred kilobytes of trained parameters.

`load` a base, `read` a corpus, `finetune`, `evaluate`, `transcribe`, `stream`; see the README for an example of each.
Names are imported when first used, so that `import asrpeft` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "load": "asrpeft.recognizer",
    "Recognizer": "asrpeft.recognizer",
    "read": "asrpeft.corpus",
    "Corpus": "asrpeft.corpus",
    "Utterance": "asrpeft.corpus",
    "Adapter": "asrpeft.adapters",
    "finetune": "asrpeft.jobs.finetune",
    "TrainingOptions": "asrpeft.training",
    "evaluate": "asrpeft.jobs.evaluate",
    "Checks": "asrpeft.jobs.checks",
    "transcribe": "asrpeft.jobs.transcribe",
    "stream": "asrpeft.streaming",
    "speakers": "asrpeft.jobs.speakers",
    "score": "asrpeft.scoring",
}
_ROOMS = ("methods", "scoring", "streaming", "training")  # `asrpeft.methods.names()` lists the methods
__all__ = ["__version__", "adapt", *_HOME]


def adapt(recognizer: Any, method: str, *, where: Any = None, name: str, **settings: Any) -> Any:
    """Attach a fresh adapter of `method` to the layers `where` chooses; `recognizer.route(name)` then uses it.

    Raises: CannotAttach, BadInput.
    """
    return recognizer.adapt(method, where=where, name=name, **settings)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"asrpeft.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'asrpeft' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
