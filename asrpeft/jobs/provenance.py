"""What an adapter's manifest records of the run that made it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import torch
import transformers

import asrpeft
from asrpeft import command
from asrpeft.corpus import Corpus
from asrpeft.jobs.results.evaluation import Evaluation
from asrpeft.recognizer import Recognizer
from asrpeft.training import Trained
from asrpeft.training.checkpoints import corpus_key

SKIPPED = 1_000  # utterances that adapter.json names with a reason; of more it has the number


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    stats = corpus.stats()
    parts = corpus.parts
    of = [{"name": p.name, "weight": p.weight, "utterances": p.utterances, "hours": round(p.hours, 4)} for p in parts]
    return {
        "name": corpus.name,
        "utterances": stats.utterances,
        "speakers": stats.speakers,
        "hours": round(stats.hours, 4),
        "fingerprint": corpus_key(corpus),
    } | ({"corpora": of} if len(parts) > 1 or any(p.weight != 1 for p in parts) else {})


_PATH = re.compile(r"(?<![\w./~])~?/(?:[^/\s'\"]+/)+([^/\s'\"]+)|\b[A-Za-z]:\\(?:[^\\\s'\"]+\\)+([^\\\s'\"]+)")


def without_paths(reason: str) -> str:
    """A reason with the names of files in place of absolute paths: what is written into an adapter leaves this machine."""
    return _PATH.sub(lambda found: found[1] or found[2], reason)


def versions() -> dict[str, str]:
    return {"asrpeft": asrpeft.__version__, "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}


def run_of(recognizer: Recognizer, adapters: Iterable[str] = ()) -> dict[str, Any]:
    """What a report says of how it came about: `run` of its JSON. The command is None where Python called.

    Args:   adapters: the names of those that take part.
    """
    attached = [part for name in adapters for part in recognizer.adapters.parts(name)]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command.line(),
        "base": {"id": recognizer.info.id, "fingerprint": recognizer.adapters.fingerprint},
        "adapters": [
            {
                "name": one.name,
                "folder": None if one.folder is None else str(one.folder),
                "method": one.manifest.method,
                "language": one.manifest.language,
                "trained": one.manifest.training.get("date"),
            }
            for one in attached
        ],
        "versions": versions(),
    }


def provenance(trained: Trained) -> dict[str, Any]:
    return {
        "finished": {
            "steps": trained.steps,
            "rows": trained.rows,
            "seconds": trained.seconds,
            "peak_memory_bytes": trained.peak_memory_bytes,
            "kind": trained.kind,
            "best": None if trained.best is None else list(trained.best),
            "evaluations": [list(one) for one in trained.evaluations],
            "chosen_by": trained.chosen_by,
            "measures": [list(one) for one in trained.measures],
            "guard_evaluations": [list(one) for one in trained.guard_evaluations],
            "variants": trained.variants,
            "lr": trained.lr,
            "parameters": trained.parameters,
            "dropped": trained.dropped,
            "n_skipped": len(trained.skipped),
            "skipped": [{"id": without_paths(s.id), "reason": without_paths(s.reason)} for s in trained.skipped[:SKIPPED]],
        },
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def summary(found: Evaluation, corpus: Corpus) -> dict[str, Any]:
    """The scores that travel with an adapter."""
    keys = ("wer", "wer_interval", "cer", "cer_interval", "interval_unit", "words", "utterances", "normalizer")
    before, after, *told = ({key: system.to_json()[key] for key in keys} for system in found.rated)
    return {
        "data": describe_corpus(corpus),
        "before": before,
        "after": after,
        **({"in_context": told[0]} if told else {}),  # without what it was told: an adapter holds no text
        "test": {key: found.tests[0].to_json()[key] for key in ("difference", "p", "verdict", "test", "metric", "cap", "sentence", "notes")},
    }
