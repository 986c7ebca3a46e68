"""Bytes → samples → log-mel frames; augmentation; voice activity."""

from asrpeft.audio.decode import decode, probe
from asrpeft.audio.features import FRAMES_PER_SECOND, MAX_SECONDS, SAMPLE_RATE, log_mel

__all__ = ["FRAMES_PER_SECOND", "MAX_SECONDS", "SAMPLE_RATE", "decode", "log_mel", "probe"]
