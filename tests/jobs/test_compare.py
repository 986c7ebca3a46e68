"""`compare`: methods side by side in which one that fails costs the others nothing."""

import csv
import json
from dataclasses import replace

import pytest
import torch

from asrpeft import interruption
from asrpeft.corpus import Corpus
from asrpeft.errors import BadInput, Failure
from asrpeft.jobs import trials as job
from asrpeft.jobs.compare import compare
from asrpeft.options import AdapterOptions, Data, MethodsOptions, OutputOptions, TrainingGuard
from asrpeft.training import Interim
from tests.bases import tiny_recognizer
from tests.jobs.shared_jobs import SHORT
from tests.training.tones import options, tones


def test_what_cannot_run_is_told_before_anything_trains(tmp_path):
    given = {"methods": ["lora", "ia3"], "training": options(steps=1), "lang": "en", "out": tmp_path}
    (tmp_path / "ia3").mkdir()
    for changes, why in (({}, "ia3.*exists already"), ({"methods": ["lora", AdapterOptions("ia3", settings={"nope": 1})]}, "nope")):
        with pytest.raises(BadInput, match=why):
            compare(tiny_recognizer(), Data(tones(6), eval=tones(2)), **given | changes)
    assert not (tmp_path / "lora").exists()


def test_a_method_that_fails_is_reported_and_the_others_are_scored(monkeypatch):
    real = job.finetune

    def finetune(recognizer, data, **result):
        if result["method"].method == "ia3":
            recognizer.adapt("ia3", name="ia3", lang="en")
            raise torch.OutOfMemoryError("no memory is left")
        return real(recognizer, data, **result)

    monkeypatch.setattr(job, "finetune", finetune)
    recognizer = tiny_recognizer()
    found = compare(recognizer, Data(tones(8), eval=tones(2)), methods=["lora", "ia3", "bitfit"], lang="en", training=options(steps=1))
    assert [entry.trained.method for entry in found.entries] == ["lora", "bitfit"] and found.failed == {"ia3": "no memory is left"}
    assert len(recognizer.adapters) == 0


GIVEN = {"training": options(steps=1), "lang": "en", "decoding": SHORT}
CLOCK = ("audio_seconds_per_second", "real_time_factor")


def failing(monkeypatch, error, only=("ia3",)):
    """Let the training of some methods end with `error`; returns the methods that were asked to train, in order."""
    real, asked = job.finetune, []

    def finetune(recognizer, data, **events):
        asked.append(events["method"].method)
        if events["method"].method in only:
            raise error
        return real(recognizer, data, **events)

    monkeypatch.setattr(job, "finetune", finetune)
    return asked


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("odd"), KeyError("x"), BadInput("not so"), torch.OutOfMemoryError("full")])
def test_whatever_happens_to_one_method_costs_only_that_method(monkeypatch, error):
    failing(monkeypatch, error)
    found = compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["ia3", "lora"], **GIVEN)
    assert [entry.trained.method for entry in found.entries] == ["lora"] and found.failed["ia3"] == str(error)
    assert [row["method"] for row in found.rows()] == ["base", "lora", "ia3"] and found.rows()[-1]["failed"] == str(error)


def test_a_comparison_in_which_all_fail_is_a_failure(monkeypatch):
    failing(monkeypatch, OSError("no space"), only=("ia3", "lora"))
    with pytest.raises(Failure, match="ia3: no space; lora: no space"):
        compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["ia3", "lora"], **GIVEN)


