"""What a cue of a subtitle may hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from asrpeft.errors import BadInput
from asrpeft.options.flag import Flag


@dataclass(frozen=True)
class SubtitleOptions:
    """What a cue may hold.

    Attributes:
        line_width: columns; wide East Asian characters take two.
        lines: in a cue. Default: 2, with `line_words` 1.
        longest_s: seconds that a cue is shown.
        line_words: words in a line; None: as many as fit.
        reading_speed: columns a second for which a cue stays where there is time.
        highlight: one cue for each word, underlined in its line, as openai/whisper has it.
    """

    PANEL: ClassVar[str] = "Subtitles (srt, vtt)"

    line_width: Annotated[int, Flag("Columns of a line.", "--max-line-width")] = 42
    lines: Annotated[int, Flag("Lines of a cue. Default: 2, with --max-words-per-line 1.", "--max-line-count", takes=int | None)] = None  # type: ignore[assignment]  # an int once it is made
    longest_s: Annotated[float, Flag("The longest a cue may last.", "--max-cue-seconds")] = 7.0
    line_words: Annotated[int | None, Flag("Words of a line. Default: as many as fit.", "--max-words-per-line")] = None
    reading_speed: Annotated[float, Flag("Characters a second: a cue stays so long, if the next one leaves time.")] = 17.0
    highlight: Annotated[bool, Flag("Underline each word while it is said.", "--highlight-words")] = False

    def __post_init__(self) -> None:
        if self.lines is None:
            object.__setattr__(self, "lines", 1 if self.line_words else 2)
        if self.line_width < 4:
            raise BadInput(f"A subtitle's line holds 4 columns at least, 42 by custom; got a line width of {self.line_width}.")
        if self.lines < 1 or (self.line_words is not None and self.line_words < 1):
            raise BadInput(f"A subtitle has at least one line of at least one word; got {self.lines} lines of {self.line_words} words.")
        if not 0.2 <= self.longest_s < math.inf:
            raise BadInput(f"A subtitle lasts at least 0.2 seconds, 7 at most by custom; got at most {self.longest_s}.")
        if not 1 <= self.reading_speed < math.inf:
            raise BadInput(f"A reading speed is in characters a second, 17 by custom; got {self.reading_speed}.")
