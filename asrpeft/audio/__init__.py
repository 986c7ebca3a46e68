"""Bytes → samples → log-mel frames; augmentation; voice activity."""

from asrpeft.audio.decode import Recording, decode, pieces, probe, recording
from asrpeft.audio.features import FRAMES_PER_SECOND, MAX_SECONDS, SAMPLE_RATE, log_mel

__all__ = ["FRAMES_PER_SECOND", "MAX_SECONDS", "SAMPLE_RATE", "Recording", "decode", "log_mel", "pieces", "probe", "recording"]
