"""`speakers`: an adapter each, measured on sentences that nothing was chosen on, and resumable."""

import csv
import json

import pytest
import torch

from asrpeft.adapters.adapter import Adapter, read
from asrpeft.corpus import Corpus
from asrpeft.corpus.corpus import sentence_key
from asrpeft.errors import BadCorpus, BadInput, Failure
from asrpeft.jobs import speakers as job
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.results.speakers import overall_wer
from asrpeft.jobs.speakers import divide, folder_name, speakers
from asrpeft.options import AdapterOptions, Data, OutputOptions, SpeakerData
from asrpeft.training import Interim, Message, Step
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones, utterance


def run(out, corpus=None, *, data=None, training=None, place=None, **changes):
    corpus = SpeakerData(corpus or tones(16, speakers=2), **(data or {}))
    place = OutputOptions(out, **(place or {}))
    return speakers(tiny_recognizer(), corpus, out=place, lang="en", training=training or options(steps=2), **changes)


def test_the_report(tmp_path):
    seen = []
    report = run(tmp_path / "all", data={"pooled": True}, progress=lambda event: seen.append(event.found) if isinstance(event, Interim) else None)
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [s["speaker"] for s in record["speakers"]] == ["s0", "s1"] and [s.speaker for s in seen] == ["s0", "s1"]
    for one in record["speakers"]:
        assert {"speaker", "adapter", "enabled", "base", "pooled", "own"} <= one.keys()
        assert all(0 <= one[system]["wer"] for system in ("base", "pooled", "own"))
        assert one["enabled"] == (one["dev"]["own"] < min(one["dev"]["base"], one["dev"]["pooled"]))
        assert one["own"]["utterances"] == one["utterances"]["test"]
    assert {"base", "pooled", "own", "enabled"} == record["overall"].keys()
    written = json.loads((tmp_path / "all" / "speakers.json").read_text())
    assert [one["adapter"] for one in (*written["speakers"], written["pooled"])] == ["s0", "s1", "_pooled"]  # relative to itself
    for one in (*written["speakers"], written["pooled"]):
        one["adapter"] = str(tmp_path / "all" / one["adapter"])
    assert written == record and written["by"] == "speaker"
    assert {p.name for p in (tmp_path / "all").iterdir()} == {"s0", "s1", "_pooled", "speakers.json", "speakers.csv"}
    table = list(csv.DictReader((tmp_path / "all" / "speakers.csv").open(encoding="utf-8", newline="")))
    assert [(row["speaker"], float(row["own_wer"]), row["enabled"]) for row in table] == [
        (one["speaker"], one["own"]["wer"], str(one["enabled"])) for one in written["speakers"]
    ]


def test_finished_speakers_are_neither_trained_nor_measured_again(tmp_path, monkeypatch):
    first = run(tmp_path / "all")
    trained = []
    monkeypatch.setattr(job, "evaluate", lambda *a, **k: pytest.fail("measured again"))
    again = run(tmp_path / "all", place={"resume": True}, progress=lambda e: trained.append(e) if isinstance(e, Step) else None)
    assert not trained and again.to_json()["speakers"] == first.to_json()["speakers"]


def test_an_interrupted_run_goes_on_with_the_speakers_that_are_left(tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if isinstance(event, Message) and event.text.startswith("Speaker 2"):
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "part", data={"cohort": 1}, progress=stop)
    trained = []
    report = run(tmp_path / "part", data={"cohort": 1}, place={"resume": True}, progress=lambda e: trained.append(e) if isinstance(e, Step) else None)
    assert len(trained) == 2 and len(report.speakers) == 2
    whole = run(tmp_path / "whole", data={"cohort": 1})
    for a, b in zip(report.speakers, whole.speakers):
        assert a.own["wer"] == b.own["wer"] and a.dev == b.dev
        assert (a.folder / "adapter.safetensors").read_bytes() == (b.folder / "adapter.safetensors").read_bytes()


