"""Transcripts from files: plain lines, Kaldi `text`, NIST trn, CSV, TSV, JSONL and JSON; and two of them brought
together.

    plain   one text a line, no ids; an empty line is an empty text
    kaldi   `id text …`        trn   `text … (id)`
    csv, tsv, jsonl, json      a column of ids and one of texts, found by common names or named by the caller

Where both sides have ids they are matched by id, whatever their order, and an id that only one side has is an error
that names it: a system that left out the hard files must not score better for it. Short ids (`u1 …`, `u2 …`) look like
words in one file; two files together tell them (`with_ids`).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from asrpeft.column_names import NAMES
from asrpeft.errors import BadInput
from asrpeft.registry import Registry

ID_COLUMNS = (*NAMES["id"], "utterance", *NAMES["audio"])
REFERENCE_COLUMNS = ("reference", "ref", "target", *NAMES["text"])
HYPOTHESIS_COLUMNS = ("hypothesis", "hyp", "prediction", "pred_text", "pred", "predicted", *NAMES["text"])
SPEAKER_COLUMNS = (*NAMES["speaker"], "speaker_name")
_TRN = re.compile(r"^(.*)\(([^()\s]+)\)\s*$")
# What the first word of a line must look like, on every line, for a file to be taken for Kaldi's: a digit, and a sign
# that joins parts of a name. Sentences that all begin like that, and all differently, are hard to come by.
_LIKE_AN_ID = re.compile(r"^(?=\S*\d)(?=\S*[-_/.])\S+$")
# Less: a letter and a digit (u1, spk3utt12), or digits filled up with zeros (0001). Enough where two files agree on it.
_MAYBE_AN_ID = re.compile(r"^(?:(?=\S*\d)(?=\S*[^\W\d])[\w./-]+|0\d+)$")


@dataclass(frozen=True)
class Format:
    """A form of transcripts. `read` takes a file's path and what it holds: a table gives its rows, other forms pairs of id (or None)
    and text. Files that end in one of `suffixes` are read so unless told otherwise."""

    read: Callable[[Path, str], list[Any]]
    suffixes: tuple[str, ...] = ()
    table: bool = False


FORMATS: Registry[Format] = Registry("transcript format", None)
Reader = Callable[[Path, str], list[Any]]


def register(name: str, *suffixes: str, table: bool = False) -> Callable[[Reader], Reader]:
    """Make the decorated function the reader of a form of transcripts; see `Format`."""

    def keep(read: Reader) -> Reader:
        FORMATS.add(name, Format(read, suffixes, table), by=read)
        return read

    return keep


def by_suffix(path: Path) -> str | None:
    """The name of the format that a file's ending says."""
    return next((name for name, one in FORMATS.items() if path.suffix.lower() in one.suffixes), None)


@dataclass(frozen=True)
class Transcripts:
    """Texts of one file, in its order. `columns` holds every column of a table, by name."""

    path: str
    format: str
    texts: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def speakers(self) -> tuple[str, ...] | None:
        """The column of speakers, if the table has one under a common name."""
        name = next((name for name in SPEAKER_COLUMNS if name in self.columns), None)
        return None if name is None else self.columns[name]


