"""`speakers`: an adapter each, measured on sentences that nothing was chosen on, and resumable."""

import csv
import json

import pytest
import torch

from asrpeft.adapters.adapter import Adapter, read
from asrpeft.adapters.routing import is_sum, summed
from asrpeft.corpus import Corpus
from asrpeft.corpus.corpus import sentence_key
from asrpeft.errors import BadCorpus, BadInput, Failure
from asrpeft.jobs import division
from asrpeft.jobs import speakers as job
from asrpeft.jobs.division import divide, first, fold_number, folds
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.results.speakers import overall_wer
from asrpeft.jobs.speakers import folder_name, speakers
from asrpeft.jobs.voices import Voices
from asrpeft.options import AdapterOptions, Data, OutputOptions, SpeakerData
from asrpeft.training import Interim, Message, Step
from tests.bases import tiny_recognizer
from tests.jobs.shared_jobs import SHORT
from tests.training.tones import options, tones, utterance


def run(out, corpus=None, *, data=None, training=None, place=None, **changes):
    corpus = SpeakerData(corpus or tones(16, speakers=2), **({"decide": "always"} | (data or {})))
    place = OutputOptions(out, **(place or {}))
    return speakers(tiny_recognizer(), corpus, out=place, lang="en", training=training or options(steps=2), **{"decoding": SHORT} | changes)


def test_the_report(tmp_path):
    seen = []
    report = run(
        tmp_path / "all", data={"pooled": "beside", "decide": "dev"}, progress=lambda event: seen.append(event.found) if isinstance(event, Interim) else None
    )
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [s["speaker"] for s in record["speakers"]] == ["s0", "s1"] and [s.speaker for s in seen] == ["s0", "s1"]
    for one in record["speakers"]:
        assert {"speaker", "adapter", "enabled", "base", "pooled", "own"} <= one.keys()
        assert all(0 <= one[system]["wer"] for system in ("base", "pooled", "own"))
        assert one["enabled"] == (one["decided"]["wer"]["own"] < min(one["decided"]["wer"]["base"], one["decided"]["wer"]["pooled"]))
        assert one["own"]["utterances"] == one["utterances"]["test"]
    assert {"base", "pooled", "own", "enabled"} == record["overall"].keys()
    written = json.loads((tmp_path / "all" / "speakers.json").read_text())
    assert [one["adapter"] for one in (*written["speakers"], written["pooled"])] == ["s0", "s1", "_pooled"]  # relative to itself
    for one in (*written["speakers"], written["pooled"]):
        one["adapter"] = str(tmp_path / "all" / one["adapter"])
    assert written == record and written["by"] == "speaker"
    assert {p.name for p in (tmp_path / "all").iterdir()} == {"s0", "s1", "_pooled", "transcripts", "speakers.json", "speakers.csv", "speakers.html"}
    assert [one["name"] for one in record["systems"]] == ["the base", "one adapter for all", "each speaker's own", "own where enabled"]
    assert [one["wer"] for one in record["systems"]] == pytest.approx(list(record["overall"].values()))
    assert ("one adapter for all", "each speaker's own") in [(one["a"], one["b"]) for one in record["tests"]]
    assert sum(record["gains"]["own against base"].values()) == 2
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
        assert a.scores["own"].wer == b.scores["own"].wer and a.decision == b.decision
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
    heard = []
    real = job.evaluate
    monkeypatch.setattr(job, "evaluate", lambda recognizer, corpus, **k: heard.append([u.id for u in corpus]) or real(recognizer, corpus, **k))
    report = run(tmp_path / "all", data={"decide": "dev"})
    parts, _ = divide(tones(16, speakers=2), by="speaker", split="split", seed=0)
    assert heard == [[u.id for u in part] for one in ("s0", "s1") for part in (parts[one].dev, parts[one].test)]
    for one in report.speakers:
        assert one.decision.by == "dev" and one.decision.utterances == len(parts[one.speaker].dev) and one.decision.folds == 0
        assert one.enabled == (one.decision.wer["own"] < one.decision.wer["base"])


