"""CSV and TSV manifests with a header line; Common Voice (`path`, `sentence`, `client_id`, audio in `clips/`) among them."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from asrpeft.corpus.formats import Bad, Row, Table, register
from asrpeft.corpus.lines import count, lines
from asrpeft.errors import BadCorpus

SUFFIXES = {".csv", ".tsv"}
RECORD_LINES = 64  # of one record: a transcript has fewer, a quotation mark that nothing closes would swallow the file
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')

Record = tuple[int, "list[str] | Bad"]  # with the number of its first line


@register(
    "table",
    "a .csv or .tsv manifest with a header line (Common Voice's among them)",
    claims=lambda spec: Path(spec).suffix.lower() in SUFFIXES and Path(spec).is_file(),
)
def table(spec: str, limit: int | None) -> Table:
    return read_table(Path(spec))


def read_table(path: Path, header: Sequence[str] | None = None, delimiter: str | None = None, *, quoted: bool = True) -> Table:
    """A delimited file as rows; with `header`, every line is a row, as in LJSpeech's metadata.csv, whose quotation marks
    are text (`quoted=False`)."""
    delimiter = delimiter or ("\t" if path.suffix.lower() == ".tsv" else _delimiter(path))
    records = _tabbed(path) if delimiter == "\t" else _quoted(path, delimiter, quoted)
    names = header or next(records, (1, []))[1]
    if isinstance(names, Bad):
        raise BadCorpus(f"{path}: its header cannot be read: {names.reason}.")
    names = list(names)
    if not any(name.strip() for name in names):
        raise BadCorpus(f"{path}: it is empty. Its first line should name the columns, for instance audio,text,speaker.")
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadCorpus(f"{path}: its header names {', '.join(map(repr, sorted(twice)))} more than once. Rename one of them.")
    return Table(tuple(names), _rows(path, records, names), (path.parent, path.parent / "clips"), count(path))


def _rows(path: Path, records: Iterator[Record], names: list[str]) -> Iterator[Row | Bad]:
    for number, fields in records:
        place = f"{path.name}:{number}"
        if isinstance(fields, Bad):
            yield fields
        elif len(fields) == len(names):
            yield Row(place, dict(zip(names, fields, strict=True)))
        elif any(fields):
            yield Bad(place, f"{len(fields)} fields where the header names {len(names)}")


def _tabbed(path: Path) -> Iterator[Record]:
    """Tabs separate plainly: Common Voice has sentences with a single quotation mark in them."""
    for number, line in lines(path):
        if isinstance(line, Bad):
            yield number, line
        elif line.strip("\r"):
            yield number, [_unquoted(field) for field in line.rstrip("\r").split("\t")]


def _quoted(path: Path, delimiter: str, quoted: bool) -> Iterator[Record]:
    """Records of one line or, where new lines are quoted, of several. After one that is not CSV, such as one with a quotation
    mark that nothing closes, reading goes on with the line after its first."""
    source = lines(path, newline="")
    again: deque[tuple[int, str | Bad]] = deque()
    taken: list[tuple[int, str]] = []  # lines of the record that is being read

    def feed() -> Iterator[str]:
        while len(taken) < RECORD_LINES and (item := again.popleft() if again else next(source, None)):
            number, line = item
            if isinstance(line, Bad):
                again.appendleft(item)  # it belongs to no record
                return
            taken.append((number, line))
            yield line

    reader = None
    while True:
        taken.clear()
        if reader is None:
            reader = csv.reader(feed(), delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        try:
            fields = next(reader, None)
        except csv.Error as error:
            number = taken[0][0]
            yield number, Bad(f"{path.name}:{number}", f'not CSV ({error}). Quote fields as "…" and double quotes in them')
            again.extendleft(reversed(taken[1:]))
            reader = None
            continue
        if fields:
            yield taken[0][0], fields
        elif fields is None and again:
            number, unread = again.popleft()
            assert isinstance(unread, Bad)  # for nothing else does `feed` stop before its lines end
            yield number, unread
            reader = None
        elif fields is None:
            return


def _unquoted(field: str) -> str:
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') if quoted else field


def _delimiter(path: Path) -> str:
    """The separator that splits the header most; a comma where nothing does."""
    header = next((line for _, line in lines(path, newline="")), "")
    return "," if isinstance(header, Bad) else max(",;|\t", key=header.count)