def read_transcripts(
    path: str | Path,
    *,
    format: str | None = None,
    role: Literal["reference", "hypothesis"] = "reference",
    id_column: str | None = None,
    text_column: str | None = None,
) -> Transcripts:
    """Read one file of transcripts.

    Args:
        format: how to read it; by default from the ending, and from the lines where the ending says nothing.
        role: which columns of a table are tried first, those that usually hold references or hypotheses.
        id_column, text_column: of a table, where they do not have common names.
    Raises:  BadInput for a file that cannot be read, lacks a column, repeats an id or is empty; it names the line.
    """
    path = Path(path)
    content = _content(path)
    kind = format or by_suffix(path) or _guess(path, _lines(content))
    form = FORMATS.find(kind)
    found = form.read(path, content)
    if form.table:
        made = _table(path, kind, found, role, id_column, text_column)
    else:
        ids = tuple(one for one, _ in found)
        made = Transcripts(str(path), kind, tuple(text for _, text in found), None if None in ids else ids or None)
    if not made.texts:
        raise BadInput(f"{str(path)!r} holds no transcript: the file is empty.")
    if made.ids is not None and len(set(made.ids)) != len(made.ids):
        repeated = next(one for one, times in Counter(made.ids).items() if times > 1)
        raise BadInput(f"{str(path)!r} has the id {repeated!r} more than once. Each utterance needs its own.")
    return made


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {str(path)!r}: {error.strerror or error}. Give a file of transcripts.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{str(path)!r} is not UTF-8 (byte {error.start}): convert it, e.g. iconv -f latin1 -t utf8.") from None


def _names_of(path: Path) -> list[str]:
    return list(dict.fromkeys(name for row in FORMATS.find(by_suffix(path) or "csv").read(path, _content(path)) for name in row))


def _guess(path: Path, lines: Sequence[str]) -> str:
    filled = [line for line in lines if line.strip()]
    if path.name == "text" or path.suffix == ".text":
        return "kaldi"
    if filled and all(_TRN.match(line) for line in filled):
        return "trn"
    firsts = [line.split(maxsplit=1)[0] for line in filled]
    if firsts and len(set(firsts)) == len(firsts) and all(_LIKE_AN_ID.match(first) for first in firsts):
        return "kaldi"
    return "plain"


def _kaldi(line: str) -> tuple[str, str]:
    first, _, rest = line.strip().partition(" ")
    if "\t" in first:
        first, _, rest = line.strip().partition("\t")
    return first, rest.strip()


@register("plain")
def read_plain(path: Path, content: str) -> list[tuple[None, str]]:
    return [(None, line) for line in _lines(content)]


@register("kaldi", ".kaldi")
def read_kaldi(path: Path, content: str) -> list[tuple[str, str]]:
    return [_kaldi(line) for line in _lines(content) if line.strip()]


@register("trn", ".trn")
def read_trn(path: Path, content: str) -> list[tuple[str, str]]:
    return [_trn(path, number, line) for number, line in enumerate(_lines(content), 1) if line.strip()]


def _lines(content: str) -> list[str]:
    """Only \\n and \\r\\n end a line: str.splitlines would also cut at U+2028 or form feeds inside a text."""
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines


def _trn(path: Path, number: int, line: str) -> tuple[str, str]:
    found = _TRN.match(line)
    if found is None:
        raise BadInput(f"{path}, line {number}: {line[:60]!r} is not trn, which is `text … (id)`. Choose another --format.")
    if re.search(r"\{[^{}]*/[^{}]*\}", found[1]):
        raise BadInput(f"{path}, line {number}: alternatives such as {{ a / b }} are not supported. Choose one of them.")
    return found[2], found[1].strip()


@register("csv", ".csv", table=True)
def read_csv(path: Path, content: str) -> list[dict[str, Any]]:
    return _delimited(path, content)


@register("tsv", ".tsv", table=True)
def read_tsv(path: Path, content: str) -> list[dict[str, Any]]:
    """TSV as corpora write it has no quoting: a lone " in a sentence is a letter like any other."""
    return _delimited(path, content, delimiter="\t", quoting=csv.QUOTE_NONE)


def _delimited(path: Path, content: str, **dialect: Any) -> list[dict[str, Any]]:
    csv.field_size_limit(10_000_000)
    reader = csv.DictReader(io.StringIO(content, newline=""), **dialect)
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise BadInput(
                f"{path}, line {reader.line_num}: the row does not have the {len(reader.fieldnames or ())} columns "
                "of the header. Quote texts that hold commas, or use TSV."
            )
        rows.append(row)
    return rows


@register("jsonl", ".jsonl", ".ndjson", table=True)
def read_jsonl(path: Path, content: str) -> list[dict[str, Any]]:
    return [_object(path, number, _json(path, number, line)) for number, line in enumerate(content.split("\n"), 1) if line.strip()]