def judged_as(monkeypatch, rates):
    """Let what decides be these WERs of (base, own), speaker after speaker."""
    rates = iter(rates)

    def of(name, scores, *, seed):
        made = [one for _, one in scores]
        wer = next(rates)
        return type("Rated", (), {"wer": wer, "utterances": sum(one.utterances for one in made)})

    real = job.together
    monkeypatch.setattr(job, "together", lambda name, scores, *, seed: (of if name in ("base", "own") else real)(name, scores, seed=seed))


@pytest.mark.parametrize("decide", ["cross-validation", "dev"])
def test_who_is_heard_no_better_is_not_enabled(tmp_path, monkeypatch, decide):
    judged_as(monkeypatch, [0.5, 0.4, 0.5, 0.5])
    report = run(tmp_path / "all", data={"decide": decide, "folds": 2}, training=options(steps=1))
    assert [s.enabled for s in report.speakers] == [True, False]  # no worse is not better
    first, second = report.speakers
    assert report.overall()["enabled"] == pytest.approx(overall_wer([first.scores["own"], second.scores["base"]]))


def test_always_asks_nobody(tmp_path):
    report = run(tmp_path / "all", data={"decide": "always"}, training=options(steps=1))
    assert all(one.enabled and one.decision.utterances == 0 for one in report.speakers)


# -- cross-validation ----------------------------------------------------------------------------------------------------------
def test_cross_validation_judges_every_adaptation_sentence_by_an_adapter_that_does_not_know_it(tmp_path, monkeypatch):
    corpus, seen, heard = tones(16, speakers=2), {}, []
    real_asked, real = job.SpeakersRun.asked, job.evaluate
    monkeypatch.setattr(
        job.SpeakersRun,
        "asked",
        lambda self, name, adapter, train, dev, **k: seen.update({name: {u.id for u in [*train, *dev]}}) or real_asked(self, name, adapter, train, dev, **k),
    )
    monkeypatch.setattr(
        job,
        "evaluate",
        lambda recognizer, corpus, *, adapters, **k: heard.append((adapters, {u.id for u in corpus})) or real(recognizer, corpus, adapters=adapters, **k),
    )
    report = run(tmp_path / "all", corpus, data={"decide": "cross-validation", "folds": 3}, training=options(steps=1))
    parts, _ = divide(corpus, by="speaker", split="split", seed=0)
    for speaker, mine in parts.items():
        folded = [(adapter, ids) for (adapter,), ids in heard if adapter.startswith(f"{speaker}%fold")]
        assert len(folded) == 3 and all(not ids & seen[adapter] for adapter, ids in folded)
        judged = [id_ for _, ids in folded for id_ in ids]
        assert sorted(judged) == sorted(u.id for u in mine.adaptation) and not {u.id for u in mine.test} & set(judged)
        assert not any(seen[adapter] & {u.id for u in mine.test} for adapter, _ in folded)
    for one in report.speakers:
        assert (one.decision.by, one.decision.folds, one.decision.utterances) == ("cross-validation", 3, len(parts[one.speaker].adaptation))
    assert not (tmp_path / "all" / job.FOR_A_WHILE).exists()


