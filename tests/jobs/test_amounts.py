"""WER against the amount of adaptation data."""

import json

import pytest

from asrpeft.errors import BadInput
from asrpeft.jobs import trials as runs
from asrpeft.jobs.amounts import FILES, amounts
from asrpeft.options import AdapterOptions, GrowingData, OutputOptions
from asrpeft.training import Interim, Message
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


def test_growing_parts_lie_within_each_other_and_share_their_development_data(tmp_path, monkeypatch):
    seen, real = [], runs.finetune
    monkeypatch.setattr(runs, "finetune", lambda recognizer, data, **how: seen.append((data.train, data.dev)) or real(recognizer, data, **how))
    recognizer, message = tiny_recognizer(), []
    found = amounts(
        recognizer,
        GrowingData(tones(12, speakers=6), eval=tones(3), fractions=(1, 0.5, 0.2)),
        lang="en",
        training=options(steps=1),
        out=tmp_path,
        progress=message.append,
    )
    parts = [{u.id for u in part} for part, _ in seen]
    dev = {u.id for u in seen[0][1]}
    assert parts[0] < parts[1] < parts[2] and all({u.id for u in d} == dev for _, d in seen) and not parts[2] & dev
    printed = json.loads(json.dumps(found.to_json(), allow_nan=False))["amounts"]
    assert [point["fraction"] for point in printed] == [0.2, 0.5, 1] and [point["utterances"] for point in printed] == [len(part) for part in parts]
    assert printed[2]["minutes"] == pytest.approx(sum(u.duration for u in seen[2][0]) / 60)
    assert [one.amount for one in found.amounts] == [0, *(point["minutes"] for point in printed)] and {one.score.name for one in found.amounts} == {"lora"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [*sorted(FILES), "lora-0.2", "lora-0.5", "lora-1", "transcripts"] and not len(recognizer.adapters)
    assert [point["test"]["a"] for point in printed] == ["base"] * 3
    assert sum("of the training data" in e.text for e in message if isinstance(e, Message)) == 3


def test_the_curve_is_shown_and_drawn_and_kept_after_every_amount(tmp_path):
    kept = []
    found = amounts(
        tiny_recognizer(),
        GrowingData(tones(8), dev=tones(2), eval=tones(2), fractions=(0.5, 1)),
        lang="en",
        training=options(steps=1),
        out=tmp_path,
        progress=lambda event: kept.append((tmp_path / "curve.csv").read_text(encoding="utf-8").count("lora")) if isinstance(event, Interim) else None,
    )
    assert kept == [1, 2] and "minutes" in str(found) and found.pictures() == ["amounts"]
    page = (tmp_path / "curve.html").read_text(encoding="utf-8")
    assert "WER by amount of adaptation data" in page and "adaptation data, minutes" in page and "How this was made" in page
    assert json.loads((tmp_path / "curve.json").read_text(encoding="utf-8"))["run"]["base"]["id"] == "tiny"


@pytest.mark.parametrize("given", [[], [0.0, 1.0], [1.5], [-0.1]])
def test_parts_that_are_none_are_refused(given):
    with pytest.raises(BadInput, match="--amounts"):
        amounts(tiny_recognizer(), GrowingData(tones(4), eval=tones(2), fractions=given), lang="en")


def test_amounts_that_are_done_are_neither_trained_nor_decoded_again(tmp_path, monkeypatch):
    given = {"data": GrowingData(tones(8), dev=tones(2), eval=tones(3), fractions=(0.5, 1)), "training": options(steps=1), "lang": "en"}
    whole = amounts(tiny_recognizer(), **given, out=tmp_path)
    (tmp_path / "lora-1").rename(tmp_path / "lost")
    decoded, real = [], runs.evaluate
    monkeypatch.setattr(runs, "evaluate", lambda recognizer, corpus, **how: decoded.append(how["adapters"]) or real(recognizer, corpus, **how))
    with pytest.raises(BadInput, match="--resume"):
        amounts(tiny_recognizer(), **given, out=tmp_path)
    with pytest.raises(BadInput, match="settings"):
        amounts(tiny_recognizer(), **given, method=AdapterOptions(settings={"rank": 2}), out=OutputOptions(tmp_path, resume=True))
    again = amounts(tiny_recognizer(), **given, out=OutputOptions(tmp_path, resume=True))
    assert decoded == [["lora-1"]]
    first, second = (found.to_json() for found in (whole, again))
    assert first["amounts"][0] == second["amounts"][0] and first["base"] == second["base"]
    assert [one["score"]["wer"] for one in first["amounts"]] == [one["score"]["wer"] for one in second["amounts"]]
    assert [row["fraction"] for row in again.rows()] == [0.0, 0.5, 1.0]
