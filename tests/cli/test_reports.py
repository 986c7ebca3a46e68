"""`evaluate --out`: what a report says of itself, and what becomes of an older one."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asrpeft.cli import options as cli_options
from asrpeft.corpus import AudioRef, Corpus, Utterance
from asrpeft.jobs.evaluate import plan
from asrpeft.jobs.results import evaluation
from asrpeft.jobs.results.evaluation import sounds
from asrpeft.options import Checks
from asrpeft.report.values import as_csv, as_json
from asrpeft.scoring import Bootstrap, report, score
from asrpeft.scoring.report import values
from tests.cli.test_scores import asrpeft
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import corpus, wav


@pytest.fixture
def base(monkeypatch):
    monkeypatch.setattr(cli_options, "load_model", lambda *a, **k: lively_recognizer(1, source=1500))


@pytest.fixture
def speech(tmp_path):
    """test.jsonl, and adapters `a` and `b`."""
    for i in range(4):
        (tmp_path / f"{i}.wav").write_bytes(wav(0.3 + 0.1 * i, i))
    rows = [{"audio": f"{i}.wav", "text": "habari", "speaker": f"s{i % 2}", "lang": "sw"} for i in range(4)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = lively_recognizer(1, source=1500)
    for name in ("a", "b"):
        model.adapt("lora", name=name, rank=1, lang="sw", context="auto")
        model.adapters[name].save(tmp_path / name)
    return tmp_path


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_an_older_report_is_replaced_only_when_told_and_then_as_a_whole(base, speech):
    out, evaluate = speech / "report", ("evaluate", "--data", speech / "test.jsonl", "--quiet", "--out", speech / "report")
    asrpeft(*evaluate, "--adapter", speech / "a")
    before = (out / "report.json").read_bytes()
    assert {"a.trn", "base.trn", "tables/systems.csv", "tables/systems.json", "tables/speakers.csv", "tables/utterances.csv"} <= set(files(out))
    _, said = asrpeft(*evaluate, "--adapter", speech / "b", status=2)
    assert "exists already" in said and "--overwrite" in said and (out / "report.json").read_bytes() == before
    asrpeft(*evaluate, "--adapter", speech / "b", "--overwrite")
    assert "b.trn" in files(out) and not [name for name in files(out) if name.startswith("a.")]
    (out / "mine.txt").write_text("notes")
    _, said = asrpeft(*evaluate, "--overwrite", status=2)
    assert "mine.txt" in said and (out / "mine.txt").read_text() == "notes" and "b.trn" in files(out)


def test_a_report_names_its_base_adapters_command_date_and_versions(base, speech):
    out, _ = asrpeft("evaluate", "--data", speech / "test.jsonl", "--adapter", speech / "a", "--out", speech / "r [1]", "--json")
    for run in (json.loads(out)["run"], json.loads((speech / "r [1]" / "report.json").read_text(encoding="utf-8"))["run"]):
        assert run["base"]["id"] == "tiny" and run["base"]["fingerprint"]
        assert [(one["name"], one["folder"]) for one in run["adapters"]] == [("a", str(speech / "a"))]
        assert run["command"] == f"asrpeft evaluate --data {speech / 'test.jsonl'} --adapter {speech / 'a'} --out '{speech / 'r [1]'}' --json"
        assert run["date"].startswith("20") and {"asrpeft", "torch", "transformers", "python"} <= run["versions"].keys()
    for name in ("report.html", "report.md"):
        page = (speech / "r [1]" / name).read_text(encoding="utf-8")
        assert "How this was made" in page and "asrpeft evaluate --data" in page and run["base"]["fingerprint"][:8] in page


def test_it_is_told_before_the_work_how_much_there_is(base, speech):
    _, said = asrpeft("evaluate", "--data", speech / "test.jsonl", "--adapter", speech / "a", "--conditions", "speed", "--json")
    shown, _ = asrpeft("evaluate", "--data", speech / "test.jsonl", "--adapter", speech / "a", "--conditions", "speed")
    for text in (said, shown):
        assert "24 utterances to transcribe: 4 of" in text and "2 systems, 6 passes in all" in text


def test_finetune_says_what_it_will_train_on_and_transcribe(base, speech):
    rows = (speech / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for name, part in (("train", rows[:2]), ("held", rows[2:])):
        (speech / f"{name}.jsonl").write_text("".join(part), encoding="utf-8")
    data = ("--data", speech / "train.jsonl", "--dev-data", speech / "held.jsonl", "--eval-data", speech / "held.jsonl", "--allow-overlap")
    shown, _ = asrpeft("finetune", *data, "--steps", "1", "--augment", "none", "--out", speech / "sw")
    assert "2 utterances to train on (steps: 1), then 4 to transcribe, by base and adapter." in shown


def test_many_recordings_are_counted_and_measured_before_the_first(base, speech):
    _, said = asrpeft("transcribe", speech / "0.wav", speech / "3.wav", "--lang", "sw", "--out", speech / "text")
    assert "2 recordings, 0:01 of sound." in said
    _, said = asrpeft("transcribe", speech / "0.wav", "--lang", "sw", "--out", speech / "alone")
    assert "of sound" not in said


def test_the_last_utterances_of_a_pass_take_longest():
    spoken = corpus([0.5, 1.0, 6.0])
    result = plan(spoken, 2, Checks(conditions=["speed"]))
    assert result.passes == 6 and result.utterances == 18
    assert result.share(0) == 0 and result.share(18) == result.share(99) == 1 and 0 < result.share(2) < 2 / 18 / 2
    flat = plan(spoken, 1, full=True)
    assert flat.share(2) > 0.6


# -- tables ------------------------------------------------------------------------------------------------------------
def test_every_picture_has_a_table_in_csv_and_json_that_say_the_same():
    heard, who = {"base": ["a", "d"], "[b]": ["a b", "c"]}, ["x", "=y,\n"]
    found = [score(["a b", "c"], texts, speakers=who, ids=["1", "2"], name=name, bootstrap=Bootstrap(resamples=20)) for name, texts in heard.items()]
    made = report.make(found, conditions=(report.Condition("noise", tuple(found)),), curve=(report.Amount(1.0, found[0]), report.Amount(2.0, found[1])))
    tables = dict(values.tables(made))
    assert len(tables) >= len(made.pictures()) and {"systems", "speakers", "utterances", "conditions", "amounts"} <= tables.keys()
    for name, rows in tables.items():
        read, record = list(csv.DictReader(io.StringIO(as_csv(rows), newline=""))), json.loads(as_json(rows))
        assert len(read) == len(record) == len(rows) > 0, name
        for one, other in zip(read, record, strict=True):
            assert {key: one[key] for key in other} == {key: "" if value is None else str(value) for key, value in other.items()}
    assert tables["systems"][0]["wer"] == found[0].wer and tables["speakers"][1]["speaker"] == "=y,\n"


def test_what_is_not_known_is_an_empty_cell_and_null():
    rows = [{"wer": float("nan"), "low": None, "n": 0}, {"n": 1, "more": "x"}]
    assert as_csv(rows) == "wer,low,n,more\n,,0,\n,,1,x\n" and json.loads(as_json(rows))[0] == {"wer": None, "low": None, "n": 0}


# -- players -----------------------------------------------------------------------------------------------------------
def test_rows_without_a_player_say_why(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "PLAYERS", 2)
    (tmp_path / "gone.wav").write_bytes(wav(0.3, 1))
    refs = [AudioRef(tmp_path / "gone.wav", "gone.wav"), *(AudioRef(wav(0.3, i), f"{i}.wav") for i in range(3))]
    spoken = Corpus([Utterance(f"u{i}", ref, "a", duration=0.3) for i, ref in enumerate(refs)], name="x")
    (tmp_path / "gone.wav").unlink()
    found, silent = sounds(list(spoken))
    assert set(found) == {"u1", "u2"} and "cannot be read" in silent["u0"] and "with most errors" in silent["u3"]
    made = report.make([score(["a"] * 4, ["b", "a", "a", "a"], ids=[u.id for u in spoken], bootstrap=Bootstrap(resamples=10))])
    page = report.html(made, audio=found, no_player=silent)
    assert page.count("<audio") == 2 and page.count("no player: ") == 2
    assert report.listed(made)[0] == "u0"


def test_what_browsers_do_not_play_is_put_in_as_flac():
    made = io.BytesIO()
    soundfile.write(made, np.linspace(-0.5, 0.5, 8_000, dtype=np.float32), 16_000, format="AU")
    one = Utterance("a", AudioRef(made.getvalue(), "a.au"), "x", duration=0.5)
    found, _ = sounds([one, replace(one, id="b", audio=AudioRef(wav(0.3, 1), "b"))])
    assert found["a"].startswith(b"fLaC") and found["b"].startswith(b"RIFF")
