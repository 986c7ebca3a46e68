"""Starting: the package is found from anywhere."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_an_editable_install_puts_the_checkout_on_the_path():
    """Setuptools chooses so where the packages' place is spelt out; an import hook would come after the path."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert told["tool"]["setuptools"]["package-dir"] == {"": "."}


def test_a_script_beside_a_checkout_named_asrpeft_imports_the_package(tmp_path):
    if list(Path(sysconfig.get_path("purelib")).glob("__editable___asrpeft*finder.py")):
        pytest.skip("installed as it was before: install again, with pip install -e .")
    (tmp_path / "asrpeft").symlink_to(ROOT, target_is_directory=True)
    (tmp_path / "script.py").write_text("import asrpeft; print(asrpeft.load.__name__)\n")
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.stdout == "load\n", done.stderr
