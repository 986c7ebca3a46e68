"""What every job returns shows and saves itself: data, a text, a page, and a picture where there is something to draw."""

from __future__ import annotations

import dataclasses
import json

import pytest

from asrpeft.adapters.inspect import inspect
from asrpeft.cli import main
from asrpeft.cli import options as cli_options
from asrpeft.command import line, running
from asrpeft.corpus import Corpus
from asrpeft.corpus.read import Reading
from asrpeft.decoding.segment import Segment
from asrpeft.errors import BadInput
from asrpeft.jobs.amounts import amounts
from asrpeft.jobs.catalog import catalog
from asrpeft.jobs.compare import compare
from asrpeft.jobs.corpora import check, stats
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.label import label
from asrpeft.jobs.prune import prune
from asrpeft.jobs.selftrain import selftrain
from asrpeft.jobs.speakers import speakers
from asrpeft.options import Checks, Data, GrowingData, PruneOptions, ScoringOptions, SpeakerData, UnlabeledData
from asrpeft.report import Result
from tests.bases import tiny_recognizer
from tests.decoding.lively import lively_recognizer
from tests.jobs.shared_jobs import SHORT
from tests.training.tones import options, tones

GIVEN = {"training": options(steps=1), "lang": "en", "decoding": SHORT}


def adapter(folder):
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="a", rank=2, lang="en")
    return recognizer, recognizer.adapters["a"].save(folder / "a")


def inspected(folder):
    recognizer, place = adapter(folder)
    return inspect(place, adapters=recognizer.adapters)


def pruned(folder):
    recognizer = tiny_recognizer()
    with pytest.MonkeyPatch.context() as patch:  # the tiny tokenizer cannot be saved
        patch.setattr("asrpeft.jobs.prune.export_base", lambda recognizer, place, **_: place.mkdir() or place)
        return prune(recognizer, PruneOptions(decoder=1, by="loss", data=tones(2), eval=Corpus(tones(5)[3:])), out=folder / "small", lang="en")


JOBS = {
    "finetune": lambda folder: finetune(tiny_recognizer(), Data(tones(6), tones(2), tones(3), overlap="ignore"), out=folder / "x", **GIVEN),
    "finetune alone": lambda folder: finetune(tiny_recognizer(), Data(tones(6), tones(2), overlap="ignore"), **GIVEN),
    "speakers": lambda folder: speakers(
        tiny_recognizer(), SpeakerData(tones(16, speakers=2), overlap="ignore", curve=(1, None), folds=2), out=folder / "all", **GIVEN
    ),
    "compare": lambda folder: compare(tiny_recognizer(), Data(tones(8), eval=tones(2), overlap="ignore"), methods=["lora", "ia3"], **GIVEN),
    "amounts": lambda folder: amounts(tiny_recognizer(), GrowingData(tones(8), tones(2), tones(2), fractions=(0.5, 1), overlap="ignore"), **GIVEN),
    "evaluate": lambda folder: evaluate(
        adapter(folder)[0], tones(3), adapters=["a"], lang="en", scoring=ScoringOptions(by=("speaker",)), checks=Checks(overlap="ignore")
    ),
    "label": lambda folder: label(lively_recognizer(1, source=1500), tones(3), lang="en", out=folder / "labels.jsonl"),
    "selftrain": lambda folder: selftrain(
        tiny_recognizer(), UnlabeledData(tones(6), tones(2), unlabeled=tones(9)[6:], rounds=1, overlap="ignore"), out=folder / "s", **GIVEN
    ),
    "prune": pruned,
    "inspect": inspected,
    "methods": lambda folder: catalog(tiny_recognizer(), family="tokens"),
    "data stats": lambda folder: stats(Reading("tones", 4, iter(tones(4, speakers=2))), by="speaker"),
    "data check": lambda folder: check(Reading("tones", 4, iter([*tones(4)]))),
}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"job {name}")) for name in JOBS])
def made(request, tmp_path_factory):
    return request.param, JOBS[request.param](tmp_path_factory.mktemp("job"))


def test_it_is_frozen_data(made):
    _, result = made
    assert isinstance(result, Result) and dataclasses.is_dataclass(result) and type(result).__dataclass_params__.frozen


