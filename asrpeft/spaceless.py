"""Scripts that put no space between words: Chinese, Japanese, Thai, Lao, Khmer, Myanmar and a few others.

One list for everything that asks: whether text goes on in the middle of a word, where a line of a subtitle may break, what WER
means on a text.

Source: Unicode Standard Annex 24 (scripts), through the `regex` package.
"""

from __future__ import annotations

import regex

SPACELESS = (
    "Han",
    "Hiragana",
    "Katakana",
    "Bopomofo",
    "Thai",
    "Lao",
    "Khmer",
    "Myanmar",
    "Tibetan",
    "Javanese",
    "Balinese",
    "Tai_Tham",
    "New_Tai_Lue",
    "Tai_Le",
)
# Marks and the signs that only Japanese shares between its scripts (ー, 々) belong to the letter before them.
CHARACTER = "[" + "".join(rf"\p{{Script={name}}}" for name in SPACELESS) + "ー々〆]"  # a pattern
_CHARACTER = regex.compile(CHARACTER)


def spaceless(text: str) -> bool:
    """Whether a text has a character of such a script."""
    return _CHARACTER.search(text) is not None