def test_a_cohort_gives_the_adapters_that_one_after_another_give(tmp_path):
    corpus, steps = tones(32, speakers=4), options(epochs=3, lr=0.01, dev_every=2)
    told = []
    one_by_one = run(tmp_path / "1", corpus, data={"cohort": 1}, training=steps)
    together = run(tmp_path / "3", corpus, data={"cohort": 3}, training=steps, progress=told.append)  # three, then the fourth alone
    assert [event.text.split(" (")[0] for event in told if isinstance(event, Message) and event.text.startswith("Speaker")] == [
        f"Speaker {n} of 4: s{n - 1}" for n in range(1, 5)
    ]
    for a, b in zip(together.speakers, one_by_one.speakers):
        assert (a.speaker, a.utterances, a.folder.name) == (b.speaker, b.utterances, b.folder.name)
        (one, first), (other, second) = read(a.folder), read(b.folder)
        assert (
            one.training["finished"]["steps"] == other.training["finished"]["steps"]
            and one.training["finished"]["best"][1] == other.training["finished"]["best"][1]
        )
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=2e-3, atol=2e-5)


def test_a_cohort_that_was_interrupted_is_gone_on_with(tmp_path, monkeypatch):
    class Stop(KeyboardInterrupt):
        pass

    def stop(event):
        if isinstance(event, Step) and event.step == 5:
            raise Stop

    steps = options(steps=4, lr=0.01, checkpoint_s=0.0)
    recognizer = tiny_recognizer()
    with pytest.raises(Stop) as stopped:
        speakers(recognizer, SpeakerData(tones(16, speakers=2)), out=OutputOptions(tmp_path / "part"), lang="en", training=steps, progress=stop)
    assert not recognizer.adapters.names() and any("checkpoint" in note for note in stopped.value.__notes__)
    trained = []
    again = run(tmp_path / "part", training=steps, place={"resume": True}, progress=lambda e: trained.append(e) if isinstance(e, Step) else None)
    assert 0 < len(trained) < 8 and len(again.speakers) == 2
    whole = run(tmp_path / "whole", training=steps)
    for a, b in zip(again.speakers, whole.speakers):
        first, second = read(a.folder)[1], read(b.folder)[1]
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=2e-3, atol=2e-5)


def test_whoever_fails_in_a_cohort_is_left_out_alone(tmp_path):
    rows = [*tones(16, speakers=2), *(utterance(100 + i, speaker="s2", audio=b"no sound", seconds=0.5) for i in range(8))]
    found = run(tmp_path / "all", Corpus(rows))
    assert [one.speaker for one in found.speakers] == ["s0", "s1"] and [speaker for speaker, _ in found.skipped] == ["s2"]


def test_a_cohort_of_nobody_is_refused():
    with pytest.raises(BadInput, match="--cohort 0"):
        SpeakerData(tones(4), cohort=0)


def test_what_is_there_is_not_overwritten_silently(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "mine.txt").write_text("keep")
    with pytest.raises(BadInput, match="--resume"):
        run(tmp_path / "all")


def test_enabled_is_decided_on_the_development_part_alone(tmp_path, monkeypatch):
    wer = {None: 0.5, "s0": 0.4, "s1": 0.5}
    monkeypatch.setattr(job, "dev_wer", lambda recognizer, name, dev, **k: wer[name])
    report = run(tmp_path / "all")
    assert [s.enabled for s in report.speakers] == [True, False]  # no worse is not better
    assert report.overall()["enabled"] == pytest.approx(overall_wer([report.speakers[0].own, report.speakers[1].base]))


def test_a_split_column_is_followed():
    corpus = Corpus([utterance(i, speaker="a", split=("train", "validation", "test")[i % 3]) for i in range(9)])
    parts, poor = divide(corpus, by="speaker", split="split", seed=0)
    assert not poor and [u.id for u in parts["a"].dev] == ["u001", "u004", "u007"] and [u.id for u in parts["a"].test] == ["u002", "u005", "u008"]


def test_a_split_without_development_data_takes_them_from_training():
    corpus = Corpus([utterance(i, speaker="a", split="test" if i < 3 else "train") for i in range(12)])
    parts = divide(corpus, by="speaker", split="split", seed=0)[0]["a"]
    assert len(parts.test) == 3 and len(parts.dev) == 2 and len(parts.train) == 7


def test_without_a_column_sentences_are_divided_and_none_is_in_two_parts():
    corpus = Corpus([utterance(i, speaker=f"s{i % 2}", text=f"sentence {'abcdefghij'[i // 4]}") for i in range(40)])
    parts, _ = divide(corpus, by="speaker", split="split", seed=0)
    keys = {part: {sentence_key(u.text) for mine in parts.values() for u in getattr(mine, part)} for part in ("train", "dev", "test")}
    assert not keys["train"] & keys["dev"] and not keys["train"] & keys["test"] and not keys["dev"] & keys["test"]
    assert sum(len(getattr(mine, part)) for mine in parts.values() for part in keys) == 40


