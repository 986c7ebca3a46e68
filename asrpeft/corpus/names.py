"""Names of speakers and utterances as names of files: what a corpus calls them may hold slashes, dots, or anything."""

from __future__ import annotations

import hashlib
import unicodedata

LONGEST = 60  # characters of up to four bytes; a file system takes 255 bytes, and a suffix follows


def file_name(text: str) -> str:
    """A name for one file or folder: different for different texts, the text itself where it is harmless.

    Letters, digits, marks and `-_.+@=,` stay; the rest becomes `_`, and then (or where the text is long, empty, or begins
    with a dot or a dash) a short hash of the text is added, so that "a/b" and "a:b" stay two names.
    """
    text = unicodedata.normalize("NFC", text)
    kept = "".join(c if unicodedata.category(c)[0] in "LNM" or c in "-_.+@=," else "_" for c in text)[:LONGEST]
    if kept == text and text and text[0] not in ".-" and text[-1] != ".":
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{kept.lstrip('.-') or '_'}-{digest}"
