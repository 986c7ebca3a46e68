"""A result is laid out by one formatter: alike on a terminal, as text, as Markdown, on a page; and saved by the ending of a name."""

from __future__ import annotations

import ast
import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import asrpeft
from asrpeft.errors import BadInput
from asrpeft.report import Document, Finding, Picture, Result, Table
from asrpeft.report.table import grid
from asrpeft.report.values import as_csv, as_json, plain

PACKAGE = Path(asrpeft.__file__).parent


def drawn():
    from asrpeft.report.figures import canvas

    figure, axes = canvas(height=2)
    axes.plot([1, 2], [3, 4])
    return figure


@dataclass(frozen=True)
class Found(Result):
    name: str = "a|b <i>[bold]x[/bold]</i> \x1b[31m"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "wer": float("nan")}

    def rows(self):
        return [{"name": self.name, "wer": float("nan")}]

    def document(self) -> Document:
        table = Table.of("Systems", ("system", "WER %", "none"), [(self.name, 12.5, None), ("क्ष 語", 3, None)], below="Of 2 utterances.")
        more = Table.of("More", ("what",), [("x_y",)])
        return Document(
            "A & B",
            (table, more),
            (Finding("It is better.", "better"),),
            ("Mind *this*.",),
            ("Saved.",),
            (Picture("line", "A line", drawn), Picture("again", "Once more", drawn)),
            made_by={"command": "x", "adapters": []},
        )


@dataclass(frozen=True)
class Plain(Result):
    def to_json(self) -> dict[str, Any]:
        return {}

    def document(self) -> Document:
        return Document("Nothing", ())


def test_every_layout_says_the_same():
    found = Found()
    for text in (str(found), found.markdown(), found.html(), found._repr_html_()):
        said = " ".join(text.split())
        for part in ("12.5", "क्ष 語", "Of 2 utterances.", "It is better.", "Saved.", "More"):
            assert part in said
    assert "Note: Mind *this*." in str(found) and r"Mind \*this\*." in found.markdown()
    assert "How this was made" in found.html() and "adapters" not in found.html()  # what is empty is left out


def test_nothing_from_outside_is_acted_on():
    found = Found()
    assert "[bold]x[/bold]" in str(found) and "\x1b" not in str(found)
    assert "&lt;i&gt;" in found.html() and "<i>[" not in found.html() and r"a\|b" in found.markdown()


def test_text_is_as_wide_as_it_needs_or_as_it_is_told():
    assert max(map(len, Found("x " * 60).text().splitlines())) > 100
    assert max(map(len, Found("x " * 60).text(width=60).splitlines())) <= 60


def test_columns_line_up_and_rows_of_another_width_are_refused():
    lines = Table.of("", ("a", "n"), [("long name", 1), ("x", 100)])
    shown = [str(one) for one in grid(lines).columns[1].cells]
    assert shown == ["1", "100"] and grid(lines).columns[1].justify == "right"
    with pytest.raises(ValueError, match="2 columns and a row of 1"):
        Table.of("t", ("a", "n"), [("x",)])


def test_columns_that_nobody_filled_are_left_out():
    table = Table.of("t", ("a", "b", "n"), [("x", None, 1), ("y", "", 2)], left=2).without_empty_columns()
    assert table.head == ("a", "n") and table.rows == (("x", "1"), ("y", "2")) and table.left == 1


def test_a_result_is_saved_by_the_ending_of_its_name(tmp_path):
    found = Found()
    for name in ("a.html", "a.md", "a.txt", "a.json", "a.csv", "a.svg", "a.png", "a.pdf"):
        assert found.save(tmp_path / name) == tmp_path / name
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": found.name, "wer": None}
    assert next(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))["wer"] == ""
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and b"<svg" in (tmp_path / "a.svg").read_bytes()
    before = (tmp_path / "a.svg").read_bytes()
    assert found.plot(tmp_path / "a.svg").read_bytes() == before and found.pictures() == ["line", "again"]
    assert found.plot(tmp_path / "b.svg", "again").is_file()


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda at: Found().save(at / "a.doc"), r"\.html, \.md.* or \.pdf"),
        (lambda at: Found().save(at / "a"), "does not say what to save"),
        (lambda at: Found().plot(at / "a.gif"), r"\.svg, \.png or \.pdf"),
        (lambda at: Found().plot(at / "a.svg", "circle"), "there are line, again"),
        (lambda at: Plain().plot(at / "a.svg"), "nothing to draw"),
        (lambda at: Plain().save(at / "a.csv"), "no table"),
    ],
)
def test_what_cannot_be_saved_is_told(tmp_path, does, said):
    with pytest.raises(BadInput, match=said):
        does(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_result_with_nothing_to_show_is_shown():
    assert str(Plain()) == "" and Plain().markdown() == "# Nothing\n" and "<h1>Nothing</h1>" in Plain().html()


# -- values --------------------------------------------------------------------------------------------------------------
def test_json_files_hold_no_number_that_json_does_not_have():
    value = {"a": float("nan"), 1: [float("inf"), np.float64("nan"), np.int64(3)], "p": Path("x"), "t": torch.tensor(2.5), "s": {"b", "a"}, "n": None}
    told = json.loads(as_json(value), parse_constant=lambda name: pytest.fail(name))
    assert told == {"a": None, "1": [None, None, 3], "p": "x", "t": 2.5, "s": ["a", "b"], "n": None}
    assert plain(np.bool_(True)) is True and plain((1, "x")) == [1, "x"]


@pytest.mark.parametrize("value", [object(), b"bytes", np.ones(3), torch.ones(2)])
def test_what_json_cannot_say_is_refused_and_not_guessed(value):
    with pytest.raises(TypeError, match="JSON has nothing for"):
        as_json({"x": value})


def test_a_table_for_a_spreadsheet_has_every_column_of_any_row():
    assert as_csv([{"a": 1}, {"b": None, "a": float("inf")}]) == "a,b\n1,\n,\n"


# -- one way -------------------------------------------------------------------------------------------------------------
def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        found |= {node.module} if isinstance(node, ast.ImportFrom) and node.module else set()
    return found


@pytest.mark.parametrize("path", modules(PACKAGE / "report"), ids=lambda path: path.stem)
def test_what_lays_out_knows_no_result(path):
    known = ("asrpeft.report", "asrpeft.errors", "asrpeft.files", "asrpeft.visible")
    assert {name for name in imports(path) if name.startswith("asrpeft") and not name.startswith(known)} == set()


def test_every_table_of_the_package_goes_through_one_formatter():
    """Neither rich's tables nor columns that are padded by hand are made anywhere else; sclite's files have a layout of their own."""
    own = {PACKAGE / "report" / "table.py", PACKAGE / "scoring" / "report" / "sclite.py"}
    padded = re.compile(r"\.(?:ljust|rjust|center)\(|\{[^{}]*:[<>^]\d|^\s*print\(.*\|.*\|", re.MULTILINE)
    for path in (*modules(PACKAGE), *modules(PACKAGE.parent / "scripts")):
        text = path.read_text(encoding="utf-8")
        if path not in own:
            assert "rich.table" not in imports(path) and not padded.search(text), f"{path}: use asrpeft.report.Table"
