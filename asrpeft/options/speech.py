"""What is spoken, and what is to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from asrpeft.options.flag import Flag


@dataclass(frozen=True)
class SpeechOptions:
    """The language that is spoken, and the task. Where one language is all there is to say, `lang="sw"` stands for it.

    Attributes:
        lang: a code (`sw`) or a name (`swahili`); where nothing is trained also `auto`: the base finds out, for each recording. Default:
            what the corpus says, row by row, else what the adapter or a merged base was trained for.
        proxy_lang: for a language that the base has no token for: one that it has. In training the adapter takes the place of its
            token, and starts from it; elsewhere the base is told it. Default there: what the adapter learned it in place of.
        task: `transcribe`, or `translate` into English. Default: what the adapter was trained for, and `transcribe` to train one.
    """

    PANEL: ClassVar[str] = "Speech"

    lang: Annotated[
        str | None,
        Flag(
            "The language spoken: a code (sw), a name (swahili), or auto, which lets the base find out. Default: what the corpus, the adapter or a merged "
            "model says."
        ),
    ] = None
    proxy_lang: Annotated[
        str | None,
        Flag("For a language that the base has no token for: one that it knows, whose token stands for it. Default: the one the adapter learned it with."),
    ] = None
    task: Annotated[str | None, Flag("transcribe, or translate into English. Default: what the adapter was trained for.")] = None

    @classmethod
    def of(cls, lang: str | SpeechOptions | None) -> SpeechOptions:
        """A language alone stands for speech in it."""
        return lang if isinstance(lang, SpeechOptions) else cls(lang)
