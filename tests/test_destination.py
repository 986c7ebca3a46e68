"""What `--out` names is looked at before anything long begins, and held by one run at a time."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from asrpeft import destination
from asrpeft.adapters.adapter import MANIFEST, TENSORS
from asrpeft.cli import main
from asrpeft.errors import BadInput
from asrpeft.jobs import finetune as job
from asrpeft.options import Data, OutputOptions
from asrpeft.training import Message, Step
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones

OURS = {MANIFEST, TENSORS}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name):
    """Something in the way, by name; returns what --out says then."""
    place = Path(name)
    if name == "a file":
        place.write_text("mine")
    elif name == "below a file":
        Path("file").write_text("mine")
        place = Path("file/adapter")
    elif name == "a broken link":
        place.symlink_to("nowhere/at/all")
    elif name == "a link to itself":
        place.symlink_to(place.name)
    elif name == "a folder with strangers":
        place.mkdir()
        (place / "thesis.tex").write_text("mine")
    elif name == "the folder one is in":
        place = Path(".")
    elif name == "the folder above":
        place = Path("..")
    elif name == "the root":
        place = Path("/")
    elif name == "a name of 250 letters":
        place = Path("x" * 250)
    return place


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a file", "is a file"),
        ("below a file", "which is a file"),
        ("a broken link", "leads nowhere"),
        ("a link to itself", "leads nowhere"),
        ("a folder with strangers", "holds other files (thesis.tex)"),
        ("the folder one is in", "is the folder you are in"),
        ("the folder above", "above the one you are in"),
        ("the root", "above the one you are in"),
        ("a name of 250 letters", "250 bytes"),
    ],
)
@pytest.mark.parametrize("given", [{}, {"overwrite": True}, {"resume": True}])
def test_a_bad_place_for_an_adapter_is_refused_before_anything_is_read(here, name, said, given):
    out = made(name)
    before = sorted(here.rglob("*"))
    with pytest.raises(BadInput) as message:
        job.finetune(None, None, out=OutputOptions(out, **given))
    assert said in str(message.value) and "--out" in str(message.value) and sorted(here.rglob("*")) == before


@pytest.mark.parametrize("verb", ["finetune", "speakers", "compare", "evaluate", "transcribe"])
@pytest.mark.parametrize("name", ["a file", "below a file", "a broken link"])
def test_every_verb_that_computes_long_refuses_it_first(here, capsys, verb, name):
    given = ["--data", "no-such-data"] if verb != "transcribe" else ["no-such-file"]
    further = {"compare": ["--eval-data", "no-such-data"]}.get(verb, [])
    with pytest.raises(SystemExit) as ended:
        main.run([verb, *given, *further, "--out", str(made(name))])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "--out" in said and "no-such" not in said


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_found_by_writing(here, monkeypatch, code):
    def refused(dir):
        assert Path(dir) == here
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(BadInput, match=os.strerror(code)):
        destination.check("new/deep/adapter", replaced=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything can be written by root")
def test_a_parent_that_is_read_only_is_refused(here):
    Path("parent").mkdir(mode=0o555)
    with pytest.raises(BadInput, match="cannot be written"):
        destination.check("parent/adapter", replaced=True)


def test_what_can_be_written_is_left_as_it_is(here):
    Path("there").mkdir()
    Path("link").symlink_to("there")
    assert destination.check("new/deep", replaced=True) == here / "new" / "deep"
    assert destination.check("link", replaced=True) == destination.check("there") == here / "there"
    assert destination.check(".") == here
    assert sorted(p.name for p in here.rglob("*")) == ["link", "there"]


def test_an_adapter_behind_a_link_is_written_where_it_leads(here):
    Path("disk").mkdir()
    Path("link").symlink_to("disk")
    job.finetune(tiny_recognizer(), Data(tones(4), dev=tones(2)), lang="en", out="link", training=options(steps=1))
    assert {p.name for p in Path("disk").iterdir()} == OURS and Path("link").is_symlink()
    assert sorted(p.name for p in here.iterdir()) == ["disk", "link"]


# -- one run at a time -------------------------------------------------------------------------------------------------
HOLD = "import sys, time; from asrpeft import destination\nwith destination.held(sys.argv[1], tell=print): print('held', flush=True); time.sleep(60)"


def holder(out) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_who_is_at_it_until_that_one_is_dead(here):
    with holder("new/a") as first:
        try:
            with pytest.raises(BadInput, match=f"another run .process {first.pid} on .*, since 20.* Wait for it"):
                with destination.held("new/a", tell=print):
                    pass
            with destination.held("new/b", tell=print):
                pass  # another folder is free
        finally:
            first.kill()
    assert (here / "new" / ".a.asrpeft-lock").exists()  # it could not take it away
    with destination.held("new/a", tell=print):
        pass
    assert not list(Path("new").iterdir())


def test_what_was_made_for_a_run_that_wrote_nothing_is_gone(here):
    with destination.held("new/deep/a", tell=print):
        assert Path("new/deep/.a.asrpeft-lock").is_file()
    assert not list(here.iterdir())


def test_two_runs_of_one_process_exclude_each_other_whatever_they_call_the_folder(here):
    Path("link").symlink_to(here)
    events = []

    def meanwhile(event):
        if isinstance(event, Step):
            with pytest.raises(BadInput, match="another run of this process"):
                job.finetune(tiny_recognizer(), tones(4), lang="en", out="link/a", training=options(steps=1))
            events.append(event)

    job.finetune(tiny_recognizer(), tones(4), lang="en", out="a", training=options(steps=1), progress=meanwhile)
    assert events and sorted(p.name for p in here.iterdir()) == ["a", "link"]


def test_a_process_that_was_forked_off_does_not_hold_the_folder_on(here):
    script = HOLD.replace("print('held', flush=True)", "import os; os.fork(); os.write(1, b'held\\n')")
    if not hasattr(os, "fork"):
        pytest.skip("processes are not forked here")
    with subprocess.Popen([sys.executable, "-c", script, "a"], stdout=subprocess.PIPE, text=True, start_new_session=True) as first:
        try:
            assert [first.stdout.readline() for _ in range(2)] == ["held\n"] * 2
            first.kill()
            first.wait()
            with destination.held("a", tell=print):
                pass
        finally:
            os.killpg(first.pid, 9)


def test_where_there_are_no_locks_it_is_said_and_the_run_goes_on(here, monkeypatch):
    def none(_file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(destination, "_lock", none)
    message = []
    job.finetune(tiny_recognizer(), tones(4), lang="en", out="a", training=options(steps=1), progress=message.append)
    assert any(isinstance(e, Message) and "No locks available" in e.text for e in message) and Path("a").is_dir()


def test_what_an_adapters_folder_holds_is_said_alike_by_who_writes_it_and_who_looks_at_it():
    assert destination.ADAPTER == OURS
