"""What a text is written in: which letters, whether marks combine with them, whether spaces part its words.

A "word" is what stands between two spaces. Chinese, Japanese, Thai, Lao, Khmer, Myanmar and a few others put no space
between words, so a "word" of theirs is a whole phrase: one wrong syllable makes the phrase wrong, and WER says little.
For them read CER, or split the text into clusters with the normalizer `split` (then WER is the "mixed error rate" used
for Mandarin with English).

Source: Unicode Standard Annex 24 (scripts) and 29 (grapheme clusters), through the `regex` package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import regex

from asrpeft.spaceless import CHARACTER, SPACELESS

MARKED = (
    "Devanagari",
    "Bengali",
    "Gurmukhi",
    "Gujarati",
    "Oriya",
    "Tamil",
    "Telugu",
    "Kannada",
    "Malayalam",
    "Sinhala",
    "Thai",
    "Lao",
    "Khmer",
    "Myanmar",
    "Tibetan",
    "Arabic",
    "Hebrew",
    "Syriac",
    "Thaana",
    "Nko",
    "Ethiopic",
    "Javanese",
    "Balinese",
    "Latin",
    "Cyrillic",
    "Greek",
    "Hiragana",
    "Katakana",
)

_SPACELESS_LETTER = regex.compile(rf"(?=\p{{L}}){CHARACTER}")
_LETTER = regex.compile(r"\p{L}")
_MARK = regex.compile(r"\p{M}")
_CLUSTER = regex.compile(r"\X")
_SPACELESS_CLUSTER = regex.compile(rf"(?=[\p{{L}}\p{{N}}])(?={CHARACTER})\X")
_GAP = regex.compile(rf"(?<={CHARACTER}\p{{M}}*) +(?={CHARACTER})")
_BY_SCRIPT = {name: regex.compile(rf"\p{{Script={name}}}") for name in dict.fromkeys(SPACELESS + MARKED)}

CharacterUnit = Literal["codepoint", "grapheme"]
CHARACTER_UNITS: tuple[CharacterUnit, ...] = ("codepoint", "grapheme")


def characters(text: str, *, unit: CharacterUnit = "codepoint") -> list[str] | str:
    """The characters that CER counts: one space between words counts, as in jiwer and sclite; between two characters
    of a
    script that writes no spaces it does not, because there its place is a matter of taste (`你好 世界`, `你好世界`).

    Args:    unit: "codepoint" counts a letter and each of its marks apart (the usual choice, so that a wrong tone is
             one error and the base letter a hit); "grapheme" counts a letter with its marks as one.
    """
    joined = _GAP.sub("", " ".join(text.split()))
    return joined if unit == "codepoint" else _CLUSTER.findall(joined)


def split_clusters(text: str) -> str:
    """Put a space around every cluster (a letter with its marks) of a script that writes no spaces."""
    return " ".join(_SPACELESS_CLUSTER.sub(lambda found: f" {found.group()} ", text).split())


def spaceless_share(texts: Iterable[str]) -> tuple[float, tuple[str, ...]]:
    """(share of letters in scripts without spaces, 0 to 1; those scripts by frequency)."""
    text = "\n".join(texts)
    letters = len(_LETTER.findall(text))
    if not letters:
        return 0.0, ()
    found = "".join(_SPACELESS_LETTER.findall(text))
    return len(found) / letters, _scripts_in(found, SPACELESS)


def combining_marks(texts: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """(number of combining marks, the scripts of the letters that carry them, most frequent first)."""
    text = "\n".join(texts)
    carriers = "".join(regex.findall(r"(\p{L})\p{M}+", text))
    return len(_MARK.findall(text)), _scripts_in(carriers, MARKED)


def _scripts_in(text: str, names: Iterable[str]) -> tuple[str, ...]:
    counts = Counter({name: len(_BY_SCRIPT[name].findall(text)) for name in names})
    return tuple(name for name, count in counts.most_common() if count)
