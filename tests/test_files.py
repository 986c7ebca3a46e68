"""Writing beside and renaming: what a reader meets, what a killed run leaves, what the next one does about it."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asrpeft import files
from asrpeft.errors import BadInput
from asrpeft.files import recover, replace_file, replace_folder, sweep

OURS = {"a.txt", "b.safetensors"}


def put(folder: Path, text: str, **changes) -> Path:
    def write(into: Path) -> None:
        (into / "a.txt").write_text(text)
        save_file({"x": torch.zeros(4)}, into / "b.safetensors")

    return replace_folder(folder, write, overwrite=True, ours=OURS, **changes)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def killed(script: str, *given: object) -> None:
    """Run a program that kills itself."""
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script), *map(str, given)], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


DIES_IN_A_FOLDER = """
    import os, signal, sys
    from pathlib import Path
    from asrpeft.files import replace_folder
    def write(into):
        (into / "a.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    replace_folder(Path(sys.argv[1]), write, overwrite=True, ours={"a.txt", "b.safetensors"})
"""
DIES_IN_A_FILE = """
    import os, signal, sys
    from pathlib import Path
    from asrpeft import files
    os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
    files.replace_file(Path(sys.argv[1]), "half")
"""
DIES_BETWEEN_TWO_RENAMES = """
    import os, signal, sys
    from pathlib import Path
    from asrpeft import files
    files._exchange = lambda one, other: False
    real, done = os.rename, []
    def rename(*a):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(real(*a))
    os.rename = rename
    files.replace_folder(Path(sys.argv[1]), lambda into: (into / "a.txt").write_text("new"), overwrite=True, ours={"a.txt", "b.safetensors"})
"""


# -- what a killed run leaves ------------------------------------------------------------------------------------------
def test_the_next_run_takes_away_what_a_killed_one_left(tmp_path):
    put(tmp_path / "out", "old")
    killed(DIES_IN_A_FOLDER, tmp_path / "out")
    assert len(names(tmp_path)) == 2 and (tmp_path / "out" / "a.txt").read_text() == "old"
    killed(DIES_IN_A_FILE, tmp_path / "speakers.json")  # takes away what the first left, and leaves its own
    left = [name for name in names(tmp_path) if name != "out"]
    assert len(left) == 1 and left[0].startswith(".speakers.json.asrpeft-")
    files._swept.clear()  # as a new process
    replace_file(tmp_path / "speakers.json", "{}")
    assert names(tmp_path) == ["out", "speakers.json"] and (tmp_path / "out" / "a.txt").read_text() == "old"


def test_what_a_living_process_writes_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "GRACE_S", -1.0)  # as if it had begun a minute ago
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from asrpeft.files import replace_folder
        def write(into):
            (into / "a.txt").write_text("theirs")
            print("writing", flush=True)
            sys.stdin.read()
        replace_folder(Path(sys.argv[1]), write, overwrite=True, ours=set())
    """)
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "theirs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"writing\n"
        sweep(tmp_path)
        assert len(names(tmp_path)) == 1
        other.communicate(b"", timeout=60)
    finally:
        other.kill()
    assert other.returncode == 0 and (tmp_path / "theirs" / "a.txt").read_text() == "theirs" and names(tmp_path) == ["theirs"]


def test_a_process_that_has_not_locked_its_folder_yet_has_time_to(tmp_path):
    fresh = files._beside(tmp_path / "out")
    fresh.mkdir()
    sweep(tmp_path)
    assert fresh.is_dir(), "this process lives, and made it just now"
    os.utime(fresh, (0, time.time() - 2 * files.GRACE_S))
    sweep(tmp_path)
    assert not fresh.exists()


def test_what_is_not_ours_is_left_alone_however_it_is_called(tmp_path):
    theirs = [".speakers.json.1234abcd", ".out.asrpeft-notes", "out.asrpeft-00000000-000000-1-000000", ".hidden"]
    for name in theirs:
        (tmp_path / name).write_text("mine")
    sweep(tmp_path)
    assert names(tmp_path) == sorted(theirs)


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path, monkeypatch):
    """Looked at before and after every call of the system that can change names."""
    out, seen = put(tmp_path / "out", "old"), []

    def watched(name):
        real = getattr(os, name)

        def call(*given, **how):
            seen.append((out / "a.txt").exists())
            done = real(*given, **how)
            seen.append((out / "a.txt").exists())
            return done

        monkeypatch.setattr(os, name, call)

    probe = [tmp_path / "1", tmp_path / "2"]
    [p.mkdir() for p in probe]
    if not files._exchange(*probe):
        pytest.skip("this system cannot exchange two folders in one step")
    [p.rmdir() for p in probe]
    for name in ("rename", "rmdir", "unlink", "fsync"):
        watched(name)
    put(out, "new")
    assert seen and all(seen) and (out / "a.txt").read_text() == "new" and names(tmp_path) == ["out"]


