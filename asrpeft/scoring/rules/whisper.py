"""`whisper-basic` and `whisper-english`: Whisper's own normalizers, for numbers that compare with published ones.

Known damage. `whisper-basic` turns every combining mark into a space: a Hindi or Thai word falls into pieces, and a
word whose vowel was wrong can count as right. `whisper-english` deletes marks and the accents of letters. Both say
so when they meet such text; `marks` is the remedy. Both also delete what stands in brackets.

The rules come from `transformers`; the table of British and American spellings, which `transformers` does not carry,
from a Whisper checkpoint's `normalizer.json` (`whisper-english:FILE`), the Hugging Face cache or the
`openai-whisper` package. Where there is none the step runs without it, says so, and carries another version.

Source: Radford et al., 2022, https://arxiv.org/abs/2212.04356, appendix C.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from asrpeft.errors import BadInput
from asrpeft.scoring.normalize import Step, register
from asrpeft.scoring.writing import combining_marks

_CHECKPOINTS = tuple(f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large-v2", "large-v3"))


@register("whisper-basic")
class WhisperBasic(Step):
    about = "Whisper's rule for languages other than English; spoils scripts with combining marks"

    def __init__(self, argument: str | None = None):
        super().__init__(argument)
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer

        self.rules = BasicTextNormalizer()

    def __call__(self, text: str) -> str:
        return self.rules(text)

    def damage(self, texts: Sequence[str]) -> tuple[str, ...]:
        count, scripts = combining_marks(unicodedata.normalize("NFKC", text) for text in texts)
        if not count:
            return ()
        return (
            f"whisper-basic turns {count:,} combining marks ({', '.join(scripts) or 'no letter'}) in these texts into "
            "spaces, which breaks words apart and hides wrong vowels and tones: use `marks` unless you need to match a "
            "published number.",
        )


@register("whisper-english")
class WhisperEnglish(Step):
    about = "Whisper's rule for English: contractions, spellings and numbers too; deletes accents"
    argument_help = "FILE (a checkpoint's normalizer.json, for the spellings)"

    def __init__(self, argument: str | None = None):
        super().__init__(argument)
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

        path = Path(argument) if argument else _find_spellings()
        spellings: dict[str, str] = {}
        if path is None:
            self.version = "1-without-spellings"
        else:
            try:
                spellings = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise BadInput(f"cannot read spellings from {str(path)!r}: {error}. Give a checkpoint's normalizer.json.") from None
            digest = hashlib.sha256(json.dumps(sorted(spellings.items())).encode()).hexdigest()[:8]
            self.version = f"1-{digest}"
        self.rules = EnglishTextNormalizer(spellings)

    def __call__(self, text: str) -> str:
        return self.rules(text)

    def damage(self, texts: Sequence[str]) -> tuple[str, ...]:
        found = []
        if self.version == "1-without-spellings":
            found.append(
                "whisper-english runs without its table of British and American spellings: give it as "
                "whisper-english:PATH/normalizer.json (every openai/whisper checkpoint has one), or install "
                "openai-whisper."
            )
        count, scripts = combining_marks(unicodedata.normalize("NFD", text) for text in texts)
        if count:
            found.append(
                f"whisper-english deletes {count:,} accents and combining marks ({', '.join(scripts) or 'no letter'}) "
                "of these texts, so wrong vowels and tones count as right: use `marks` for any language but English."
            )
        return tuple(found)


def _find_spellings() -> Path | None:
    """The first table on this machine: the Hugging Face cache, then the openai-whisper package (which is not
    imported)."""
    from huggingface_hub import try_to_load_from_cache

    for checkpoint in _CHECKPOINTS:
        if isinstance(found := try_to_load_from_cache(checkpoint, "normalizer.json"), str):
            return Path(found)
    spec = find_spec("whisper")
    if spec is not None and spec.origin:
        path = Path(spec.origin).parent / "normalizers" / "english.json"
        return path if path.is_file() else None
    return None
