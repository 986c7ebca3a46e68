"""The command line, as a user types it: on the embedded base and a slice of the demo speech."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as parquet
import pytest

from asrpeft.cli.main import run
from tests.decoding.lively import lively_recognizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "data" / "demo"
pytestmark = [
    pytest.mark.skipif(not (ROOT / "data" / "mini" / "config.json").is_file(), reason="data/mini is not in this checkout"),
    pytest.mark.xdist_group("cli"),
]


def asrpeft(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command as the entry point does, in this process (a start costs seconds), and hold it to an exit status."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(ROOT):
        try:
            run(list(arguments))
        except SystemExit as end:
            code = end.code or 0
    message = subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
    assert message.returncode == status, f"{arguments}: exit status {message.returncode}\n{message.stdout}\n{message.stderr}"
    return message


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """A folder with train.parquet (40 utterances of 4 speakers) and test.parquet (6)."""
    folder = tmp_path_factory.mktemp("speech")
    table = parquet.read_table(DEMO / "sw-train.parquet")
    speakers = list(dict.fromkeys(table["speaker"].to_pylist()))[:4]
    rows = [i for s in speakers for i in [n for n, who in enumerate(table["speaker"].to_pylist()) if who == s][:10]]
    parquet.write_table(table.take(rows), folder / "train.parquet")
    parquet.write_table(parquet.read_table(DEMO / "sw-test.parquet").slice(0, 6), folder / "test.parquet")
    return folder


def test_finetune_evaluate_transcribe_and_stream_with_the_adapter(speech, tmp_path):
    adapter, joint = tmp_path / "sw", ("--beams", "2", "--ctc-weight", "0.3")
    made = asrpeft(
        "finetune",
        "--data",
        f"{speech}/train.parquet",
        "--eval-data",
        f"{speech}/test.parquet",
        "--lang",
        "swahili",
        "--where",
        "attention,conv",
        "--set",
        "rank=4",
        "alpha=8",
        "--steps",
        "4",
        "--loss",
        "ce+0.3*ctc",
        *joint,
        "--out",
        str(adapter),
        "--json",
    )
    report = json.loads(made.stdout)
    assert {
        "adapter",
        "method",
        "trained_parameters",
        "head_parameters",
        "total_parameters",
        "utterances_per_second",
        "peak_memory_bytes",
        "seconds",
        "steps",
        "eval",
    } <= report.keys()
    assert report["steps"] == 4 and report["method"] == "lora" and report["eval"]["test"]["verdict"]
    assert sorted(p.name for p in adapter.iterdir()) == ["adapter.json", "adapter.safetensors"]

    scored = asrpeft(
        "evaluate", "--data", f"{speech}/test.parquet", "--adapter", str(adapter), "--by", "speaker", *joint, "--out", f"{tmp_path}/report", "--json"
    )
    found = json.loads(scored.stdout)
    base, adapted = found["systems"]
    assert base["name"] == "base" and adapted["name"] == "sw" and adapted["utterances"] == 6
    assert adapted["wer"] == pytest.approx(report["eval"]["after"]["wer"]) and base["wer"] == pytest.approx(report["eval"]["before"]["wer"])
    assert {"report.html", "report.md", "report.json"} <= {p.name for p in (tmp_path / "report").iterdir()}

    routed = asrpeft("transcribe", str(DEMO / "sw-example.ogg"), "--adapter", str(adapter), "--quiet").stdout
    merged = asrpeft("transcribe", str(DEMO / "sw-example.ogg"), "--adapter", str(adapter), "--merge", "--quiet").stdout
    assert routed == merged
    asrpeft("transcribe", str(DEMO / "sw-example.ogg"), "--adapter", str(adapter), "--format", "vtt", "--out", f"{tmp_path}/text")
    assert (tmp_path / "text" / "sw-example.vtt").read_text().startswith("WEBVTT\n\n")

    events = [json.loads(line) for line in asrpeft("stream", str(DEMO / "sw-example.ogg"), "--adapter", str(adapter), *joint, "--json").stdout.splitlines()]
    assert events[-1]["type"] == "final" and all(e["type"] in ("partial", "commit", "final") for e in events)
    ends = [e["end"] for e in events if e["type"] != "partial"]
    assert ends == sorted(ends)

    inspected = json.loads(asrpeft("adapter", "inspect", str(adapter), "--json").stdout)
    assert inspected["method"] == "lora" and inspected["language"] == "sw"
    asrpeft("adapter", "merge", str(adapter), "--out", f"{tmp_path}/merged")
    by_folder = asrpeft("transcribe", str(DEMO / "sw-example.ogg"), "--model", f"{tmp_path}/merged", "--context", "full", "--lang", "sw", "--quiet").stdout
    assert by_folder == asrpeft("transcribe", str(DEMO / "sw-example.ogg"), "--adapter", str(adapter), "--context", "full", "--quiet").stdout


def test_transcribe_takes_folders_and_globs_writes_several_formats_and_goes_on_where_it_was(tmp_path):
    for place in ("a/one.ogg", "b/two.ogg", "b/.hidden.ogg"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes((DEMO / "sw-example.ogg").read_bytes())
    (tmp_path / "b" / "notes.txt").write_text("no audio")
    out, common = tmp_path / "out", ("--lang", "en", "--format", "srt,json", "--max-line-width", "20", "--max-cue-seconds", "2")
    message = asrpeft("transcribe", f"{tmp_path}/a", f"{tmp_path}/b/*.ogg", f"{tmp_path}/absent.ogg", "--out", str(out), *common, status=1)
    assert {p.name for p in out.iterdir()} == {"one.srt", "one.json", "two.srt", "two.json"}
    assert f"There is no recording '{tmp_path}/absent.ogg'" in message.stderr and "1 of 3 recordings" in message.stderr
    lines = (out / "one.srt").read_text().split("\n")
    shown = [[_seconds(time) for time in line.split(" --> ")] for line in lines if " --> " in line]
    assert len(shown) > 1 and all(a < b <= a + 2.0 for a, b in shown) and all(b <= c for (_, b), (c, _) in zip(shown, shown[1:]))
    assert max(len(line) for line in lines if " --> " not in line) <= 20
    text = " ".join(line for line in lines if line and " --> " not in line and not line.isdigit())
    assert text == json.loads((out / "one.json").read_text())["text"]

    (out / "one.srt").write_text("kept")
    (out / "two.json").unlink()
    asrpeft("transcribe", str(tmp_path), "--out", str(out), *common, status=2)
    again = asrpeft("transcribe", str(tmp_path), "--out", str(out), *common, "--skip-existing")
    assert "there already: " in again.stderr and (out / "one.srt").read_text() == "kept" and (out / "two.json").is_file()
    done = asrpeft("transcribe", str(tmp_path), "--out", str(out), *common, "--skip-existing", "--json", "--model", "not-even-loaded")
    assert len(json.loads(done.stdout)["existing"]) == 2


def _seconds(time: str) -> float:
    hours, minutes, seconds = time.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def test_timestamps_that_the_model_writes_are_the_segments(monkeypatch):
    report = [json.loads(asrpeft("transcribe", str(DEMO / "sw-example.ogg"), "--lang", "en", "--json", *more).stdout) for more in ((), ("--timestamps",))]
    (whole,), timed = (one["transcripts"][0]["segments"] for one in report)
    assert whole["start"] == 0.0 and 0.0 < timed[0]["start"] < timed[-1]["end"] < whole["end"]


def test_a_corpus_is_checked_counted_and_divided(speech, tmp_path):
    stats = json.loads(asrpeft("data", "stats", f"{speech}/train.parquet", "--by", "speaker", "--json").stdout)
    assert stats["utterances"] == 40 and stats["speakers"] == 4 and set(stats["by"]["speaker"].values()) == {10}
    assert json.loads(asrpeft("data", "check", f"{speech}/test.parquet", "--json").stdout)["usable"] == 6
    divided = asrpeft("data", "split", f"{speech}/train.parquet", "--fraction", "0.25", "--by", "speaker", "--out", f"{tmp_path}/parts", "--json")
    parts = json.loads(divided.stdout)
    assert parts["train"]["utterances"] == 30 and parts["held"]["utterances"] == 10
    again = json.loads(asrpeft("data", "stats", parts["held"]["manifest"], "--json").stdout)
    assert again["utterances"] == 10 and again["speakers"] == 1


def test_methods_are_listed_with_what_they_train_on_the_base():
    report = json.loads(asrpeft("methods", "--json").stdout)
    assert {"lora", "s2lora", "loha", "ia3", "prompt", "prefix", "full", "bitfit"} <= {m["name"] for m in report["methods"]}
    assert all({"name", "equation", "paper", "mergeable", "layers", "parameters"} <= m.keys() for m in report["methods"])
    assert "ΔW" in asrpeft("methods", "lora").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "--data", "no-such.parquet"), "no-such.parquet"),
        (("transcribe", "README.md", "--lang", "en"), "README.md"),
        (("transcribe", "data/demo/sw-exampel.ogg", "--lang", "en"), "Did you mean 'data/demo/sw-example.ogg'?"),
        (("transcribe", "tests/audio", "--lang", "en"), "'tests/audio' holds no audio file"),
        (("transcribe", "data/demo/*.wav", "--lang", "en"), "No file matches 'data/demo/*.wav'"),
        (("transcribe", "data/demo/sw-example.ogg", "--vad-pad", "1"), "pad_s=1.0"),
        (("transcribe", "data/demo/sw-example.ogg", "--no-vad", "--vad-pad", "0.1"), "--no-vad"),
        (("transcribe", "data/demo/sw-example.ogg", "--highlight-words"), "srt and vtt"),
        (("transcribe", "data/demo/sw-example.ogg", "--format", "srt", "--max-line-width", "2"), "4 columns"),
        (("transcribe", "data/demo/sw-example.ogg", "--skip-existing"), "--out"),
        (("transcribe", "data/demo/sw-example.ogg", "--format", "txt,srt"), "--out"),
        (("transcribe", "data/demo/sw-example.ogg", "--lang", "klingon"), "klingon"),
        (("transcribe", "data/demo/sw-example.ogg", "--adapter", "data/demo"), "adapter.json"),
        (("finetune", "--data", "data/demo/sw-test.parquet", "--method", "lorra"), "lora"),
        (("finetune", "--data", "data/demo/sw-test.parquet", "--set", "rank"), "KEY=VALUE"),
        (("finetune", "--data", "data/demo/sw-test.parquet", "--epochs", "2", "--steps", "3"), "epochs"),
        (("evaluate", "--data", "data/demo/sw-test.parquet", "--model", "data/demo"), "config.json"),
        (("adapter", "inspect", "nowhere"), "nowhere"),
        (("transcribe", "data/demo/sw-example.ogg", "--lang", "en", "--ctc-weight", "1.5"), "--ctc-weight"),
    ],
)
def test_a_users_mistake_is_told_in_a_sentence_with_status_2(arguments, said):
    message = asrpeft(*arguments, status=2)
    assert said in message.stderr and "Traceback" not in message.stderr


def test_the_installed_command_answers_in_a_process_of_its_own():
    command = [sys.executable, "-m", "asrpeft.cli.main", "evaluate", "--data", "no-such.parquet", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 2 and done.stdout == "" and "no-such.parquet" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_more_lost_on_the_reported_guard_data_than_allowed_fails(monkeypatch, passed, status):
    class Done:
        kept = SimpleNamespace(reported=SimpleNamespace(test=SimpleNamespace(passed=passed)))

        def to_json(self):
            return {"adapter": "x", "guard": {"passed": passed}}

    monkeypatch.setattr("asrpeft.jobs.finetune.finetune", lambda *given, **keywords: Done())
    speech = str(DEMO / "sw-test.parquet")
    keywords = asrpeft("finetune", "--data", speech, "--guard", speech, "--guard-lang", "en", "--max-loss", "3", "--json", status=status)
    assert json.loads(keywords.stdout)["guard"]["passed"] is passed and ("--max-loss" in keywords.stderr) is not passed


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_of_several_processes_the_first_one_prints(monkeypatch, flags):
    class Done:
        kept = None

        def to_json(self):
            return {"adapter": "x"}

    monkeypatch.setattr("asrpeft.jobs.finetune.finetune", lambda *given, **keywords: Done())
    monkeypatch.setenv("RANK", "1")
    keywords = asrpeft("finetune", "--data", str(DEMO / "sw-test.parquet"), *flags)
    assert keywords.stdout == "" and keywords.stderr == ""


@pytest.mark.parametrize("recipe", sorted(ROOT.glob("recipes/*.toml")), ids=lambda path: path.stem)
def test_a_recipe_says_what_finetune_understands_on_data_that_are_here(recipe, monkeypatch):
    heard = {}

    class Done:
        kept = None

        def to_json(self):
            return {}

    def job(recognizer, data, **result):
        heard.update(result, data=data)
        return Done()

    monkeypatch.setattr("asrpeft.jobs.finetune.finetune", job)
    asrpeft("finetune", "--recipe", str(recipe), "--json")
    said = tomllib.loads(recipe.read_text(encoding="utf-8"))
    assert len(heard["data"].train) > 100 and len(heard["data"].eval) > 100
    assert heard["method"].settings == {key: str(value) for key, value in said["set"].items()} and heard["training"].epochs == said["epochs"]
    assert heard["decoding"].ctc_weight == said["ctc-weight"] and heard["decoding"].beams == 4

    # What is typed wins: another length in whatever unit, and single settings of the method.
    asrpeft("finetune", "--recipe", str(recipe), "--minutes", "2", "--set", "rank=3", "--json")
    assert (heard["training"].minutes, heard["training"].epochs, heard["training"].steps) == (2, None, None)
    assert heard["method"].settings == {key: str(value) for key, value in said["set"].items()} | {"rank": "3"}


def test_two_adapters_of_different_tasks_need_to_be_told_which():
    from asrpeft.cli import options as o
    from asrpeft.errors import BadInput
    from tests.bases import tiny_recognizer

    model = tiny_recognizer()
    for name, task in (("a", "translate"), ("b", "transcribe")):
        model.adapt("lora", name=name, rank=1, lang="sw", task=task)
    assert (o.task_of(model, [], None), o.task_of(model, ["a"], None), o.task_of(model, ["a"], "transcribe")) == ("transcribe", "translate", "transcribe")
    with pytest.raises(BadInput, match="--task"):
        o.task_of(model, ["a", "b"], None)
    assert o.task_of(model, ["a", "b"], "translate") == "translate"


def test_several_corpora_are_named_by_giving_the_option_again(speech, tmp_path, monkeypatch):
    monkeypatch.setattr("asrpeft.cli.options.load_model", lambda *given, **keywords: lively_recognizer(1, source=1500))
    rows = parquet.read_table(DEMO / "sw-test.parquet")
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("more", "dev", "one", "two")}
    for number, path in enumerate(paths.values()):
        parquet.write_table(rows.slice(20 + 6 * number, 6), path)
    made = asrpeft(
        "finetune",
        "--data",
        f"{speech}/train.parquet:0.5",
        "--data",
        paths["more"],
        "--dev-data",
        paths["dev"],
        "--lang",
        "sw",
        "--eval-data",
        paths["one"],
        "--eval-data",
        paths["two"],
        "--method",
        "bitfit",
        "--steps",
        "1",
        "--out",
        str(tmp_path / "a"),
    )
    assert "Drawn in an epoch: 20 of train.parquet (40 utterances, weight 0.5), 6 of more.parquet." in made.stdout
    assert "one.parquet" in made.stdout and "two.parquet" in made.stdout
    parts = json.loads((tmp_path / "a" / "adapter.json").read_text())["training"]["data"]["corpora"]
    assert [(p["name"], p["weight"]) for p in parts] == [("train.parquet", 0.5), ("more.parquet", 1.0)]
    refused = asrpeft("evaluate", "--data", f"{paths['one']}:2", "--lang", "sw", status=2)
    assert "here every row counts once" in refused.stderr
    found = json.loads(asrpeft("evaluate", "--data", paths["one"], "--data", paths["two"], "--lang", "sw", "--json").stdout)["systems"][0]
    assert found["utterances"] == 12 and {g["value"]: g["utterances"] for g in found["by"][0]["groups"]} == {"one.parquet": 6, "two.parquet": 6}


def test_a_recipe_names_one_corpus_or_several(speech, tmp_path):
    for report in (f"'{speech}/test.parquet'", f"['{speech}/test.parquet', '{speech}/gone.parquet:2']"):
        (tmp_path / "r.toml").write_text(f"data = {report}\nsteps = 0\n")
        assert "steps must be above 0" in asrpeft("finetune", "--recipe", str(tmp_path / "r.toml"), status=2).stderr
    (tmp_path / "r.toml").write_text(f"data = {report}\nsteps = 1\n")
    assert "gone.parquet: no such file" in asrpeft("finetune", "--recipe", str(tmp_path / "r.toml"), status=2).stderr