def test_the_table_is_kept_after_the_base_and_after_every_method(tmp_path, monkeypatch):
    seen = []

    def on(event):
        if not isinstance(event, Interim):
            return
        seen.append([row["method"] for row in csv.DictReader((tmp_path / "compare.csv").open(encoding="utf-8"))])

    failing(monkeypatch, OSError("no space"))
    compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora", "ia3", "bitfit"], out=tmp_path, progress=on, **GIVEN)
    assert seen == [["base"], ["base", "lora"], ["base", "lora", "ia3"], ["base", "lora", "bitfit", "ia3"]]
    report = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert [one["method"] for one in report["methods"]] == ["lora", "bitfit"] and report["failed"] == {"ia3": "no space"}
    row = list(csv.DictReader((tmp_path / "compare.csv").open(encoding="utf-8")))[1]
    assert float(row["wer"]) == report["methods"][0]["score"]["wer"] and int(row["trained_parameters"]) == report["methods"][0]["trained_parameters"]
    assert (tmp_path / "compare.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_resuming_trains_and_decodes_only_what_is_not_done_and_ends_with_the_same_table(tmp_path, monkeypatch):
    methods = ["lora", "ia3"]
    whole = compare(tiny_recognizer(), Data(tones(8), eval=tones(3)), methods=methods, out=tmp_path / "whole", **GIVEN).to_json()
    with monkeypatch.context() as patched:
        failing(patched, OSError("no space"))
        compare(tiny_recognizer(), Data(tones(8), eval=tones(3)), methods=methods, out=tmp_path / "a", **GIVEN)
    with pytest.raises(BadInput, match="lora.*exists already.*--resume"):
        compare(tiny_recognizer(), Data(tones(8), eval=tones(3)), methods=methods, out=tmp_path / "a", **GIVEN)
    decoded, steps, real = [], [], job.evaluate
    monkeypatch.setattr(job, "evaluate", lambda recognizer, corpus, **how: decoded.append(how["adapters"]) or real(recognizer, corpus, **how))
    again = compare(
        tiny_recognizer(), Data(tones(8), eval=tones(3)), methods=methods, out=OutputOptions(tmp_path / "a", resume=True), progress=steps.append, **GIVEN
    ).to_json()
    assert decoded == [["ia3"], ["ia3"]] and not again["failed"]  # routed and merged; neither the base nor lora
    assert any("was finished before" in getattr(event, "text", "") for event in steps)
    assert sum(isinstance(event, Interim) for event in steps) == 2  # of the base and once ia3 is there: lora, read again, makes no table of its own
    for one, other in zip(whole["methods"], again["methods"], strict=True):
        first, second = ({key: values for key, values in each["score"].items() if key not in CLOCK} for each in (one, other))
        assert first == second and len(first) > 20
        assert one["test"] == other["test"] and one["merged_equal"] == other["merged_equal"]
    assert whole["base"]["wer"] == again["base"]["wer"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": options(steps=2)}, "steps was 1 and is 2"),
        ({"methods": [AdapterOptions("lora", settings={"rank": 2})]}, "settings was"),
        ({"lang": "de"}, "lang was 'en' and is 'de'"),
        ({"data": Data(tones(8), dev=tones(3), eval=tones(2))}, "dev was"),
    ],
)
def test_a_comparison_of_other_settings_is_not_resumed(tmp_path, changes, message):
    compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=tmp_path, **GIVEN)
    with pytest.raises(BadInput, match=message):
        given = {"data": Data(tones(8), eval=tones(2)), "methods": ["lora"], "out": OutputOptions(tmp_path, resume=True), **GIVEN}
        compare(tiny_recognizer(), **given | changes)
    with pytest.raises(BadInput, match="--out"):
        compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=OutputOptions(resume=True), **GIVEN)


def test_damaged_transcripts_are_named_and_overwriting_begins_anew(tmp_path):
    compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=tmp_path, **GIVEN)
    (tmp_path / "transcripts" / "lora.json").write_text('{"name": "lora"}')
    with pytest.raises(BadInput, match="lora.json.*Remove it"):
        compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=OutputOptions(tmp_path, resume=True), **GIVEN)
    assert compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=OutputOptions(tmp_path, overwrite=True), **GIVEN).entries