@register("json", ".json", table=True)
def read_json(path: Path, content: str) -> list[dict[str, Any]]:
    given = _json(path, 1, content)
    if isinstance(given, dict) and all(isinstance(text, str) for text in given.values()):
        return [{"id": one, "text": text} for one, text in given.items()]
    if not isinstance(given, list):
        raise BadInput(f'{path} must hold a list of objects, or one object {{"id": "text", …}}.')
    return [_object(path, number, row) for number, row in enumerate(given, 1)]


def _json(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}, line {number + error.lineno - 1} is not JSON: {error.msg}.") from None


def _object(path: Path, number: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadInput(f"{path}, row {number} is not a JSON object: each row needs an id and a text.")
    return row


def _table(path: Path, kind: str, rows: list[dict[str, Any]], role: str, id_column: str | None, text_column: str | None) -> Transcripts:
    if not rows:
        raise BadInput(f"{str(path)!r} holds no transcript: there is no row below the header.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    preferred = REFERENCE_COLUMNS if role == "reference" else HYPOTHESIS_COLUMNS
    text_name = _column(path, names, text_column, preferred, "text")
    if text_name is None:
        raise BadInput(f"{str(path)!r} has no column of texts among {', '.join(names)}. Name it with --text-column.")
    id_name = _column(path, names, id_column, ID_COLUMNS, "id")
    columns = {name: tuple(row.get(name) for row in rows) for name in names}
    if text_name in SPEAKER_COLUMNS:  # read as the texts of a table of speakers; their names may be numbers
        columns[text_name] = tuple(str(one) if isinstance(one, int) else one for one in columns[text_name])
    texts: list[str] = []
    for number, text in enumerate(columns[text_name], 1):
        if isinstance(text, str):
            texts.append(text)
        else:
            raise BadInput(f'{path}, row {number}: column {text_name!r} holds {text!r}, not a text. Write "" for silence.')
    ids = None
    if id_name is not None:
        if missing := [n for n, one in enumerate(columns[id_name], 1) if one is None or one == ""]:
            raise BadInput(f"{path}, row {missing[0]}: there is no id in column {id_name!r}.")
        ids = tuple(str(one) for one in columns[id_name])
    return Transcripts(str(path), kind, tuple(texts), ids, columns)


def _column(path: Path, names: Sequence[str], asked: str | None, preferred: Sequence[str], what: str) -> str | None:
    if asked is not None:
        if asked not in names:
            raise BadInput(f"{str(path)!r} has no column {asked!r} for the {what}; it has {', '.join(names)}.")
        return asked
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in preferred if name in lowered), None)


def with_ids(reference: Transcripts, hypotheses: Sequence[Transcripts]) -> tuple[Transcripts, list[Transcripts]]:
    """The same files, those that were taken for plain text read as `id text` where all of them together show that they are.

    Every line of every file begins with another word than the others of its file, and either these words look like ids, or
    they are the same in all files in another order: parallel texts have an order, and sentences are not parted by their
    first words. (Files whose form was asked for are not to be given.)
    """
    files = [reference, *hypotheses]
    firsts = [one.ids or tuple(line.split(maxsplit=1)[0] for line in one.texts if line.strip()) for one in files]
    plain = [one.format == "plain" for one in files]
    if not any(plain) or any(one.ids is None and not bare for one, bare in zip(files, plain, strict=True)):
        return reference, list(hypotheses)
    if any(len(words) < 2 or len(set(words)) < len(words) for words in firsts):
        return reference, list(hypotheses)
    alike = all(_MAYBE_AN_ID.match(word) for words, bare in zip(firsts, plain, strict=True) if bare for word in words)
    moved = len({frozenset(words) for words in firsts}) == 1 < len(set(firsts))
    if not alike and not moved:
        return reference, list(hypotheses)
    made = [_as_kaldi(one) if bare else one for one, bare in zip(files, plain, strict=True)]
    return made[0], made[1:]


