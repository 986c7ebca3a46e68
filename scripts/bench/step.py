"""One training step to time: rows of noise of one length through a recognizer and back, without the optimizer's part."""

from __future__ import annotations

from collections.abc import Callable

import torch

from asrpeft.recognizer import Recognizer
from asrpeft.training.frozen import training_mode
from asrpeft.training.precision import autocast

FRAMES_A_TOKEN = 15  # 0.3 s of speech


def step_of(recognizer: Recognizer, adapter: str, *, rows: int, frames: int, precision: str = "bf16") -> Callable[[], None]:
    """`frames`: encoder frames of a row (50 a second). Features and tokens are drawn here, once for all calls of the step."""
    features = torch.randn(rows, recognizer.n_mels, 2 * frames, device=recognizer.device)
    counts, tokens = torch.full((rows,), frames), torch.randint(0, 1_000, (rows, max(4, frames // FRAMES_A_TOKEN)), device=recognizer.device)

    def step() -> None:
        with training_mode(recognizer, adapter, dropout=0.0, checkpointing=False), autocast(precision, recognizer.device, recognizer.dtype):
            recognizer(features, counts, tokens, route=adapter).hidden.float().square().mean().backward()

    return step
