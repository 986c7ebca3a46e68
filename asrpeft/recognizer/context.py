"""The audio context: how many encoder frames (50 a second) are computed for an utterance.

    full   1,500 frames, 30 s, as Whisper was trained
    auto   the speech's length plus a margin, rounded up to whole seconds; in training plus up to a tenth of its length, at random

It is a function of the utterance alone, never of its neighbors in a batch. A model must have been trained on short
contexts to be decoded with them: with the first positions only, tiny.en goes from 5 % to 107 % WER
(https://arxiv.org/abs/2410.15608, section 3).

The jitter teaches an adapter that more silence than usual may follow. It is a share of the speech, because the same seconds for all would be
most of the computing of short utterances. What an adapter makes of more silence hardly depends on it (`scripts/bench/padding.py`: from 0 to 8 s
of silence WER rises by 3.3 points without jitter, by 0.4 with a tenth and by 0.7 with a quarter), so that it is the tenth that costs least.
"""

from __future__ import annotations

import random

from asrpeft.errors import BadAudio, BadInput

ENCODER_FRAMES_PER_SECOND = 50
FRAME = 320  # samples of one
FULL = 1_500
MARGIN_S = 0.5  # silence that always follows the speech
GRID_S = 1.0
JITTER = 0.1  # of the speech, at most
CONTEXTS = ("full", "auto")


def speech_frames(n_samples: int) -> int:
    """The encoder frames that hold sound, the last one perhaps in part."""
    return -(-n_samples // FRAME)


def context_frames(n_samples: int, mode: str, *, jitter_seed: str | None = None) -> int:
    """How many encoder frames to compute.

    Args:
        n_samples: length of the utterance at 16 kHz.
        mode: "full" or "auto".
        jitter_seed: in training, a text that is the utterance's and the epoch's own; equal seeds give equal contexts.
    Raises: BadAudio for more than 30 s; BadInput for another mode.
    """
    frames = speech_frames(n_samples)
    if frames > FULL:
        raise BadAudio(f"An utterance of {n_samples / 16_000:.1f} s does not fit the encoder's 30 s. Cut it at pauses.")
    if mode == "full":
        return FULL
    if mode != "auto":
        raise BadInput(f"There is no audio context {mode!r}; choose 'full' or 'auto'.")
    grid = int(GRID_S * ENCODER_FRAMES_PER_SECOND)
    needed = frames + int(MARGIN_S * ENCODER_FRAMES_PER_SECOND)
    steps = -(-needed // grid)
    if jitter_seed is not None:
        rng = random.Random(jitter_seed)
        steps += int(rng.uniform(0.0, JITTER * n_samples / 16_000) / GRID_S + rng.random())  # rounded at random: its mean stays
    return min(FULL, steps * grid)
