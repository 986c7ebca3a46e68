"""The public face: every name of `asrpeft` is there when used, and is for an editor what it is for Python."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import asrpeft

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(name for name in asrpeft.__all__ if not name.startswith("_"))
CHECKER = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]  # its cache is that of scripts/check.sh


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_says_what_it_is(name):
    assert name in dir(asrpeft)
    assert inspect.getdoc(getattr(asrpeft, name)), f"{name} has no docstring"


def test_a_misspelled_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match="no attribute 'transcribes'; it has .*transcribe"):
        asrpeft.transcribes  # noqa: B018


def test_what_checkers_read_is_what_python_gives():
    """Two lists say where names live, one for those who only read: they are the same."""
    tree = ast.parse(Path(asrpeft.__file__).read_text(encoding="utf-8"))
    read_only = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in read_only.body for alias in node.names}
    assert sorted([*seen, "__version__", "adapt"]) == sorted(asrpeft.__all__)
    for name, module in seen.items():
        given = import_module(f"asrpeft.{name}") if module == "asrpeft" else getattr(import_module(module), name)
        assert getattr(asrpeft, name) is given, name


@pytest.fixture(scope="module")
def revealed(tmp_path_factory) -> dict[str, str]:
    """What the type checker says of each name, as a user's script meets it; and of one that is not there."""
    pytest.importorskip("mypy", reason="pip install asrpeft[dev]")
    script = tmp_path_factory.mktemp("user") / "script.py"
    script.write_text("import asrpeft\n" + "".join(f"reveal_type(asrpeft.{name})\n" for name in NAMES) + "asrpeft.transcribes\n", encoding="utf-8")
    done = subprocess.run([*CHECKER, "--no-pretty", "--hide-error-context", str(script)], cwd=ROOT, capture_output=True, text=True, timeout=500)
    said = dict(re.findall(r"script\.py:(\d+): (?:note|error): (.*)", done.stdout))
    assert said, done.stdout + done.stderr
    return {name: said.get(str(line), "nothing") for line, name in enumerate([*NAMES, "transcribes"], 2)}


@pytest.mark.xdist_group("types")  # one run of the checker
@pytest.mark.parametrize("name", NAMES)
def test_the_type_checker_sees_every_name_with_its_true_type(revealed, name):
    public, seen = getattr(asrpeft, name), revealed[name].removeprefix("Revealed type is ").strip('"')
    if inspect.ismodule(public):
        assert seen == "types.ModuleType"
        return
    assert seen.startswith("def (") and "*Any, **Any" not in seen, seen
    parameters, _, result = seen.rpartition(" -> ")
    if inspect.isclass(public):
        assert result == f"{public.__module__}.{public.__qualname__}"
        return
    for word in re.findall(r"\w+", inspect.signature(public).return_annotation):
        assert re.search(rf"\b{word}\b", result), result
    assert re.findall(r"(\w+): ", parameters) == list(inspect.signature(public).parameters), parameters


@pytest.mark.xdist_group("types")
def test_the_type_checker_refuses_a_misspelled_name(revealed):
    assert 'no attribute "transcribes"' in revealed["transcribes"], revealed["transcribes"]