def test_a_pooled_adapter_never_sees_a_sentence_that_anyone_is_tested_on():
    corpus = Corpus(
        [
            utterance(
                i,
                speaker="ab"[i % 2],
                text=f"t{i // 2}",
                split=("test" if (i // 2 + i % 2) % 3 == 0 else "dev" if i // 2 == 1 else "train"),
            )
            for i in range(24)
        ]
    )
    parts, _ = divide(corpus, by="speaker", split="split", seed=0)
    train, dev = job._together(parts)
    test = {u.text for mine in parts.values() for u in mine.test}
    assert not test & {u.text for u in train} and not test & {u.text for u in dev} and not {u.text for u in train} & {u.text for u in dev}


def test_speakers_with_too_little_or_unreadable_speech_are_left_out_with_the_reason(tmp_path):
    broken = [utterance(20 + i, speaker="broken", audio=b"?") for i in range(8)]
    report = run(tmp_path / "all", Corpus([*tones(8), utterance(30, speaker="brief"), *broken]))
    assert [s.speaker for s in report.speakers] == ["s0"]
    assert {speaker: reason for speaker, reason in report.skipped}.keys() == {"brief", "broken"}
    assert "1 utterances leave nothing" in dict(report.skipped)["brief"]


def test_nobody_to_adapt_to_is_an_error(tmp_path):
    with pytest.raises(BadCorpus, match="brief"):
        run(tmp_path / "all", Corpus([utterance(0, speaker="brief")]))
    with pytest.raises(BadInput, match="--by"):
        run(tmp_path / "all", tones(4), data={"by": "village"})


@pytest.mark.parametrize(
    "speaker, folder",
    [("ann", "ann"), ("a/b", "a%2Fb"), ("..", "%2E."), (".x", "%2Ex"), ("Äa", "%C3%84a"), ("P 12", "P 12")],
)
def test_a_speakers_folder_stays_in_its_place(tmp_path, speaker, folder):
    assert folder_name(speaker) == folder and (tmp_path / folder_name(speaker)).resolve().parent == tmp_path.resolve()


def test_a_speaker_cannot_take_the_place_of_the_pooled_adapter_or_the_report():
    assert folder_name("_pooled") != job.POOLED and folder_name("speakers.json") != job.REPORT and folder_name("speakers.csv") != job.TABLE


@pytest.mark.parametrize("speaker", ["", "\ud800", "é" * 100, "\ud800" * 100])
def test_whatever_a_speaker_is_called_there_is_a_folder_of_their_own(tmp_path, speaker):
    (tmp_path / folder_name(speaker)).mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [folder_name(speaker)] != [folder_name("%")]


def test_a_long_name_is_cut_and_told_from_others_that_begin_alike():
    long = [folder_name("é" * n) for n in range(90, 110)]
    assert len(set(long)) == 20 and max(map(len, long)) <= job.LONGEST_NAME and folder_name("é" * 20) == "%C3%A9" * 20
    assert all("%" not in name.split("%~")[0].replace("%C3", "").replace("%A9", "") for name in long)


def test_each_may_start_from_the_pooled_adapter(tmp_path):
    report = run(tmp_path / "all", data={"from_pooled": True})
    manifest = json.loads((report.speakers[0].folder / "adapter.json").read_text())
    assert manifest["training"]["init_adapter"] == str(tmp_path / "all" / "_pooled")


def test_who_says_no_language_is_measured_in_that_of_the_adapter_to_start_from(tmp_path):
    recognizer = tiny_recognizer()
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="sw", out=tmp_path / "start", training=options(steps=1))
    recognizer.adapters.detach("start")
    report = speakers(
        recognizer, tones(16, speakers=2), out=tmp_path / "all", method=AdapterOptions(init_adapter=tmp_path / "start"), training=options(steps=2)
    )
    assert len(report.speakers) == 2 and not report.skipped


@pytest.mark.parametrize("cohort", [1, 2])
def test_a_speaker_whose_training_diverged_is_left_out_and_the_others_are_not(tmp_path, monkeypatch, cohort):
    save = Adapter.save

    def diverge(self, *args, **given):
        if self.name == "s0":
            raise Failure("'s0' is not saved: its training diverged")
        return save(self, *args, **given)

    monkeypatch.setattr(Adapter, "save", diverge)
    report = run(tmp_path / "all", data={"cohort": cohort})
    assert [s.speaker for s in report.speakers] == ["s1"] and dict(report.skipped) == {"s0": "'s0' is not saved: its training diverged"}
