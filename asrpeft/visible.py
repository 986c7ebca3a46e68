"""Text that came from outside (ids, names, transcripts, messages about files) as a terminal may safely be given it."""

from __future__ import annotations

import re

# Control characters but tab and newline (a terminal acts on ESC, BEL, CR and the 8-bit CSI), what turns the direction of a
# whole line, and lone surrogates, which stand for bytes of a file's name that are no text and cannot be written.
_ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OR_BREAKS = re.compile(f"{_ACTED_ON.pattern[:-1]}\t\n]")


def visible(text: str, *, one_line: bool = False) -> str:
    r"""The text with every character that a terminal would act on written out: ESC as `\x1b`, a turn of direction as `\u202e`.

    Args:   one_line: write tabs and newlines out too, as the cell of a table needs it.
    """
    return (_OR_BREAKS if one_line else _ACTED_ON).sub(lambda found: _written(ord(found[0])), text)


def _written(code: int) -> str:
    short = {9: r"\t", 10: r"\n", 13: r"\r"}
    return short.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
