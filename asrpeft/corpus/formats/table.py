"""CSV and TSV manifests with a header line; Common Voice (`path`, `sentence`, `client_id`, audio in `clips/`) among them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from asrpeft.corpus.formats import Bad, Table, register
from asrpeft.errors import BadCorpus

SUFFIXES = {".csv", ".tsv"}
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@register("table", "a .csv or .tsv manifest with a header line (Common Voice's among them)",
          claims=lambda spec: Path(spec).suffix.lower() in SUFFIXES and Path(spec).is_file())  # fmt: skip
def table(spec: str, limit: int | None) -> Table:
    return read_table(Path(spec))


def read_table(path: Path, header: Sequence[str] | None = None, delimiter: str | None = None, *, quoted: bool = True) -> Table:
    """A delimited file as rows; with `header`, every line is a row, as in LJSpeech's metadata.csv, whose quotation marks
    are text (`quoted=False`)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadCorpus(f"{path}: not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from error
    delimiter = delimiter or ("\t" if path.suffix.lower() == ".tsv" else _delimiter(text))
    lines = _fields(path, text, delimiter, quoted)
    names = list(header) if header else next(lines, (0, []))[1]
    if not any(name.strip() for name in names):
        raise BadCorpus(f"{path}: it is empty. Its first line should name the columns, for instance audio,text,speaker.")
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadCorpus(f"{path}: its header names {', '.join(map(repr, sorted(twice)))} more than once. Rename one of them.")
    return Table(tuple(names), _rows(path, lines, names), (path.parent, path.parent / "clips"))


def _rows(path: Path, lines: Iterator[tuple[int, list[str]]], names: list[str]) -> Iterator[dict[str, object] | Bad]:
    for number, fields in lines:
        if len(fields) == len(names):
            yield dict(zip(names, fields, strict=True))
        elif any(fields):
            yield Bad(f"{path.name}:{number}", f"{len(fields)} fields where the header names {len(names)}")


def _fields(path: Path, text: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields). Tabs separate plainly: Common Voice has sentences with a single quotation mark in them."""
    if delimiter == "\t":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip("\r"):
                yield number, [_unquoted(field) for field in line.rstrip("\r").split("\t")]
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise BadCorpus(f"{path}: line {reader.line_num} is not CSV ({error}). Quote fields as \"…\" and double quotes in them.") from error


def _unquoted(field: str) -> str:
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') if quoted else field


def _delimiter(text: str) -> str:
    """The separator that splits the header most; a comma where nothing does."""
    header = text.partition("\n")[0]
    return max(",;|\t", key=header.count)