def test_its_data_are_strict_json(made, tmp_path):
    _, result = made
    read = json.loads(result.save(tmp_path / "x.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read and isinstance(read, dict)


def test_it_has_a_text_and_pages_that_say_its_tables(made, tmp_path):
    name, result = made
    text = str(result)
    document, page = result.document(), result.html()
    assert text and text == result.text() and "Traceback" not in text
    for table in document.tables:
        for head in table.head:
            assert head in text and head in page, name
    assert result.save(tmp_path / "x.md").read_text(encoding="utf-8").startswith("# ")
    assert page.startswith("<!doctype html>") and result._repr_html_()


def test_a_page_that_lists_utterances_has_their_style(made):
    _, result = made
    page = result.html()
    assert ("<article" in page) == (".align{" in page)


def test_its_pictures_are_drawn(made, tmp_path):
    name, result = made
    for picture in result.pictures():
        assert b"<svg" in result.plot(tmp_path / f"{picture}.svg", picture).read_bytes()
    if not result.pictures():
        assert name in ("finetune alone", "data check")
        with pytest.raises(BadInput, match="nothing to draw"):
            result.plot(tmp_path / "x.svg")


def test_its_table_goes_into_a_spreadsheet(made, tmp_path):
    name, result = made
    if result.rows():
        assert result.save(tmp_path / "x.csv").read_text(encoding="utf-8").count("\n") == 1 + len(result.rows())
    else:
        assert name in ("finetune alone", "data check")


@pytest.mark.parametrize("name", ["speakers", "compare", "amounts", "evaluate"])
def test_its_report_says_how_it_was_made(name, tmp_path):
    with running(["verb", "--out", "a b"]):
        result = JOBS[name](tmp_path)
    run = result.to_json()["run"]
    assert run["command"] == "asrpeft verb --out 'a b'" and run["base"]["id"] == "tiny" and run["date"].startswith("20")
    assert {"asrpeft", "torch", "transformers", "python"} <= run["versions"].keys() and "How this was made" in result.html()
    if name == "speakers":
        assert json.loads((tmp_path / "all" / "speakers.json").read_text(encoding="utf-8"))["run"] == json.loads(json.dumps(run))
    if name == "evaluate":
        assert run["adapters"] == [{"name": "a", "folder": None, "method": "lora", "language": "en", "trained": None}]


def test_python_has_no_command_to_tell_also_after_a_command_line_ran(monkeypatch):
    monkeypatch.setattr(main, "app", lambda **_: None)
    main.run(["methods"])
    assert line() is None


def test_a_segment_of_a_transcript_prints_its_times_and_its_text():
    assert str(Segment(1.2, 3.456, "habari")) == "[1.20 → 3.46] habari"


def test_a_score_that_is_no_number_is_null_in_the_adapters_file(tmp_path):
    recognizer, _ = adapter(tmp_path)
    nan = float("nan")
    recognizer.adapters.describe("a", scores={"after": {"wer": nan}}, training={"evaluations": [[1, nan]], "best": [float("inf"), 2]})
    folder = recognizer.adapters["a"].save(tmp_path / "b")
    read = json.loads((folder / "adapter.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert read["scores"] == {"after": {"wer": None}} and read["training"] == {"evaluations": [[1, None]], "best": [None, 2]}
    assert tiny_recognizer().adapters.load(folder).manifest.scores == {"after": {"wer": None}}


def test_methods_are_listed_searched_and_drawn_from_the_command_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli_options, "load_model", lambda *given, **how: tiny_recognizer())
    main.run(["methods", "--tier", "1", "--family", "weight", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {one["tier"] for one in told["methods"]} == {1} and {one["family"] for one in told["methods"]} == {"weight"}
    main.run(["methods", "--search", "kronecker", "--out", str(tmp_path / "where.svg")])
    assert "lokr" in capsys.readouterr().out and (tmp_path / "where.svg").is_file()
    with pytest.raises(SystemExit) as ended:
        main.run(["methods", "--fits", "brain"])
    assert ended.value.code == 2 and "--fits brain: choose conv" in capsys.readouterr().err
    main.run(["methods", "lora"])
    shown = capsys.readouterr().out
    assert "--set NAME=VALUE" in shown and "Merges into the weights." in shown and "ΔW" in shown
