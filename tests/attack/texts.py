"""Transcripts from strangers, scored by `scripts/wer.py` and by every normalizer."""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path

import jiwer

from asrpeft.errors import BadInput
from asrpeft.scoring import score
from asrpeft.scoring.transcripts import FORMATS
from tests.attack.runner import Surface, Wrong, hostile, spoil_bytes

WORDS = ["the", "cat", "sat", "ñandú", "क्षेत्र", "ไทย", "שלום", "１２", "don't", "[/b]", "ﬃ", "a\u0301", "😀", "x" * 300, "-", "<|en|>", "\u200d", "\ufeff"]
SCRIPT = Path(__file__).parents[2] / "scripts" / "wer.py"


def prepare(folder: Path):
    return None


def _sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.choice([0, 1, 3, 8])))


def _file(texts: list[str], rng: random.Random, path: Path) -> Path:
    turn = rng.randrange(5)
    if turn == 0:
        lines = texts
    elif turn == 1:
        lines = [f"u{n} {text}" for n, text in enumerate(texts)]
    elif turn == 2:
        lines = [f"{text} (s-{n})" for n, text in enumerate(texts)]
    elif turn == 3:
        lines = ["id\ttext", *(f"u{n}\t{text}" for n, text in enumerate(texts))]
    else:
        lines = [json.dumps({"id": n, "text": text if rng.random() < 0.8 else hostile(rng)}) for n, text in enumerate(texts)]
    data = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"
    path = path.with_suffix(["", ".kaldi", ".trn", ".tsv", ".jsonl"][turn])
    path.write_bytes(spoil_bytes(data, rng) if rng.random() < 0.3 else data)
    return path


def case(rng: random.Random, shared, own: Path) -> None:
    texts = [_sentence(rng) for _ in range(rng.choice([1, 3, 6]))]
    heard = [_sentence(rng) if rng.random() < 0.5 else text for text in texts]
    if rng.random() < 0.5:
        found = score(texts, heard, normalizer="none", bootstrap=None)
        kept = [(a, b) for a, b in zip(texts, heard) if a.split()]
        if len(kept) == len(texts) and abs(found.wer - jiwer.wer(texts, [b or "" for b in heard])) > 1e-12:
            raise Wrong(f"WER {found.wer}, where jiwer says {jiwer.wer(texts, heard)}")
        return
    state = rng.getstate()
    reference = _file(texts, rng, own / "ref")
    rng.setstate(state)  # both files of one kind, spoilt alike or not
    hypothesis = _file(heard, rng, own / "hyp")
    extra = rng.choice(
        [
            [],
            ["--json"],
            ["--by-order"],
            ["--cap", rng.choice(["0", "nan", "1", "-1"])],
            ["--format", rng.choice(list(FORMATS))],
            ["--normalizer", rng.choice(["none", "marks", "whisper", "nothing"])],
            ["--html", str(own / "x.html")],
        ]
    )
    before, sys.argv = sys.argv, ["wer.py", str(reference), str(hypothesis), "--resamples", "50", *extra]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        if end.code == 2:
            raise BadInput("refused with status 2") from None
        if end.code not in (0, None):
            raise Wrong(f"exit status {end.code!r}") from None
    finally:
        sys.argv = before


SURFACE = Surface("texts", prepare, case, weight=1.0)
