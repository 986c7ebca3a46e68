"""One registry for everything that has a name: methods, policies, losses, normalizers, formats, writers."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib import import_module

import pytest

from asrpeft.errors import BadInput
from asrpeft.registry import Registry, did_you_mean

# Where each registry stands, and a name that it has: what they promise is tested for each of them.
REGISTRIES = {
    "methods": ("asrpeft.methods.base", "METHODS", "lora"),
    "streaming policies": ("asrpeft.streaming.policies", "POLICIES", "vad"),
    "losses": ("asrpeft.training.losses", "LOSSES", "ce"),
    "normalizers": ("asrpeft.scoring.normalize", "STEPS", "marks"),
    "corpus formats": ("asrpeft.corpus.formats", "FORMATS", "parquet"),
    "transcript formats": ("asrpeft.scoring.transcripts", "FORMATS", "kaldi"),
    "writers": ("asrpeft.decoding.writers", "WRITERS", "srt"),
    "optimizers": ("asrpeft.training.optimizers.base", "OPTIMIZERS", "adamw"),
    "schedules": ("asrpeft.training.schedules", "SCHEDULES", "cosine"),
}


@pytest.fixture(params=REGISTRIES)
def registry(request):
    module, name, known = REGISTRIES[request.param]
    return getattr(import_module(module), name), known


def test_a_name_that_is_taken_is_refused(registry):
    there, known = registry

    class Other:
        pass

    before = there[known]
    with pytest.raises(ValueError, match="is .* already: .* needs another name"):
        there.add(known, Other, by=Other)
    assert there[known] is before


def test_the_same_thing_again_replaces_itself_as_in_a_notebook(registry):
    there, _ = registry
    try:
        for _ in range(2):

            class Mine:
                pass

            there.add("mine", Mine, by=Mine)
        assert there["mine"] is Mine and "mine" in there
    finally:
        there.forget("mine")
    assert "mine" not in there


def test_an_unknown_name_is_told_with_what_is_near_and_what_there_is(registry):
    there, known = registry
    with pytest.raises(BadInput) as refused:
        there.find(known + "x")
    assert f"Did you mean {known!r}?" in str(refused.value) and all(name in str(refused.value) for name in there)
    assert f"There is no {there.kind} {known + 'x'!r}." in str(refused.value)


def test_names_come_in_alphabetical_order_and_are_what_they_name(registry):
    there, known = registry
    assert list(there) == sorted(there) and len(there) == len(list(there)) > 1
    assert there.find(known) is there[known]


def test_importing_a_registry_imports_none_of_the_files_that_it_will_find():
    """In a process of its own: here everything is imported."""
    code = "import sys, asrpeft.methods; print(sorted(m for m in sys.modules if m.startswith('asrpeft.methods.map.')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three files whose registry is its own; each import of a file is counted."""
    folder = tmp_path / "things_of_a_test"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("from asrpeft.registry import Registry\nTHINGS = Registry('thing', __name__)\nimported = []\n")
    for place in ("one", "two", "deep/__init__", "deep/three"):
        name = place.split("/")[-1]
        own = "" if name == "__init__" else f"\n@t.THINGS.register({name!r})\ndef {name}(): pass\n"
        (folder / f"{place}.py").write_text(f"import things_of_a_test as t\nt.imported.append({place!r})\n{own}")
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("things_of_a_test")
    for name in [name for name in sys.modules if name.split(".")[0] == "things_of_a_test"]:
        del sys.modules[name]


def test_a_package_is_walked_once_and_with_its_folders(package):
    assert package.imported == []
    assert list(package.THINGS) == list(package.THINGS) == ["one", "three", "two"]
    assert sorted(package.imported) == ["deep/__init__", "deep/three", "one", "two"]


def test_many_threads_that_ask_at_once_all_find_everything(package):
    found, gate = [], threading.Barrier(8)

    def ask():
        gate.wait()
        found.append(list(package.THINGS))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["one", "three", "two"]] * 8


def test_a_file_that_cannot_be_imported_is_not_passed_over_the_second_time_either(package, tmp_path):
    (tmp_path / "things_of_a_test" / "broken.py").write_text("raise OSError('broken')")
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            list(package.THINGS)


def test_a_class_is_told_its_name_and_a_function_is_left_as_it_is():
    there: Registry = Registry("thing", None)

    @there.register("a")
    class A:
        name = ""

    @there.register("b")
    def b():
        """A function."""

    assert A.name == "a" and there["b"] is b and not hasattr(b, "name")


@pytest.mark.parametrize("name, hint", [("lroa", "Did you mean 'lora'?"), ("zzz", "")])
def test_what_is_near_is_asked_for(name, hint):
    assert did_you_mean(name, ["lora", "loha"]) == hint
