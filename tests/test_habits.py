"""What stands about the code: one version everywhere, a package that holds what it needs, settings that say what they check."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import asrpeft
from asrpeft.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version_is_told_everywhere():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "asrpeft.__version__"
    assert f"\nversion: {asrpeft.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {asrpeft.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_says_that_it_is_typed_and_under_which_license():
    assert (ROOT / "asrpeft" / "py.typed").is_file() and "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text(encoding="utf-8") and PROJECT["project"]["license"] == "Apache-2.0"


def test_every_tool_of_the_checks_has_one_version():
    pinned = dict(line.split("==") for line in (ROOT / "scripts" / "constraints.txt").read_text().splitlines() if "==" in line)
    assert {"mypy", "ruff"} <= set(pinned) and {re.split(r"[>=]", one)[0] for one in PROJECT["project"]["optional-dependencies"]["dev"]} == {"mypy", "ruff"}


def test_outside_a_checkout_one_sentence_says_what_to_do_for_a_model(monkeypatch):
    loading = import_module("asrpeft.recognizer.load")
    monkeypatch.setattr(loading, "embedded", lambda: None)
    with pytest.raises(BadInput, match=r"^Name a base with --model, for example --model openai/whisper-small; [^.]*\.$"):
        loading.load()


def unclean() -> list[str]:
    return [module for one in PROJECT["tool"]["mypy"]["overrides"] if one.get("ignore_errors") for module in one["module"] if not module.endswith("*")]


@pytest.mark.parametrize("module", unclean())
def test_a_module_that_the_type_checker_passes_over_is_there(module):
    place = ROOT / module.replace(".", "/")
    assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), "take it off the list"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_a_guide_names_is_there(name):
    """What a guide calls by its path; patterns and names with capitals are examples."""
    named = re.findall(r"`?\b((?:asrpeft|scripts|tests|recipes|data)/[\w./-]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert named and [path for path in named if not (ROOT / path.rstrip("./")).exists() and not (ROOT / path.rstrip(".")).exists()] == []


def test_nothing_is_hidden_from_the_formatter():
    files = [path for folder in ("asrpeft", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert files and [path for path in files if "# fmt:" + " " in path.read_text(encoding="utf-8")] == []
