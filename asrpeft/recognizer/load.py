"""Loading a base: a hub id, a local folder, or the embedded `data/mini`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, WhisperForConditionalGeneration, WhisperTokenizer

from asrpeft.adapters.ctc import CTCHead
from asrpeft.errors import BadInput
from asrpeft.recognizer.context import CONTEXTS
from asrpeft.recognizer.recognizer import TASKS, BaseInfo, Recognizer

MOST_THREADS = 8  # on a core
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
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0.")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise BadInput("--device mps: this machine shows no Apple GPU to PyTorch. Use --device cpu.")
    if found.type not in ("cpu", "cuda", "mps", "xpu"):
        raise BadInput(f"asrpeft does not run on {device!r}; choose auto, cpu, cuda, cuda:1 or mps.")
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
        cores = os.cpu_count() or 1
        if threads > MOST_THREADS * cores:
            raise BadInput(f"--threads {threads}: this machine has {cores} cores, and more than {MOST_THREADS} threads on each only wait for each other.")
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
    base, tokenizer = _pretrained(str(model), DTYPES[dtype])
    info, ctc = _beside(place, str(model), base.config.d_model)
    return Recognizer(base.to(target), tokenizer, info, ctc=None if ctc is None else ctc.to(target))


def _pretrained(model: str, dtype: torch.dtype) -> tuple[WhisperForConditionalGeneration, WhisperTokenizer]:
    """Raises: BadInput; also where `transformers` would make up what a checkpoint lacks and go on."""
    try:
        config = AutoConfig.from_pretrained(model)
        if config.model_type != "whisper":
            raise BadInput(f"{model!r} is a {config.model_type} model; asrpeft adapts Whisper checkpoints, such as openai/whisper-small.")
        base, report = WhisperForConditionalGeneration.from_pretrained(model, dtype=dtype, output_loading_info=True)
        tokenizer = WhisperTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{model!r} cannot be loaded as a Whisper model: {first}") from None
    lacking = sorted(set(report["missing_keys"]) - {"proj_out.weight"})
    if lacking:
        raise BadInput(f"{model!r} lacks {len(lacking)} of the model's tensors ({', '.join(lacking[:3])}): the checkpoint is incomplete. Copy it again.")
    if len(tokenizer) < 100:
        raise BadInput(f"{model!r} has no usable tokenizer ({len(tokenizer)} tokens). Put its tokenizer files beside config.json.")
    return base, tokenizer


def _beside(place: Path, model: str, dim: int) -> tuple[BaseInfo, CTCHead | None]:
    """What this project writes beside a checkpoint: `asrpeft.json` and `ctc.safetensors`.

    Raises: BadInput if either is there and cannot be used.
    """
    if not (place / INFO).is_file():
        return BaseInfo(id=model), None
    try:
        told = json.loads((place / INFO).read_text(encoding="utf-8"))
        merged = told.get("merged", {})
        info = BaseInfo(str(told.get("id", model)), tuple(told.get("contexts", ("full",))), tuple(told.get("languages", ())),
                        {str(token): str(name) for token, name in told.get("language_slots", {}).items()},
                        merged.get("language"), merged.get("task", "transcribe"), merged.get("context"),
                        merged.get("decode_by", "attention"))
        if not isinstance(info.language, str | None) or info.task not in TASKS or info.context not in (*CONTEXTS, None):
            raise ValueError(f"it says language {info.language!r}, task {info.task!r}, context {info.context!r} of what was merged")
        if info.decode_by not in ("attention", "ctc"):
            raise ValueError(f"it says that what was merged writes by {info.decode_by!r}")
        if not (place / CTC).is_file():
            return info, None
        head = CTCHead(dim, told["ctc_vocabulary"])
        head.load_state_dict({name: t.float() for name, t in load_file(place / CTC).items()})
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        raise BadInput(f"{INFO} or {CTC} in {str(place)!r} cannot be used: {type(error).__name__} {error}. Copy the model again.") from None
    return info, head
