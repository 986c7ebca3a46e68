"""One bad row costs itself: it is named with file and row, left out and counted, whatever it holds; all others are read.

Cells and bytes that no honest program writes go into one row of a corpus of every format, drawn by a seeded generator.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from asrpeft.corpus import read
from asrpeft.corpus.formats import table as tables
from asrpeft.corpus.formats.jsonl import CHUNK
from asrpeft.corpus.lines import LONGEST
from asrpeft.corpus.manifest import write_manifest
from asrpeft.corpus.recordings import recordings
from asrpeft.errors import AsrpeftError, BadCorpus
from tests.audio.sounds import encoded

WAV = encoded(np.full(800, 0.1, np.float32))  # 50 ms
GOOD = b'{"audio": "a.wav", "text": "yes"}'


def sound(root: Path) -> None:
    (root / "a.wav").write_bytes(WAV)


def jsonl(root: Path, line: bytes, name: str = "x.jsonl") -> Path:
    sound(root)
    (root / name).write_bytes(b"\n".join([GOOD, line, GOOD]) + b"\n")
    return root / name


def row(cells: str) -> bytes:
    return b'{"audio": "a.wav", "text": "no", ' + cells.encode() + b"}"


DIGITS = "9" * 5_000
LINES = {
    "a number of more digits than Python takes": (row(f'"n": {DIGITS}'), "over 4,300 digits"),
    "deep lists": (row('"n": ' + "[" * 50_000 + "]" * 50_000), "nested too deeply"),
    "lists that are deep for other processes": (row('"n": ' + "[" * 60 + "]" * 60), "nested more than 50 deep"),
    "deep objects": (row('"n": ' + '{"a":' * 50_000 + "1" + "}" * 50_000), "nested too deeply"),
    "a byte that is not UTF-8": (b'{"audio": "a.wav", "text": "caf\xe9"}', "not UTF-8 (byte 32 of the line)"),
    "UTF-8 of half a pair": (b'{"audio": "a.wav", "text": "\xed\xa0\x80"}', "not UTF-8"),
    "half a pair, escaped": (row(r'"n": "\ud800"'), "half of a surrogate pair"),
    "half a pair in the text": (rb'{"audio": "a.wav", "text": "\udfff"}', "half of a surrogate pair"),
    "half a pair in a name": (rb'{"audio": "\ud800.wav", "text": "x"}', "half of a surrogate pair"),
    "half a pair in a column's name": (row(r'"\ud800": 1'), "half of a surrogate pair"),
    "half a pair inside a list": (row(r'"n": [["\udfff"]]'), "half of a surrogate pair"),
    "a duration of no number": (row('"duration": NaN'), "its duration is nan"),
    "an endless duration": (row('"duration": Infinity'), "its duration is inf"),
    "a duration of 400 digits": (row(f'"duration": {"9" * 400}'), "its duration is 9999"),
    "a duration of 400 digits as text": (row(f'"duration": "{"9" * 400}"'), "its duration is '9999"),
    "a negative duration": (row('"duration": -1'), "its duration is -1"),
    "a duration of words": (row('"duration": "long"'), "its duration is 'long'"),
    "a duration that is a list": (row('"duration": [1]'), "its duration is [1]"),
    "a duration of truth": (row('"duration": true'), "its duration is True"),
    "a negative start": (row('"start": -1'), "its start is -1"),
    "a start of words": (row('"start": "soon"'), "its start is 'soon'"),
    "a start of 400 digits": (row(f'"start": {"1" * 400}'), "its start is 1111"),
    "a start of no number": (row('"start": NaN, "end": 1'), "its start is nan"),
    "an end alone": (row('"end": 0.01'), "nothing says where it starts"),
    "an end before the start": (row('"start": 0.02, "end": 0.01'), "before it starts"),
    "a part of no length": (row('"start": 0.01, "duration": 0'), "0 s long"),
    "a start after the end of the audio": (row('"start": 3'), "before its part"),
    "text of what cannot be seen": ('{"audio": "a.wav", "text": "\u200b\ufeff \u2060"}'.encode(), "audio without text"),
    "a list": (b"[1, 2]", "not a JSON object"),
    "half a line": (b'{"audio": "a.wav", "te', "not JSON"),
    "nothing but a NUL": (b"\0", "not JSON"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_bad_line_of_json_is_named_and_costs_no_other(tmp_path, name):
    line, reason = LINES[name]
    corpus = read(jsonl(tmp_path, line))
    assert [u.text for u in corpus] == ["yes", "yes"]
    assert len(corpus.skipped) == 1
    report = f"{corpus.skipped[0].id}: {corpus.skipped[0].reason}"
    assert reason in report and "x.jsonl:2" in report and len(report) < 400
    with pytest.raises(BadCorpus, match="x.jsonl:2"):
        read(tmp_path / "x.jsonl", strict=True)


@pytest.mark.parametrize("name", [name for name in LINES if name not in ("a list", "half a line", "nothing but a NUL")])
def test_a_bad_element_of_a_json_array_is_named_and_costs_no_other(tmp_path, name):
    line, reason = LINES[name]
    sound(tmp_path)
    (tmp_path / "x.json").write_bytes(b"[" + b",\n ".join([GOOD, line, GOOD]) + b"]\n")
    corpus = read(tmp_path / "x.json")
    report = f"{corpus.skipped[0].id}: {corpus.skipped[0].reason}"
    assert len(corpus) == 2 and len(corpus.skipped) == 1 and "x.json:2" in report and reason.partition(" (byte")[0] in report


def test_an_array_is_cut_at_its_own_commas_wherever_it_is_read_in_pieces(tmp_path):
    sound(tmp_path)
    texts = [r'a "quote", [and] {braces}', "back\\slash\\", "], [", "é" * 40, '\\"', "x" * 300]
    rows = [{"audio": "a.wav", "text": texts[i % 6] + " " * (i % 97) + str(i)} for i in range(CHUNK // 40)]  # some chunks long
    (tmp_path / "x.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [u.text for u in read(tmp_path / "x.json")] == [r["text"] for r in rows]


@pytest.mark.parametrize("content", [b"[", b"[{]", b'[{"a": "b', b'[{"audio": "a.wav", "text": "x"},'])
def test_an_array_that_ends_too_soon_is_told(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadCorpus, match="ends within it|no column|usable"):
        read(tmp_path / "x.json")


def test_a_list_in_the_first_line_of_json_lines_is_a_bad_row(tmp_path):
    sound(tmp_path)
    (tmp_path / "x.jsonl").write_bytes(b'["no", "object"]\n' + GOOD + b"\n")
    corpus = read(tmp_path / "x.jsonl")
    assert len(corpus) == 1 and corpus.skipped[0].id == "x.jsonl:1"


def test_an_endless_line_is_left_out_without_being_held(tmp_path):
    path = jsonl(tmp_path, b'{"audio": "a.wav", "text": "' + b"x" * (LONGEST + 10) + b'"}')
    corpus = read(path)
    assert len(corpus) == 2 and "16,777,216 characters" in corpus.skipped[0].reason and corpus.skipped[0].id == "x.jsonl:2"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_called_so(tmp_path, encoding):
    (tmp_path / "x.csv").write_bytes((b"" if encoding == "utf-16" else b"\xfe\xff") + "audio,text\na.wav,x\n".encode(encoding))
    with pytest.raises(BadCorpus, match="UTF-16.*Save it as UTF-8"):
        read(tmp_path / "x.csv")


CSV = {
    "a field of over 131,072 characters": (b"a.wav," + b"x" * 140_000, "field larger than field limit"),
    "a quotation mark that nothing closes": (b'a.wav,"no', "not CSV"),
    "letters after a closing quotation mark": (b'a.wav,"no" way', "not CSV"),
    "a field too many": (b"a.wav,no,no", "3 fields where the header names 2"),
    "a byte that is not UTF-8": (b"a.wav,caf\xe9", "not UTF-8 (byte 10 of the line)"),
    "a line over the limit": (b"a.wav," + b"x" * LONGEST, "16,777,216 characters"),
}


@pytest.mark.parametrize("name", CSV)
def test_a_bad_line_of_csv_is_named_and_costs_no_other(tmp_path, name):
    line, reason = CSV[name]
    sound(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"audio,text\na.wav,yes\n" + line + b'\na.wav,"two\nlines"\na.wav,yes\n')
    corpus = read(tmp_path / "x.csv")
    assert [u.text for u in corpus] == ["yes", "two\nlines", "yes"]
    assert [s.id for s in corpus.skipped] == ["x.csv:3"] and reason in corpus.skipped[0].reason


def test_quotation_marks_that_nothing_closes_cost_their_own_lines_however_many_there_are(tmp_path):
    sound(tmp_path)
    lines = [f'a.wav,"no {i}' if i % 10 == 3 else f"a.wav,yes {i}" for i in range(30 * tables.RECORD_LINES // 10)]
    (tmp_path / "x.csv").write_text("\n".join(["audio,text", *lines]))
    corpus = read(tmp_path / "x.csv")
    lost = {int(s.id.split(":")[1]) for s in corpus.skipped}
    assert len(corpus) + len(corpus.skipped) == len(lines)
    assert lost == {i + 2 for i, line in enumerate(lines) if '"' in line}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(tmp_path, ends):
    sound(tmp_path)
    (tmp_path / "x.csv").write_bytes(ends.join(["audio,text", "a.wav,one", 'a.wav,"two, three"', ""]).encode())
    assert [u.text for u in read(tmp_path / "x.csv")] == ["one", "two, three"]


@pytest.mark.parametrize(
    "name, line, reason",
    [
        ("text", b"b caf\xe9", "not UTF-8"),
        ("utt2spk", b"b \xff", "not UTF-8"),
        ("segments", b"b a x 1", "its start is 'x'"),
        ("segments", b"b a 0.02 -0.5", "its end is '-0.5'"),
        ("segments", b"b a nan 1", "its start is 'nan'"),
        ("wav.scp", b"\xff a.wav", "not UTF-8"),
    ],
)
def test_a_bad_line_of_a_kaldi_table_costs_no_other(tmp_path, name, line, reason):
    sound(tmp_path)
    files = {"wav.scp": b"a a.wav\nc a.wav\n", "text": b"a yes\nb no\nc yes\n", "utt2spk": b"a s\nc s\n", "segments": b"a a 0 0.05\nc c 0 -1\n"}
    for file, content in files.items():
        (tmp_path / file).write_bytes(content + (line + b"\n" if file == name else b""))
    corpus = read(tmp_path)
    assert [u.id for u in corpus] == ["a", "c"]
    assert any(reason in s.reason for s in corpus.skipped)


def test_texts_beside_recordings_that_are_none_cost_no_other(tmp_path):
    for name, text in {"a": b"yes", "b": b"caf\xe9", "c": b"x\n" * 3_000, "d": b"\xff\xfeh\0i\0"}.items():
        (tmp_path / f"{name}.wav").write_bytes(WAV)
        (tmp_path / f"{name}.txt").write_bytes(text)
    corpus = read(tmp_path)
    assert [u.id for u in corpus] == ["a"] and {s.id for s in corpus.skipped} == {"b.wav", "c.wav", "d.wav"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse the name")
def test_a_file_whose_name_is_not_utf_8_is_left_out_by_a_name_that_can_be_written(tmp_path):
    for name in (b"a", b"caf\xe9"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name + b".wav"))).write_bytes(WAV)
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name + b".txt"))).write_text("yes")
    corpus = read(tmp_path)
    assert [u.id for u in corpus] == ["a"] and [s.id for s in corpus.skipped] == ["caf\\udce9.wav"] and "not UTF-8" in corpus.skipped[0].reason
    assert sorted(u.id for u in recordings(tmp_path)) == ["a.wav", "caf\\udce9.wav"]


def test_librispeech_lists_with_a_broken_line_cost_no_other(tmp_path):
    for name in ("1-1-0", "1-1-1"):
        (tmp_path / f"{name}.wav").write_bytes(WAV)
    (tmp_path / "1-1.trans.txt").write_bytes(b"1-1-0 YES\n1-1-1 CAF\xc9\n")
    corpus = read(tmp_path)
    assert [u.text for u in corpus] == ["YES"] and {s.id for s in corpus.skipped} == {"1-1.trans.txt:2", "1-1-1.wav"}


def test_a_broken_string_in_parquet_costs_its_row(tmp_path):
    texts = pyarrow.StringArray.from_buffers(3, pyarrow.py_buffer(np.array([0, 3, 5, 8], np.int32)), pyarrow.py_buffer(b"yes\xff\xfeyes"))
    pyarrow.parquet.write_table(pyarrow.table({"audio": pyarrow.array([WAV] * 3), "text": texts}), tmp_path / "x.parquet")
    corpus = read(tmp_path / "x.parquet")
    assert [u.text for u in corpus] == ["yes", "yes"] and [s.id for s in corpus.skipped] == ["x.parquet:2"]


def test_a_damaged_row_group_of_parquet_costs_its_rows(tmp_path):
    path = tmp_path / "x.parquet"
    rows = pyarrow.table({"audio": pyarrow.array([WAV] * 9), "text": [f"text {i}" for i in range(9)]})
    pyarrow.parquet.write_table(rows, path, row_group_size=3, compression="zstd")
    column = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    data[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    corpus = read(path)
    assert [u.text for u in corpus] == [f"text {i}" for i in (0, 1, 2, 6, 7, 8)]
    assert [s.id for s in corpus.skipped] == ["x.parquet:4 to 6"]


def test_a_role_can_be_taken_from_a_column_that_means_something_else(tmp_path):
    path = jsonl(tmp_path, row('"end": "2020-01-01", "speaker": "ann"'))
    assert len(read(path)) == 2
    corpus = read(path, columns={"end": ""})
    assert len(corpus) == 3 and corpus[1].extra == {"end": "2020-01-01"}


def test_a_manifest_of_numbers_that_json_has_no_name_for_is_written_without_them(tmp_path):
    corpus = read(jsonl(tmp_path, row('"snr": NaN, "gain": Infinity, "age": 7')))
    lines = write_manifest(corpus, tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(lines[1], parse_constant=pytest.fail)["age"] == 7


# -- drawn by chance -------------------------------------------------------------------------------------------------------

CELLS = [
    "",
    " ",
    "x",
    "\u200b",
    "\ud800",
    "\udcff",
    "\x00",
    "\x1b[31m",
    "[/b]",
    "=1+1",
    "a.wav",
    "../a.wav",
    "/",
    "nul\0",
    "y" * 5_000,
    "9" * 400,
    "9" * 5_000,
    "-1",
    "nan",
    "inf",
    "1e999",
    "0.01",
    "é" * 300,
    "\u202e",
    '"',
    '""',
    "'",
    ",",
    "\t",
    "\n",
    "\r",
    "|",
    "a.wav |",
    "x.ark:3",
]
VALUES = [None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), [], [[]], {}, {"bytes": None, "path": None}, {"path": 5}, {"bytes": "x"}, [1, [2]]]


def make_rows(dice: random.Random, values: list) -> tuple[list[dict], int]:
    """Good rows and one that is odd in some cells."""
    rows = [{"id": f"u{i}", "audio": "a.wav", "text": f"text {i}", "speaker": "s", "start": 0.0, "duration": 0.05} for i in range(4)]
    odd = dice.randrange(4)
    for column in dice.sample(sorted(rows[0]), dice.randint(1, 3)):
        rows[odd][column] = dice.choice(values)
    return rows, odd


def make_jsonl(root: Path, dice: random.Random) -> tuple[Path, int]:
    rows, odd = make_rows(dice, CELLS + VALUES)
    (root / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root / "x.jsonl", odd


def make_json(root: Path, dice: random.Random) -> tuple[Path, int]:
    rows, odd = make_rows(dice, CELLS + VALUES)
    (root / "x.json").write_text(json.dumps(rows, indent=dice.choice([None, 1])))
    return root / "x.json", odd


def make_csv(root: Path, dice: random.Random) -> tuple[Path, int]:
    rows, odd = make_rows(dice, CELLS)
    with (root / "x.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape" if dice.random() < 0.5 else "surrogatepass") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for one in rows:
            try:
                writer.writerow(one)
            except UnicodeEncodeError:
                file.write("\ufffd\n")
    return root / "x.csv", odd


def make_tsv(root: Path, dice: random.Random) -> tuple[Path, int]:
    rows, odd = make_rows(dice, CELLS)
    lines = ["\t".join(rows[0]), *("\t".join(map(str, one.values())) for one in rows)]
    (root / "x.tsv").write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    return root / "x.tsv", odd


def make_kaldi(root: Path, dice: random.Random) -> tuple[Path, int]:
    rows, odd = make_rows(dice, CELLS)
    for name, columns in {"wav.scp": ("id", "audio"), "text": ("id", "text"), "utt2spk": ("id", "speaker")}.items():
        (root / name).write_bytes("".join(f"{' '.join(str(one[c]) for c in columns)}\n" for one in rows).encode(errors="surrogatepass"))
    if dice.random() < 0.5:
        (root / "segments").write_bytes("".join(f"{r['id']} {r['id']} {r['start']} {r['duration']}\n" for r in rows).encode(errors="surrogatepass"))
    return root, odd


def make_parquet(root: Path, dice: random.Random) -> tuple[Path, int]:
    rows, odd = make_rows(dice, [c for c in CELLS if c.isascii() or c.isprintable()] + [None])
    columns = {name: [None if one[name] is None else str(one[name]) for one in rows] for name in rows[0]}
    columns = {
        name: pyarrow.array([c if c is None else c.encode("utf-8", "surrogatepass") for c in cells]).cast(pyarrow.string(), safe=False)
        for name, cells in columns.items()
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "x.parquet", row_group_size=dice.choice([1, 3, 9]))
    return root / "x.parquet", odd


def make_folder(root: Path, dice: random.Random) -> tuple[Path, int]:
    for i in range(4):
        (root / f"u{i}.wav").write_bytes(WAV)
        (root / f"u{i}.txt").write_text(f"text {i}")
    (root / "a.wav").unlink()
    odd = dice.randrange(4)
    (root / f"u{odd}.txt").write_bytes(dice.choice(CELLS).encode(errors="surrogatepass"))
    return root, odd


MAKERS = {f.__name__.removeprefix("make_"): f for f in (make_jsonl, make_json, make_csv, make_tsv, make_kaldi, make_parquet, make_folder)}
CASES = 40  # of each format; scripts and the patient raise it


@pytest.mark.parametrize("kind", MAKERS)
def test_whatever_one_row_holds_the_others_are_read(kind, tmp_path):
    for seed in range(CASES):
        root = tmp_path / str(seed)
        root.mkdir()
        sound(root)
        path, odd = MAKERS[kind](root, random.Random(f"{kind}-{seed}"))
        corpus = read(path)
        assert {f"text {i}" for i in range(4) if i != odd} <= {u.text for u in corpus}, seed
        for message in [*(f"{s.id} {s.reason}" for s in corpus.skipped), *(f"{u.id} {u.text} {u.speaker}" for u in corpus)]:
            message.encode()  # any report can be written with it
        assert all(len(s.reason) < 9_000 for s in corpus.skipped)


@pytest.mark.parametrize("kind", MAKERS)
def test_bytes_that_changed_by_chance_end_in_rows_or_in_an_error_that_says_so(kind, tmp_path):
    for seed in range(CASES):
        root = tmp_path / str(seed)
        root.mkdir()
        sound(root)
        dice = random.Random(f"bytes-{kind}-{seed}")
        path, _ = MAKERS[kind](root, dice)
        for file in [path] if path.is_file() else [p for p in path.iterdir() if p.suffix != ".wav"]:
            data = bytearray(file.read_bytes())
            for _ in range(dice.randint(1, 4) if data else 0):
                at = dice.randrange(len(data) + 1)
                data[at : at + dice.choice([0, 1, 5])] = dice.choice([b"", b"\0", b"\xff", b'"', b"\n", b"[", b"{", b"\\", b"\xed\xa0\x80", b"9" * 400])
            file.write_bytes(data)
        try:
            corpus = read(path)
        except AsrpeftError as error:
            str(error).encode()
        else:
            for message in [*(f"{s.id} {s.reason}" for s in corpus.skipped), *(f"{u.id} {u.text} {u.speaker}" for u in corpus)]:
                message.encode()