def test_without_such_a_step_a_run_killed_between_the_renames_loses_nothing(tmp_path):
    out = put(tmp_path / "out", "old")
    killed(DIES_BETWEEN_TWO_RENAMES, out)
    assert not out.exists()
    sweep(tmp_path)  # of another run in that folder
    assert recover(out) and (out / "a.txt").read_text() == "old"
    assert not recover(out)
    sweep(tmp_path)
    assert names(tmp_path) == ["out"]


def test_without_such_a_step_a_folder_is_replaced_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    out = put(tmp_path / "out", "old")
    put(out, "new")
    assert (out / "a.txt").read_text() == "new" and names(tmp_path) == ["out"]


def test_an_old_folder_that_is_just_being_replaced_is_not_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(files, "GRACE_S", -1.0)
    out, real, asked = put(tmp_path / "out", "old"), os.rename, []

    def rename(one, other):
        real(one, other)
        if str(other).endswith(".old"):
            asked.append(recover(out))

    monkeypatch.setattr(os, "rename", rename)
    put(out, "new")
    assert asked == [False] and (out / "a.txt").read_text() == "new" and names(tmp_path) == ["out"]


def test_all_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.path.realpath(f"/dev/fd/{fd}")), real(fd)))
    renamed = []
    for name in ("rename", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda a, b, call=call: (renamed.append(list(synced)), call(a, b)))
    put(tmp_path / "out", "x")
    before, fresh = renamed[0], {Path(p).name for p in renamed[0]}
    assert {"a.txt", "b.safetensors"} <= fresh and len(before) == 3, "both files and their folder"
    assert len(synced) == 4, "and the folder above, afterwards"
    replace_file(tmp_path / "c.json", "{}")
    assert len(renamed[1]) == 5 and len(synced) == 6


# -- what a reader meets -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("umask, wanted", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_gives(umask, wanted, tmp_path):
    before = os.umask(umask)
    try:
        out = put(tmp_path / "out", "x")
        replace_file(tmp_path / "c.json", "{}")
    finally:
        os.umask(before)
    for path in (*out.iterdir(), tmp_path / "c.json"):
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path.name


@pytest.mark.parametrize("write", [lambda place: put(place, "x" * 9000), lambda place: replace_file(place / "a.txt", "x" * 9000)])
def test_a_full_disk_is_told_and_leaves_what_was_there(write, tmp_path):
    out = put(tmp_path / "out", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written: .*unchanged\. Make room") as caught:
            write(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Errno" not in str(caught.value)
    assert (out / "a.txt").read_text() == "old" and names(tmp_path) == ["out"]


def test_safetensors_own_error_on_a_full_disk_is_told_likewise(tmp_path):
    out = put(tmp_path / "out", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write(into: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        save_file({"x": torch.zeros(9000)}, into / "b.safetensors")

    try:
        with pytest.raises(OSError, match="'.*out' cannot be written: .*Make room"):
            replace_folder(out, write, overwrite=True, ours=OURS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out / "a.txt").read_text() == "old" and names(tmp_path) == ["out"]


def test_a_link_to_a_folder_is_followed_and_one_that_leads_nowhere_refused(tmp_path):
    put(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    put(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a.txt").read_text() == "new"
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(BadInput, match="leads nowhere"):
        put(tmp_path / "broken", "x")
    assert names(tmp_path) == ["broken", "link", "real"]


def test_a_link_where_a_file_goes_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "out.txt").symlink_to("theirs")
    replace_file(tmp_path / "out.txt", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs" and (tmp_path / "out.txt").read_text() == "ours"


@pytest.mark.parametrize("name", ["é" * 127, "x" * 255, "a\nb", "."], ids=["letters", "long", "newline", "here"])
def test_any_name_that_the_file_system_takes_can_be_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == ".":
        (tmp_path / "in").mkdir()
        monkeypatch.chdir(tmp_path / "in")
        assert put(Path("."), "x") == Path(".") and names(tmp_path) == ["in"]
        return
    replace_file(Path(name), "x")
    assert names(tmp_path) == [name]
