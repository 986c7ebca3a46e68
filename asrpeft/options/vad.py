"""Where speech is looked for, and what counts as speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from asrpeft.options.flag import Flag


@dataclass(frozen=True)
class VadOptions:
    """Voice activity detection.

    Attributes:
        look: in short audio too; False: never, but long audio is cut where it is quietest. Default: in audio of more than 30 s.
        threshold, min_speech_s, min_silence_s, pad_s, max_s: what counts as speech, and where it ends; see `asrpeft.audio.vad.SpeechDetector`.
    """

    PANEL: ClassVar[str] = "Finding speech"

    look: Annotated[
        bool | None,
        Flag(
            "Look for speech in short recordings too, or in none: long ones are then cut every 30 s, where they are quietest. Default: in recordings of more "
            "than 30 s.",
            "--vad/--no-vad",
        ),
    ] = None
    threshold: Annotated[float, Flag("Probability from which a moment is speech: lower finds more.", "--vad-threshold")] = 0.5
    min_speech_s: Annotated[float, Flag("Seconds; shorter sounds are no speech.", "--vad-min-speech")] = 0.25
    min_silence_s: Annotated[float, Flag("Seconds of silence that end a stretch of speech.", "--vad-min-silence")] = 0.5
    pad_s: Annotated[float, Flag("Seconds kept before and after speech; at most half of --vad-min-silence.", "--vad-pad")] = 0.2
    max_s: Annotated[float, Flag("Seconds; longer speech is cut where it is quietest, 30 at most.", "--vad-max")] = 30.0

    @classmethod
    def of(cls, vad: bool | VadOptions | None) -> VadOptions:
        """Whether to look at all, alone."""
        return vad if isinstance(vad, VadOptions) else cls(vad)
