"""Starting: the package is found from anywhere, and a verb imports what it needs, for imports are what a start takes.

Times depend on the machine; the modules that are loaded at the end do not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from asrpeft import __version__
from asrpeft.cli.verb import find

ROOT = Path(__file__).resolve().parents[2]


def test_an_editable_install_puts_the_checkout_on_the_path():
    """Setuptools chooses so where the packages' place is spelled out; an import hook would come after the path."""
    report = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert report["tool"]["setuptools"]["package-dir"] == {"": "."}


def test_a_script_beside_a_checkout_named_asrpeft_imports_the_package(tmp_path):
    if list(Path(sysconfig.get_path("purelib")).glob("__editable___asrpeft*finder.py")):
        pytest.skip("installed as it was before: install again, with pip install -e .")
    (tmp_path / "asrpeft").symlink_to(ROOT, target_is_directory=True)
    (tmp_path / "script.py").write_text("import asrpeft; print(asrpeft.__version__)\n")
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.stdout == f"{__version__}\n", done.stderr  # a folder without __init__.py has none


HEAVY = {"torch", "transformers", "torchaudio", "accelerate", "datasets", "scipy", "matplotlib", "librosa", "numba", "pandas", "silero_vad"}
READERS = {"numpy", "av", "soundfile", "pyarrow"}
RUN = "import contextlib, io, sys\nfrom asrpeft.cli.main import run\n"


def loaded(code: str) -> set[str]:
    """Of the libraries above, those that a fresh Python has loaded after this code."""
    code += f"\nimport sys; print('LOADED', *sorted({HEAVY | READERS!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0 and "LOADED" in done.stdout, done.stdout + done.stderr
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


def ran(*lines: tuple[str, ...]) -> str:
    """Code that runs these command lines, one after another."""
    once = "try:\n    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): run({!r})\nexcept SystemExit: pass\n"
    return RUN + "".join(once.format(list(line)) for line in lines)


def test_help_needs_no_library_at_all():
    words = {one.words for one in find()}
    lines = [("--help",), ("-V",), *((*some, "--help") for some in sorted({*words, *((one[0],) for one in words)}))]
    assert len(lines) > 15 and loaded(ran(*lines)) == set()


def test_a_mistake_in_a_line_or_in_the_name_of_a_corpus_is_told_before_the_recognizer_is_imported():
    lines = [("evaluate", "--data", "no-such.jsonl"), ("evaluate", "--data", "a", "--data", "b"), ("finetune", "--dat", "x"), ("transcribe",)]
    assert not loaded(ran(*lines)) & HEAVY


def test_a_corpus_is_counted_and_divided_without_the_recognizer(tmp_path):
    import numpy as np
    import soundfile

    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(8_000, np.float32), 16_000)
    rows = [{"audio": f"{i}.wav", "text": "habari", "speaker": f"s{i}"} for i in range(4)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = str(tmp_path / "all.jsonl")
    lines = [("data", "stats", data), ("data", "split", data, "--fraction", "0.25", "--out", str(tmp_path / "parts"))]
    assert not loaded(ran(*lines)) & HEAVY
    assert (tmp_path / "parts" / "held.jsonl").is_file()


def test_what_a_model_wrote_is_not_held_out(tmp_path):
    import numpy as np
    import soundfile

    from asrpeft.cli.main import run

    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(8_000, np.float32), 16_000)
    rows = [{"audio": f"{i}.wav", "text": f"habari {i}", "speaker": f"s{i}", "labeled_by": "tiny" if i > 3 else None} for i in range(8)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not run(["data", "split", str(tmp_path / "all.jsonl"), "--fraction", "0.5", "--out", str(tmp_path / "parts")])
    held, rest = ([json.loads(line) for line in (tmp_path / "parts" / name).read_text().splitlines()] for name in ("held.jsonl", "train.jsonl"))
    assert len(held) == 2 and not any(row.get("labeled_by") for row in held) and len(rest) == 6


def test_looking_into_an_adapter_takes_torch_alone(tmp_path):
    from tests.bases import tiny_recognizer

    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="sw", rank=2, lang="sw")
    recognizer.adapters["sw"].save(tmp_path / "sw")
    line = ["adapter", "inspect", str(tmp_path / "sw")]
    assert loaded(f"{RUN}run({line!r})") & HEAVY == {"torch"}


def test_transcribing_and_scoring_load_nothing_that_plots_or_compiles():
    assert not loaded("import asrpeft; asrpeft.transcribe, asrpeft.evaluate") & {"datasets", "matplotlib", "librosa", "numba", "pandas", "silero_vad"}


def test_threads_that_wait_sleep_unless_told_otherwise():
    """The policy is read when torch is imported; beside another job two threads that spin hardly train."""
    code = "import os\nos.environ.pop('OMP_WAIT_POLICY', None)\n" + ran(("-V",)) + "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
    assert not loaded(code) & HEAVY
    assert not loaded(code.replace(".pop('OMP_WAIT_POLICY', None)", "['OMP_WAIT_POLICY'] = 'ACTIVE'").replace("'PASSIVE'", "'ACTIVE'")) & HEAVY


def test_a_bad_out_is_told_before_the_recognizer_is_imported():
    verbs = ("finetune --data x", "speakers --data x", "compare --data x --eval-data x", "evaluate --data x", "transcribe x")
    lines = [(*verb.split(), "--out", out) for verb in verbs for out in ("README.md", "README.md/below")]
    assert not loaded(ran(*lines)) & HEAVY
