"""`map:FILE`: an orthography's own rules of "these are the same", from a file that can be shown to its speakers.

TSV:   one rule a line, `from<TAB>to`, or `from<TAB>to<TAB>word` for whole words only; an empty `to` deletes;
       empty lines and lines that start with `#` are skipped.
JSON:  `{"from": "to", …}`, or `{"substrings": {…}, "words": {…}}`.

All rules apply at once in one pass, the longest first, so that no rule feeds another and their order does not matter.
Both sides are brought to NFC. The version is a hash of the rules, so a changed file is a changed normalizer.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path

import regex

from asrpeft.errors import BadInput
from asrpeft.scoring.normalize import Step, register

_EXAMPLE = "Each line is `from<TAB>to`, or `from<TAB>to<TAB>word` for whole words."


@register("map")
class Mapping(Step):
    about = "replacements from a TSV or JSON file, for orthographies: marks+map:FILE"
    argument_help = "FILE (TSV lines `from<TAB>to[<TAB>word]`, or JSON)"
    argument_needed = True

    def __init__(self, argument: str | None = None):
        super().__init__(argument)
        path = Path(argument or "")
        try:
            content = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read the mapping file {str(path)!r}: {error}. Give a UTF-8 TSV or JSON file.") from None
        rules = _from_json(content, path) if path.suffix.lower() == ".json" else _from_tsv(content, path)
        if not rules:
            raise BadInput(f"the mapping file {str(path)!r} holds no rule. {_EXAMPLE}")
        self.version = hashlib.sha256(json.dumps(sorted(rules.items())).encode()).hexdigest()[:12]
        self.rules = {found: to for (found, _), to in rules.items()}
        longest_first = sorted(rules, key=lambda rule: (-len(rule[0]), rule[0]))
        self.pattern = regex.compile(
            "|".join(
                rf"(?<![\p{{L}}\p{{M}}\p{{N}}]){regex.escape(found)}(?![\p{{L}}\p{{M}}\p{{N}}])" if whole else regex.escape(found)
                for found, whole in longest_first
            )
        )

    def __call__(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return unicodedata.normalize("NFC", self.pattern.sub(lambda found: self.rules[found.group()], text))


def _from_tsv(content: str, path: Path) -> dict[tuple[str, bool], str]:
    rules: dict[tuple[str, bool], str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) not in (2, 3) or not cells[0] or (len(cells) == 3 and cells[2].strip() not in ("", "word")):
            raise BadInput(f"{path}, line {number}: {line!r} is not a rule. {_EXAMPLE}")
        _add(rules, cells[0], cells[1], len(cells) == 3 and cells[2].strip() == "word", f"{path}, line {number}")
    return rules


def _from_json(content: str, path: Path) -> dict[tuple[str, bool], str]:
    try:
        given = json.loads(content)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path} is not JSON: {error}.") from None
    nested = isinstance(given, dict) and given and set(given) <= {"substrings", "words"}
    parts = [(given.get("substrings", {}), False), (given.get("words", {}), True)] if nested else [(given, False)]
    rules: dict[tuple[str, bool], str] = {}
    for part, whole in parts:
        if not isinstance(part, dict) or not all(k and isinstance(v, str) for k, v in part.items()):
            raise BadInput(f'{path} must hold {{"from": "to", …}} or {{"substrings": {{…}}, "words": {{…}}}} of texts.')
        for found, to in part.items():
            _add(rules, found, to, whole, str(path))
    return rules


def _add(rules: dict[tuple[str, bool], str], found: str, to: str, whole: bool, place: str) -> None:
    found, to = unicodedata.normalize("NFC", found), unicodedata.normalize("NFC", to)
    for other in (True, False):
        if rules.get((found, other), to) != to:
            raise BadInput(f"{place}: {found!r} is mapped twice, to {rules[found, other]!r} and to {to!r}. Keep one.")
    rules[found, whole] = to