def test_a_pooled_adapter_of_a_fold_knows_none_of_its_sentences_whoever_says_them(tmp_path):
    corpus = Corpus([utterance(i, speaker="ab"[i % 2], text=f"t{i // 2}", split="test" if i // 2 > 8 else "train") for i in range(24)])
    parts, _ = divide(corpus, by="speaker", split="split", seed=0)
    made = folds(parts, together=True, asked=3, seed=0)
    for fold in made:
        train, dev = division.all_of(fold)
        assert not {u.text for mine in fold.values() for u in mine.test} & {u.text for u in [*train, *dev]}
    assert sorted(u.id for fold in made for mine in fold.values() for u in mine.test) == sorted(u.id for mine in parts.values() for u in mine.adaptation)


@pytest.mark.parametrize(("sentences", "asked", "expected"), [(1, None, 0), (2, None, 2), (4, None, 4), (12, None, 5), (60, None, 3), (12, 2, 2), (3, 10, 3)])
def test_few_sentences_are_a_fold_each_and_many_need_fewer(sentences, asked, expected):
    assert fold_number(sentences, asked) == expected


def test_a_sentence_that_is_said_twice_is_in_one_fold():
    corpus = Corpus([utterance(i, speaker="a", text=f"t{i // 2}", split="test" if i > 19 else "train") for i in range(24)])
    parts, _ = divide(corpus, by="speaker", split="split", seed=0)
    for fold in folds(parts, together=False, asked=None, seed=0):
        assert not {u.text for u in fold["a"].test} & {u.text for u in fold["a"].adaptation}


def test_an_interrupted_cross_validation_goes_on_with_the_folds_that_are_left(tmp_path):
    class Stop(KeyboardInterrupt):
        pass

    def stop(event):
        if isinstance(event, Message) and event.text.startswith("Cross-validation: fold 2"):
            raise Stop

    data = {"decide": "cross-validation", "cohort": 2, "folds": 3}
    with pytest.raises(Stop):
        run(tmp_path / "part", data=data, training=options(steps=1), progress=stop)
    trained = []
    again = run(
        tmp_path / "part", data=data, training=options(steps=1), place={"resume": True}, progress=lambda e: trained.append(e) if isinstance(e, Step) else None
    )
    assert len(trained) == 4  # two folds of two speakers; their own adapters and the first fold are there
    whole = run(tmp_path / "whole", data=data, training=options(steps=1))
    assert [one.decision for one in again.speakers] == [one.decision for one in whole.speakers]


def test_whoever_diverges_in_a_fold_is_not_enabled_and_told(tmp_path, monkeypatch):
    save = Adapter.save

    def diverge(self, *args, **given):
        if self.name == "s0%fold-2":
            raise Failure("diverged")
        return save(self, *args, **given)

    monkeypatch.setattr(Adapter, "save", diverge)
    report = run(tmp_path / "all", data={"decide": "cross-validation", "folds": 2}, training=options(steps=1))
    assert not report.speakers[0].enabled and report.speakers[0].decision.note == "in fold 2 of 2 of cross-validation: diverged"
    assert report.speakers[1].decision.note is None and "s0 is not enabled: in fold 2" in report.text()


# -- the curve ------------------------------------------------------------------------------------------------------------------
def test_the_curve_grows_from_sentences_that_lie_within_each_other(tmp_path):
    corpus = Corpus([*tones(24, speakers=2), *(utterance(100 + 2 * i, speaker="few") for i in range(4))])
    report = run(tmp_path / "all", corpus, data={"curve": (1, 4, None)}, training=options(steps=1))
    assert [(one.sentences, one.speakers) for one in report.curve] == [(1, ("few", "s0", "s1")), (4, ("s0", "s1")), (None, ("few", "s0", "s1"))]
    assert report.curve[-1].scores["own"].wer == report.overall()["own"] and report.curve[0].test.p_adjusted is not None
    told = json.loads((tmp_path / "all" / "speakers.json").read_text())["curve"]
    assert [one["sentences"] for one in told] == [1, 4, None] and told[1]["base"]["utterances"] == told[1]["own"]["utterances"]
    assert b"<svg" in (tmp_path / "all" / "curve.svg").read_bytes() and "By the number of adaptation sentences" in report.text()
    again = []
    run(
        tmp_path / "all",
        corpus,
        data={"curve": (1, 4, None)},
        training=options(steps=1),
        place={"resume": True},
        progress=lambda e: again.append(e) if isinstance(e, Step) else None,
    )
    assert not again
    mine = divide(corpus, by="speaker", split="split", seed=0)[0]["s0"]
    one, four = ({u.id for u in first(mine, n, 0).adaptation} for n in (1, 4))
    assert len(one) == 1 and len(four) == 4 and one < four < {u.id for u in mine.adaptation}
    assert not len(first(mine, 4, 0).dev)  # of so few none chooses: the last weights are kept


@pytest.mark.parametrize(
    ("given", "why"), [({"curve": (0,)}, "--curve"), ({"folds": 1}, "--folds 1"), ({"decide": "test"}, "--decide test"), ({"pooled": "x"}, "--pooled x")]
)
def test_what_makes_no_sense_is_refused(given, why):
    with pytest.raises(BadInput, match=why):
        SpeakerData(tones(4), **given)


# -- shared plus own -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("decide", ["dev", "cross-validation"])
def test_each_may_be_trained_on_top_of_the_pooled_one_and_is_heard_as_the_sum(tmp_path, decide):
    data = {"pooled": "sum", "decide": decide, "curve": (2,) if decide == "dev" else (), "folds": 2}
    report = run(tmp_path / "all", data=data, training=options(steps=1, lr=0.02))
    manifest = json.loads((report.speakers[0].folder / "adapter.json").read_text())
    assert manifest["training"]["on_adapter"] == str(tmp_path / "all" / "_pooled")
    assert [one.systems["own"].adapter for one in report.speakers] == ["_pooled+s0", "_pooled+s1"]
    changed = json.loads((tmp_path / "all" / "speakers.json").read_text())
    for one in changed["speakers"]:
        one["enabled"] = True
    (tmp_path / "all" / "speakers.json").write_text(json.dumps(changed))
    voices, recognizer = Voices.read(tmp_path / "all"), tiny_recognizer()
    assert voices.adapter_for("s0") == f"{tmp_path / 'all' / '_pooled'} + {tmp_path / 'all' / 's0'}"
    test = Corpus([u for mine in divide(tones(16, speakers=2), by="speaker", split="split", seed=0)[0].values() for u in mine.test])
    heard = voices.attach(recognizer, test)
    assert [heard(u) for u in test][:1] == ["_pooled+s0"] and heard.otherwise is None
    found = evaluate(recognizer, test, adapters=[heard], lang="en", decoding=SHORT).system("speakers").score
    assert found.wer == pytest.approx(report.overall()["own"])


def test_a_sum_cannot_be_named_in_a_folder_that_is_called_like_one(tmp_path):
    report = run(tmp_path / "a+b", data={"pooled": "sum", "decide": "always"}, training=options(steps=1))
    assert report.speakers[0].systems["own"].adapter == "_pooled+s0"
    with pytest.raises(BadInput, match="call that folder without"):
        Voices.read(tmp_path / "a+b").adapter_for("s0")


@pytest.mark.parametrize("speaker", ["a+b", "a - b", " a", "a ", "2*a"])
def test_no_speaker_is_called_like_a_sum(speaker):
    name = folder_name(speaker)
    assert not is_sum(name) and summed(f"x+{name}") == (("x", 1.0), (name, 1.0))


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
    train, dev = division.all_of(parts)
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
    report = run(tmp_path / "all", data={"pooled": "init"})
    manifest = json.loads((report.speakers[0].folder / "adapter.json").read_text())
    assert manifest["training"]["init_adapter"] == str(tmp_path / "all" / "_pooled")


def test_who_says_no_language_is_measured_in_that_of_the_adapter_to_start_from(tmp_path):
    recognizer = tiny_recognizer()
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="sw", out=tmp_path / "start", training=options(steps=1))
    recognizer.adapters.detach("start")
    report = speakers(
        recognizer,
        tones(16, speakers=2),
        out=tmp_path / "all",
        method=AdapterOptions(init_adapter=tmp_path / "start"),
        training=options(steps=2),
        decoding=SHORT,
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
