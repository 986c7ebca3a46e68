"""Languages as people write them → the token a base has for them.

Codes and names are those of `transformers`' Whisper tokenizer: `sw`, `swahili`, `<|sw|>`, `Swahili`, and aliases (`castilian`).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from asrpeft.errors import BadInput

AUTO = "auto"  # in place of a language: the one that the base hears, see `asrpeft.decoding.language`


def code_of(language: str) -> str | None:
    """Whisper's code of a language given by code, name, alias or token; None if Whisper has none."""
    text = language.strip().lower().removeprefix("<|").removesuffix("|>")
    return text if text in LANGUAGES else TO_LANGUAGE_CODE.get(text)


def canonical(language: str) -> str:
    """Whisper's code where it has one, else the name in lower case: one spelling for manifests and comparisons."""
    return code_of(language) or language.strip().lower().removeprefix("<|").removesuffix("|>")


def table_of(tokenizer: Any, generation: Any) -> dict[str, int]:
    """A base's language tokens `{"<|sw|>": 50318, …}`: what its generation config says, or else what its tokenizer knows
    (fine-tuned checkpoints often come without)."""
    known = getattr(generation, "lang_to_id", None)
    if known:
        return dict(known)
    found = {f"<|{code}|>": tokenizer.convert_tokens_to_ids(f"<|{code}|>") for code in LANGUAGES}
    return {token: i for token, i in found.items() if i is not None and i >= 0 and i != tokenizer.unk_token_id}


def token_of(language: str, lang_to_id: Mapping[str, int]) -> str | None:
    """The base's token for a language, `<|sw|>`; None if it has none."""
    token = f"<|{canonical(language)}|>"
    return token if token in lang_to_id else None


def foreign(adapter: str, trained: str | None, asked: str | None) -> str | None:
    """The warning where an adapter is told a language that it was not trained in; None where nothing is wrong, or nobody knows.

    Args:    adapter: its name. trained, asked: languages as people write them; "auto" asks for none.
    """
    if trained is None or asked is None or asked == AUTO or canonical(asked) == canonical(trained):
        return None
    return (
        f"The adapter {adapter!r} was trained for {canonical(trained)!r} and is told {canonical(asked)!r}, which it never learned: "
        f"its transcripts may be worse than the base's. Leave --lang out to use it in its own language."
    )


def unknown(language: str, lang_to_id: Mapping[str, int]) -> BadInput:
    """The error for a language that a base cannot be told to write."""
    names = [*TO_LANGUAGE_CODE, *LANGUAGES]
    close = get_close_matches(language.lower(), names, 3)
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    return BadInput(
        f"This base has no token for the language {language!r}.{hint} It has {len(lang_to_id)}: "
        f"{', '.join(sorted(t[2:-2] for t in lang_to_id))}. "
        f"A language without a token can be fine-tuned (it gets a learned vector) and then used with that adapter."
    )