def test_ctrl_c_says_how_many_methods_are_kept(tmp_path, monkeypatch):
    failing(monkeypatch, interruption.Interrupted(2))
    with pytest.raises(interruption.Interrupted) as ended:
        compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora", "ia3"], out=tmp_path, **GIVEN)
    assert ended.value.resumes and "1 of 2 methods are done" in " ".join(ended.value.__notes__)


# -- several seeds, forgetting -------------------------------------------------------------------------------------------
def test_every_method_is_trained_by_every_seed_on_the_same_development_data(tmp_path, monkeypatch):
    real, asked = job.finetune, []

    def finetune(recognizer, data, **how):
        asked.append((how["method"].name, how["training"].seed, [u.id for u in data.dev]))
        return real(recognizer, data, **how)

    monkeypatch.setattr(job, "finetune", finetune)
    found = compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=MethodsOptions(("lora", "ia3"), seeds=2), out=tmp_path, **GIVEN)
    assert [(name, seed) for name, seed, _ in asked] == [("lora", 0), ("lora-seed1", 1), ("ia3", 0), ("ia3-seed1", 1)]
    assert all(dev == asked[0][2] for *_, dev in asked)
    assert [[trial.seed for trial in entry.trials] for entry in found.entries] == [[0, 1]] * 2
    for entry in found.entries:
        wers = [trial.system.score.wer for trial in entry.trials]
        assert entry.rate.wer == pytest.approx(sum(wers) / 2) and entry.rate.seeds == tuple(wers) and entry.test.test == "seeds"
    told = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert [one["seed"] for one in told["methods"][0]["seeds"]] == [0, 1] and told["methods"][0]["wer"] == found.entries[0].rate.wer
    assert (tmp_path / "lora-seed1" / "adapter.json").is_file() and "by seed" in str(found)


def test_a_comparison_goes_on_with_further_seeds(tmp_path, monkeypatch):
    compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=tmp_path, **GIVEN)
    asked = failing(monkeypatch, OSError("no space"), only=())
    found = compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=MethodsOptions(["lora"], 2), out=OutputOptions(tmp_path, resume=True), **GIVEN)
    assert len(asked) == 2 and found.entries[0].trials[0].seed == 0 and len(found.entries[0].trials) == 2


def test_what_is_forgotten_is_measured_on_the_guard_data_of_base_and_method_once(tmp_path, monkeypatch):
    guard = Corpus([replace(u, id=f"g{u.id}", lang="de") for u in tones(3)], name="guard")
    decoded, real = [], job.evaluate

    def evaluate(recognizer, corpus, **how):
        decoded.append((corpus.name, tuple(how["adapters"])))
        return real(recognizer, corpus, **how)

    monkeypatch.setattr(job, "evaluate", evaluate)
    given = {"data": Data(tones(8), eval=tones(2), guard=TrainingGuard(guard)), "methods": ["lora", "prompt"], **GIVEN}
    found = compare(tiny_recognizer(), out=tmp_path, **given)
    assert [name for name, _ in decoded].count("guard") == 3 and ("guard", ()) in decoded
    for entry in found.entries:
        kept = entry.trials[0].guarded
        assert entry.forgotten == pytest.approx(kept.after.wer - kept.before.wer) and kept.after.rows[0].id == "gu000"
    assert "Forgetting" in str(found) and found.pictures() == ["parameters", "time", "forgetting"]
    assert found.rows()[1]["forgotten"] == found.entries[0].forgotten and found.to_json()["methods"][0]["guard"]["loss"] == found.entries[0].forgotten
    decoded.clear()
    again = compare(tiny_recognizer(), out=OutputOptions(tmp_path, resume=True), **given)
    assert not decoded and [entry.forgotten for entry in again.entries] == [entry.forgotten for entry in found.entries]


