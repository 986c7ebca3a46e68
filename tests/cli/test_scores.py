"""`evaluate` and `finetune` as typed, with everything that can be looked at, on a random base of width 16."""

from __future__ import annotations

import contextlib
import io
import json
import warnings

import pytest

from asrpeft.cli import options as cli_options
from asrpeft.cli.main import run
from asrpeft.jobs.leakage import SharedRecordings
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import wav


@pytest.fixture
def base(monkeypatch):
    """Every command loads the same random base."""
    monkeypatch.setattr(cli_options, "load_model", lambda *a, **k: lively_recognizer(1, source=1500))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """train.jsonl, dev.jsonl, test.jsonl (sw), guard.jsonl (de), no recording in two of them, and a folder of noise."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "noise").mkdir()
    for i in range(6):
        for seed, name in enumerate(("", "train", "dev", "guard")):
            (folder / f"{name}{i}.wav").write_bytes(wav(0.3 + 0.1 * i, i + 100 * seed))
    (folder / "noise" / "rain.wav").write_bytes(wav(0.4, 9))
    for name, lang in (("test", "sw"), ("train", "sw"), ("dev", "sw"), ("guard", "de")):
        rows = [
            {
                "audio": f"{name.removeprefix('test')}{i}.wav",
                "text": f"habari {'abc'[i % 3]}",
                "speaker": f"s{i % 2}",
                "lang": lang,
                "age": "old" if i % 2 else "young",
            }
            for i in range(6)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def asrpeft(*arguments, status=0):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run([str(one) for one in arguments])
        except SystemExit as end:
            code = end.code or 0
    assert code == status, f"{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue(), err.getvalue()


def test_finetune_guards_and_evaluate_looks_at_everything(base, speech, tmp_path):
    common = ("--data", speech / "train.jsonl", "--dev-data", speech / "dev.jsonl", "--set", "rank=2", "--steps", "2", "--augment", "none")
    out, _ = asrpeft("finetune", *common, "--guard", speech / "guard.jsonl", "--max-loss", "900", "--out", tmp_path / "sw", "--json")
    guard = json.loads(out)["guard"]
    assert {"before", "after", "loss", "passed"} <= guard.keys() and guard["max_loss"] == 9.0 and guard["chosen_by"]["separate"]

    out, _ = asrpeft(
        "evaluate",
        "--data",
        speech / "test.jsonl",
        "--adapter",
        tmp_path / "sw",
        "--by",
        "age",
        "--train-data",
        speech / "guard.jsonl",
        "--rare",
        "2",
        "--hotwords",
        "habari,mombasa",
        "--nonspeech",
        speech / "noise",
        "--conditions",
        "telephone",
        "--guard",
        speech / "guard.jsonl",
        "--max-loss",
        "5",
        "--out",
        tmp_path / "report",
        "--json",
    )
    report = json.loads(out)
    system = report["systems"][1]
    assert {"by", "rare_words", "hot_words", "nonspeech", "guard", "calibration", "real_time_factor", "hallucination"} <= system.keys()
    assert system["guard"]["max_loss"] == 0.05 and system["by"][0]["gap"]["interval"]
    assert [one["name"] for one in report["conditions"]] == ["as recorded", "telephone"]
    assert [one["label"] for one in system["rare_words"]] == ["unseen", "seen 1 to 2", "seen 3 or more"]
    assert {"report.html", "report.md", "report.json"} <= {p.name for p in (tmp_path / "report").iterdir()}
    assert json.loads((tmp_path / "report" / "report.json").read_text())["conditions"]

    shown, _ = asrpeft("evaluate", "--data", speech / "test.jsonl", "--adapter", tmp_path / "sw", "--guard", speech / "guard.jsonl", "--quiet")
    assert "What the base could already do" in shown and "real-time factor" in shown


def test_a_limit_that_nothing_meets_ends_with_status_1_and_no_adapter(base, speech, tmp_path, monkeypatch):
    from asrpeft.jobs import finetune as job
    from asrpeft.training.choice import Rates

    monkeypatch.setattr(job, "dev_rates", lambda recognizer, name, dev, **how: Rates(0.9 if name else 0.1, 0.5))
    _, said = asrpeft(
        "finetune",
        "--data",
        speech / "train.jsonl",
        "--dev-data",
        speech / "dev.jsonl",
        "--steps",
        "1",
        "--guard",
        speech / "guard.jsonl",
        "--max-loss",
        "3",
        "--out",
        tmp_path / "sw",
        "--quiet",
        status=1,
    )
    assert "80.0 points" in said and "--max-loss" in said and not (tmp_path / "sw").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--conditions", "rain"), "rain"),
        (("--rare", "1"), "--train-data"),
        (("--hotwords", ","), "hot word"),
        (("--nonspeech", "nowhere"), "nowhere"),
        (("--guard", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_a_check_that_cannot_be_made_is_told_with_status_2(base, speech, given, said):
    _, err = asrpeft("evaluate", "--data", speech / "test.jsonl", *given, "--quiet", status=2)
    assert said in err and "Traceback" not in err


def test_an_adapter_that_is_told_another_language_than_its_own_is_used_with_a_warning(base, speech, tmp_path):
    recognizer = lively_recognizer(1, source=1500)
    recognizer.adapt("lora", name="sw", rank=1, lang="swahili").save(tmp_path / "sw")
    for verb in (("evaluate", "--data", speech / "test.jsonl"), ("transcribe", speech / "1.wav"), ("stream", speech / "1.wav")):
        for lang, warned in (("german", True), ("sw", False)):
            _, err = asrpeft(*verb, "--adapter", tmp_path / "sw", "--lang", lang, "--quiet")
            assert ("'sw' was trained for 'sw' and is told 'de'" in err) is warned, (verb[0], lang)


def test_word_error_rates_by_amount_of_data(base, speech, tmp_path):
    common = ("compare", "--data", speech / "train.jsonl", "--dev-data", speech / "dev.jsonl", "--eval-data", speech / "test.jsonl", "--amounts", "0.5,1")
    out, _ = asrpeft(*common, "--methods", "lora", "--set", "lora.rank=2", "--steps", "1", "--augment", "none", "--out", tmp_path, "--json")
    assert [point["utterances"] for point in json.loads(out)["amounts"]] == [3, 6] and (tmp_path / "curve.html").is_file()
    _, err = asrpeft(*common, "--methods", "lora,ia3", status=2)
    assert "one method" in err


def test_data_that_were_trained_on_are_refused_as_a_test_unless_that_is_wanted(base, speech, tmp_path):
    data, quick = speech / "train.jsonl", ("--set", "rank=2", "--steps", "1", "--augment", "none", "--quiet")
    for shared in (("--eval-data", data), ("--dev-data", data), ("--dev-data", speech / "dev.jsonl", "--eval-data", speech / "dev.jsonl")):
        _, err = asrpeft("finetune", "--data", data, *shared, *quick, "--out", tmp_path / "sw", status=2)
        assert "of the 6 recordings of the" in err and "--allow-overlap" in err and not (tmp_path / "sw").exists()
    fine = ("finetune", "--data", data, "--dev-data", speech / "dev.jsonl", *quick)
    asrpeft(*fine, "--out", tmp_path / "sw")
    _, err = asrpeft(*fine, "--out", tmp_path / "no", "--keep", "worst", status=2)
    assert "both, best, last" in err
    asrpeft(*fine, "--out", tmp_path / "unknown", "--no-record", "--keep", "last", "--head-lr", "1e-5")
    written = json.loads((tmp_path / "unknown" / "adapter.json").read_text())["training"]
    assert "record" not in written and written["keep"] == "last" and written["options"]["head_lr"] == 1e-5
    test = ("--data", speech / "test.jsonl")
    for given in (("--data", data), (*test, "--train-data", speech / "test.jsonl"), (*test, "--guard", data)):
        _, err = asrpeft("evaluate", *given, "--adapter", tmp_path / "sw", "--quiet", status=2)
        assert "6 of the 6 recordings" in err and "--allow-overlap" in err
    with warnings.catch_warnings():
        warnings.simplefilter("error", SharedRecordings)  # told once, as a sentence
        out, _ = asrpeft("evaluate", "--data", data, "--adapter", tmp_path / "sw", "--allow-overlap")
    assert "6 of the 6 recordings of the evaluation data 'train.jsonl' are in what 'sw' was trained on too" in " ".join(out.split())
