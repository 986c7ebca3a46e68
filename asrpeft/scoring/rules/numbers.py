"""`numbers`: numbers written alike. Native digits become 0-9 and marks that only group digits go (1,000 → 1000).

`numbers:en` also turns English number words into digits ("twenty one" → "21") through the rules that `transformers`
ships for Whisper. Other languages' number words are left alone: a wrong rule would hide errors.
"""

from __future__ import annotations

import unicodedata

import regex

from asrpeft.errors import BadInput
from asrpeft.scoring.normalize import Step, register

_NATIVE_DIGIT = regex.compile(r"(?![0-9])\p{Nd}")
_GROUPED = regex.compile(r"(?<![\d.,٬])\d{1,3}(?:[,٬]\d{2,3})*[,٬]\d{3}(?![\d,٬])")  # 1,000,000 and the Indian 10,00,000


@register("numbers")
class Numbers(Step):
    about = "native digits to 0-9, no grouping commas; numbers:en also reads English number words"
    argument_help = "en"

    def __init__(self, argument: str | None = None):
        super().__init__(argument)
        if argument not in (None, "en"):
            raise BadInput(f"numbers:{argument} is not known; number words are read in en only. Use numbers, or numbers:en.")
        self.words = None
        if argument == "en":
            from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer

            self.words = EnglishNumberNormalizer()
            self.version = "1:en"

    def __call__(self, text: str) -> str:
        text = _NATIVE_DIGIT.sub(lambda found: str(unicodedata.decimal(found.group())), text)
        text = _GROUPED.sub(lambda found: regex.sub("[,٬]", "", found.group()), text).replace("٫", ".")
        return text if self.words is None else self.words(text)
