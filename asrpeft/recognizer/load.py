"""Loading a base: a hub id, a local folder, or the embedded `data/mini`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from asrpeft.adapters.ctc import CTCHead
from asrpeft.errors import BadInput
from asrpeft.recognizer.recognizer import BaseInfo, Recognizer

INFO, CTC = "asrpeft.json", "ctc.safetensors"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def embedded() -> Path | None:
    """The checkout's `data/mini`, or None outside a checkout."""
    folder = Path(__file__).resolve().parents[2] / "data" / "mini"
    return folder if (folder / "config.json").is_file() else None


def pick_device(device: str) -> torch.device:
    """`auto` takes a GPU where there is one.

    Raises: BadInput for a device that this machine does not have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise BadInput(f"There is no device {device!r}; choose auto, cpu, cuda, cuda:1 or mps.") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"--device {device}: this machine shows no CUDA device to PyTorch. Use --device cpu.")
    return found


def load(model: str | Path | None = None, *, device: str = "auto", dtype: str = "float32", threads: int | None = None) -> Recognizer:
    """Load any Whisper checkpoint.

    Args:
        model: a hub id (`openai/whisper-small`), a folder, or None for the embedded default.
        dtype: `float32`, `bfloat16` or `float16`, whatever the checkpoint was stored in.
        threads: CPU threads for PyTorch.
    Raises: BadInput if there is no such model, or it is not a Whisper model.
    """
    if threads is not None:
        if threads < 1:
            raise BadInput(f"--threads must be at least 1, got {threads}.")
        torch.set_num_threads(threads)
    if dtype not in DTYPES:
        raise BadInput(f"There is no dtype {dtype!r}; choose {', '.join(DTYPES)}.")
    if model is None:
        model = embedded()
        if model is None:
            raise BadInput("Name a base with --model, for example --model openai/whisper-small; the embedded one is only in a checkout.")
    place = Path(model)
    if place.exists() and not (place / "config.json").is_file():
        raise BadInput(f"{str(model)!r} has no config.json, so it is not a Whisper checkpoint folder. "
                       f"An adapter is given with --adapter, its base with --model.")  # fmt: skip
    target = pick_device(device)
    try:
        base = WhisperForConditionalGeneration.from_pretrained(str(model), dtype=DTYPES[dtype])
        tokenizer = WhisperTokenizer.from_pretrained(str(model))
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{str(model)!r} cannot be loaded as a Whisper model: {str(error).splitlines()[0]}") from None
    info, ctc = BaseInfo(id=str(model)), None
    if (place / INFO).is_file():
        told = json.loads((place / INFO).read_text(encoding="utf-8"))
        info = BaseInfo(told.get("id", str(model)), tuple(told.get("contexts", ("full",))), tuple(told.get("languages", ())))
        if (place / CTC).is_file():
            ctc = CTCHead(base.config.d_model, told["ctc_vocabulary"])
            ctc.load_state_dict({name: t.float() for name, t in load_file(place / CTC).items()})
    return Recognizer(base.to(target), tokenizer, info, ctc=None if ctc is None else ctc.to(target))
