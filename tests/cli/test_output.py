"""What is printed: text from outside is shown as it is, and neither rich nor the terminal acts on it."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from asrpeft.cli import main, output, progress
from asrpeft.cli.training_progress import reporting
from asrpeft.report.table import Table, grid
from asrpeft.training.events import Message, Scoring, Skipped
from asrpeft.visible import visible

CLI = Path(output.__file__).parent
MARKUP = ("[/b]", "[red]x[/red]", "[link=http://x]y", ":smile:")
HOSTILE = (*MARKUP, "a\x1b[31mb", "a\x1b]0;title\x07", "a\rb", "a\x9b2Jb", "abc\u202edef", "a\tb\nc", "\udcff.wav")


class Terminal(io.StringIO):
    """A terminal, as far as a program can tell."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def asrpeft(*arguments: str) -> tuple[int, str, str]:
    out, err, status = Terminal(), Terminal(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.run(arguments)
        except SystemExit as end:
            status = end.code or 0
    return status, out.getvalue(), err.getvalue()


def harmless(text: str) -> bool:
    """Whether a terminal is told nothing but colors and moves of the cursor, which our own printing gives."""
    text.encode()
    return not any(sign in text for sign in ("\x07", "\x9b", "\x1b]", "\x1b[31m", "\u202e", "a\rb"))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain [b]text[/b] – ‖ΔW‖ kwa heri", "plain [b]text[/b] – ‖ΔW‖ kwa heri"),
        ("a\x1b[31mb\x07\x7f", r"a\x1b[31mb\x07\x7f"),
        ("a\x9b2J", r"a\x9b2J"),
        ("a\rb", r"a\rb"),
        ("abc\u202edef", r"abc\u202edef"),
        ("x\udcff.wav", r"x\udcff.wav"),
        ("क्\u200dष, \u200fعربي, ñ, 😀", "क्\u200dष, \u200fعربي, ñ, 😀"),  # joiners and marks belong to what is written
    ],
)
def test_what_a_terminal_would_act_on_is_written_out_and_all_else_is_left(given, shown):
    assert visible(given) == shown == visible(shown)


def test_lines_stay_lines_but_not_inside_a_cell():
    assert visible("a\n\tb") == "a\n\tb" and visible("a\n\tb", one_line=True) == r"a\n\tb"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_cells_heads_and_its_title_letter_by_letter(text, capsys):
    console = Console(file=io.StringIO(), width=120, markup=True, force_terminal=True, color_system=None)
    console.print(grid(Table.of(text, [text, "n"], [(text, 1), (None, 2)])))
    drawn = console.file.getvalue()
    assert drawn.count(visible(text, one_line=True)) == 3 and harmless(drawn)
    output.console().print(f"{text} in a line")
    assert capsys.readouterr().out.expandtabs(8) == f"{visible(text)} in a line\n".expandtabs(8)


@pytest.mark.parametrize("text", HOSTILE)
def test_sentences_reasons_lines_and_results_on_a_terminal_hold_nothing_to_act_on(text):
    out, err = Terminal(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        output.teller(quiet=False, as_json=False)(text)
        output.teller(quiet=False, as_json=True)(text)
        output.reason(text)
        output.write_text(text)
    assert out.getvalue() == visible(text) + "\n" + visible(text) and err.getvalue() == 2 * (visible(text) + "\n")
    with contextlib.redirect_stdout(line := Terminal()):
        output.write_line(text, open_=True)
    assert line.getvalue() == "\r\x1b[2K" + visible(text, one_line=True)


def test_a_result_goes_into_a_pipe_as_it_is():
    with contextlib.redirect_stdout(io.StringIO()) as pipe:
        output.write_text("a\x1bb\r\n")
    assert pipe.getvalue() == "a\x1bb\r\n"


@pytest.mark.parametrize("text", [*HOSTILE, "habari – जी", "\x7f"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_says_the_same_value_to_any_terminal(text, encoding):
    raw = io.BytesIO()
    with contextlib.redirect_stdout(stream := io.TextIOWrapper(raw, encoding=encoding)):
        output.print_json({"id": text})
    made = raw.getvalue().decode(encoding)
    assert stream.encoding == encoding
    assert json.loads(made) == {"id": text} and harmless(made) and "\x7f" not in made
    if encoding == "utf-8" and visible(text) == text:
        assert made == json.dumps({"id": text}, ensure_ascii=False) + "\n"  # what can be read is left readable


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_labels_notes_and_messages_letter_by_letter(terminal, monkeypatch):
    err = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    with contextlib.redirect_stderr(err):
        say = output.teller(quiet=False, as_json=True)
        with progress.bar("[/b] \x1b[31m", quiet=False) as advance:
            advance(1, 2, "[/i] \x07")
        with reporting(quiet=False, say=say) as on:
            on(Scoring(1, 2, "[/b] \x07"))
            on(Skipped("[red]", "a\x1b[31mb"))
            on(Message("[/x]"))
    shown = err.getvalue()
    assert harmless(shown) and "[/x]" in shown and r"skipped [red]: a\x1b[31mb" in shown
    assert terminal or ("[/b] " in shown and r"[/i] \x07" in shown)


def test_an_error_on_a_terminal_names_what_was_given_without_doing_it(tmp_path):
    status, out, err = asrpeft("evaluate", "--data", f"{tmp_path}/[/b]\x1b[31m.jsonl")
    assert status == 2 and r"[/b]\x1b[31m.jsonl" in err and harmless(err)
    for given in (("evaluate", "--data\x1b[31m", "x"), ("\x1b[31m",), ("finetune", "--data", "x", "--epochs", "a\x07")):
        status, out, err = asrpeft(*given)
        assert status == 2 and harmless(out + err) and "Usage: asrpeft" in err and "asrpeft: " in err


def test_a_corpus_and_an_adapter_with_hostile_names_are_shown(tmp_path):
    folder = tmp_path / "[/b]"
    folder.mkdir(parents=True)
    rows = [{"audio": "gone.wav", "text": "a", "speaker": name} for name in HOSTILE[:-1]]
    (folder / "[red]\x1b[31m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = asrpeft("data", "check", f"{folder}/[red]\x1b[31m.jsonl")
    assert status in (1, 2) and harmless(out + err) and "Traceback" not in err and "MarkupError" not in err


def test_the_report_of_an_evaluation_shows_systems_and_words_letter_by_letter():
    from asrpeft.scoring import Bootstrap, report, score

    found = [score(["a \x1b[31mb", "c"], ["a b", "[/b] c"], name=name, bootstrap=Bootstrap(resamples=10)) for name in ("[/b]", "a\x1b[31m")]
    console = Console(file=io.StringIO(), width=150, force_terminal=True, color_system=None)
    report.show(report.make(found, title="[red]\x07[/red]"), console)
    assert harmless(console.file.getvalue()) and r"[red]\x07[/red]" in console.file.getvalue()


@pytest.mark.parametrize("module", sorted(CLI.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_in_the_command_line_prints_but_through_the_door(module):
    """`output.tell`, `teller`, `reason`, `show`, `write_text`, `write_line` and `print_json` are the ways to print."""
    if module.name == "output.py":
        return
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)}
    past = {"print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write", "rich.print", "Console", "os.write"}
    assert not called & past


def test_streams_of_a_narrow_encoding_write_an_escape_instead_of_failing(monkeypatch):
    import sys

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(main, "app", lambda **_: output.tell(f"35 – {os.fsdecode(b'x')}"))
    main.run([])
    assert raw.getvalue() == b"35 \\u2013 x\n"