def test_guard_data_may_be_asked_for_in_a_later_sitting(tmp_path):
    compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora"], out=tmp_path, **GIVEN)
    guard = Corpus([replace(u, id=f"g{u.id}") for u in tones(3)], name="guard")
    with pytest.raises(BadInput, match="--guard-lang"):
        compare(
            tiny_recognizer(), Data(tones(8), eval=tones(2), guard=TrainingGuard(guard)), methods=["lora"], out=OutputOptions(tmp_path, resume=True), **GIVEN
        )
    found = compare(
        tiny_recognizer(),
        Data(tones(8), eval=tones(2), guard=TrainingGuard(guard, lang="de")),
        methods=["lora"],
        out=OutputOptions(tmp_path, resume=True),
        **GIVEN,
    )
    assert found.entries[0].forgotten is not None


# -- the result ------------------------------------------------------------------------------------------------------------
def test_the_table_tells_costs_intervals_and_who_is_best(tmp_path):
    found = compare(tiny_recognizer(), Data(tones(8), eval=tones(3)), methods=["lora", "ia3", "prompt"], out=tmp_path, **GIVEN)
    row = {one["method"]: one for one in found.rows()}["lora"]
    assert row["adapter_bytes"] == 4 * row["trained_parameters"] and row["seconds_per_step"] > 0 and row["peak_memory_bytes"] > 1e6
    assert found.ranking.best in ("lora", "ia3", "prompt") and len(found.ranking.to_best) == 2
    shown = str(found)
    for said in ("Error rates", f"Against {found.ranking.best}", "What each costs", "has the lowest WER", "s a step", "one seed"):
        assert said in shown, said
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and "How this was made" in page and "tiny" in page
    assert found.plot(tmp_path / "time.png", "time").read_bytes().startswith(b"\x89PNG")


def test_the_frontier_holds_those_that_no_other_beats_in_both(monkeypatch):
    found = compare(tiny_recognizer(), Data(tones(8), eval=tones(3)), methods=["lora", "ia3", "prompt"], **GIVEN)
    costs = {entry.method: (entry.trained.trained_parameters, entry.rate.wer) for entry in found.entries}
    front = {entry.method for entry in found.frontier("parameters")}
    for name, (parameters, wer) in costs.items():
        beaten = any(p <= parameters and w <= wer and (p, w) != (parameters, wer) for other, (p, w) in costs.items() if other != name)
        assert (name in front) != beaten or costs[name] in [costs[one] for one in front]


@pytest.mark.parametrize("seeds", [0, -1])
def test_fewer_seeds_than_one_are_refused(seeds):
    with pytest.raises(BadInput, match="--seeds"):
        compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=MethodsOptions(["lora"], seeds), **GIVEN)


# -- what is asked for -----------------------------------------------------------------------------------------------------
def test_a_method_is_asked_for_in_one_way():
    with pytest.raises(BadInput, match="lora is asked for in two ways"):
        compare(tiny_recognizer(), Data(tones(6), eval=tones(2)), methods=["lora", AdapterOptions("lora", "conv")])


def test_a_comparison_without_evaluation_data_is_refused():
    with pytest.raises(BadInput, match="--eval-data"):
        compare(tiny_recognizer(), Data(tones(6)), methods=["lora"])


def test_a_method_all_of_whose_weights_forget_too_much_is_left_out(monkeypatch):
    from asrpeft.jobs import finetune as single
    from asrpeft.training.choice import Rates

    guard = TrainingGuard(Corpus([replace(u, lang="de") for u in tones(6, speakers=3)], name="guard"), max_loss=0.05)
    monkeypatch.setattr(single, "dev_rates", lambda recognizer, name, dev, *, speech, **how: Rates(1.0 if name and "lora" in name else 0.1, 0.1))
    found = compare(tiny_recognizer(), Data(tones(8), eval=tones(2), guard=guard), methods=["lora", "ia3"], **GIVEN)
    assert "No weights passed the guard" in found.failed["lora"] and [entry.trained.method for entry in found.entries] == ["ia3"]