def _as_kaldi(plain: Transcripts) -> Transcripts:
    pairs = [_kaldi(line) for line in plain.texts if line.strip()]
    return Transcripts(plain.path, "kaldi", tuple(text for _, text in pairs), tuple(one for one, _ in pairs))


def match(reference: Transcripts, hypothesis: Transcripts, *, by_order: bool = False) -> tuple[str, ...]:
    """The hypothesis texts in the reference's order.

    Args:    by_order: pair line by line even where there are ids.
    Raises:  BadInput when ids do not match, with the ids; when one side has ids and the other none; or when the
             numbers of lines differ.
    """
    if by_order or (reference.ids is None and hypothesis.ids is None):
        if len(reference) != len(hypothesis):
            raise BadInput(
                f"{reference.path} has {len(reference)} texts and {hypothesis.path} has {len(hypothesis)}: "
                "they are paired line by line, so give one line for each, empty where nothing was recognized."
            )
        return hypothesis.texts
    if reference.ids is None or hypothesis.ids is None:
        bare, named = (reference, hypothesis) if reference.ids is None else (hypothesis, reference)
        raise BadInput(
            f"{named.path} ({named.format}) has ids and {bare.path} ({bare.format}) has none. Give both in a "
            "form with ids, choose --format, or pair them line by line with --by-order."
        )
    texts = dict(zip(hypothesis.ids, hypothesis.texts, strict=True))
    missing = [one for one in reference.ids if one not in texts]
    known = set(reference.ids)
    extra = [one for one in hypothesis.ids if one not in known]
    if missing or extra:
        raise BadInput(
            f"{hypothesis.path} does not match {reference.path}: "
            + " and ".join(
                f"{len(ids)} {what} ({', '.join(ids[:5])}{', …' if len(ids) > 5 else ''})"
                for ids, what in ((missing, "utterances are missing"), (extra, "have no reference"))
                if ids
            )
            + ". Every utterance counts: give an empty text where nothing was recognized, and leave out no reference."
        )
    return tuple(texts[one] for one in reference.ids)


def read_speakers(path: str | Path, ids: Sequence[str] | None, *, count: int) -> tuple[str, ...]:
    """One speaker per utterance, from Kaldi's utt2spk (`id speaker`), a table with ids and speakers, or one name a
    line.

    Args:    ids: of the utterances, in order, or None where they have none; count: how many there are.
    Raises:  BadInput when an utterance has no speaker, or the numbers differ.
    """
    path = Path(path)
    told = by_suffix(path)
    if told is not None and FORMATS[told].table:
        names = _names_of(path)
        column = next((name for name in SPEAKER_COLUMNS if name in names), None)
        if column is None:
            raise BadInput(f"{str(path)!r} has no column of speakers among {', '.join(names)}; call it 'speaker'.")
        found = read_transcripts(path, text_column=column)
    else:
        plain = read_transcripts(path, format="plain")
        two = [line.split() for line in plain.texts]
        both = all(len(words) == 2 for words in two)
        if both and ids is None and len({one for one, _ in two}) == len(two) > len({name for _, name in two}):
            raise BadInput(
                f"{str(path)!r} looks like utt2spk (`id speaker`), but the references have no ids to find there. Give "
                "references with ids, or one speaker a line."
            )
        found = read_transcripts(path, format="kaldi") if both and ids is not None else plain
    if found.ids is None or ids is None:
        if len(found) != count:
            raise BadInput(f"{str(path)!r} names {len(found)} speakers for {count} utterances; give one for each.")
        return found.texts
    by_id = dict(zip(found.ids, found.texts, strict=True))
    if missing := [one for one in ids if one not in by_id]:
        raise BadInput(f"{str(path)!r} has no speaker for {len(missing)} utterances, e.g. {', '.join(missing[:5])}.")
    return tuple(by_id[one] for one in ids)
