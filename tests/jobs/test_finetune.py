"""`finetune`: from a corpus to a folder, with everything it promises to tell."""

import json
from dataclasses import replace

import pytest
import torch

from asrpeft.corpus import Corpus, Utterance, read
from asrpeft.errors import BadCorpus, BadInput, Failure, UnexpectedTraining
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.provenance import without_paths
from asrpeft.options import AdapterOptions, Data, OutputOptions, SpeechOptions
from asrpeft.training import Message, Skipped, Step
from tests.bases import tiny_recognizer
from tests.training.tones import options, tone, tones, utterance

KEYS = {
    "adapter",
    "method",
    "trained_parameters",
    "head_parameters",
    "total_parameters",
    "utterances_per_second",
    "peak_memory_bytes",
    "seconds",
    "steps",
}


def test_the_whole_job(tmp_path):
    recognizer = tiny_recognizer()
    before = {n: t.clone() for n, t in recognizer.base.state_dict().items()}
    done = finetune(
        recognizer,
        Data(tones(12), eval=tones(3)),
        lang="swahili",
        method=AdapterOptions(settings={"rank": "2"}),
        out=tmp_path / "sw",
        training=options(loss="ce+ctc"),
    )
    report = json.loads(json.dumps(done.to_json(), allow_nan=False))
    assert KEYS | {"eval"} <= report.keys() and report["steps"] == 4 and report["adapter"] == str(tmp_path / "sw")
    assert {"before", "after", "test"} <= report["eval"].keys() and {"difference", "p", "verdict"} <= report["eval"]["test"].keys()
    assert {"wer", "cer", "wer_interval"} <= report["eval"]["before"].keys()
    adapter = recognizer.adapters["sw"]
    assert report["trained_parameters"] == adapter.formula_size() and report["head_parameters"] == sum(p.numel() for p in adapter.ctc.parameters())
    assert report["total_parameters"] == sum(p.numel() for p in recognizer.base.parameters())
    assert all(torch.equal(before[n], t) for n, t in recognizer.base.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["sw"]  # the checkpoint is gone
    manifest = json.loads((tmp_path / "sw" / "adapter.json").read_text())
    assert (manifest["language"], manifest["task"], manifest["context"], manifest["config"]["rank"]) == (
        "sw",
        "transcribe",
        "auto",
        2,
    )
    training = manifest["training"]
    assert training["options"]["seed"] == 0 and training["data"]["name"] == "tones" and training["finished"]["steps"] == 4
    method = recognizer.adapters["sw"].method
    own = method.rate(recognizer.adapters["sw"].config, recognizer.base.config.d_model)
    assert training["options"]["lr"] is None and training["finished"]["lr"] == report["lr"] == own, "what the rate was, where none was asked for"
    assert {"torch", "transformers", "asrpeft"} <= training["versions"].keys() and training["date"]
    assert manifest["scores"]["after"]["wer"] == report["eval"]["after"]["wer"]


def test_a_saved_adapter_is_the_trained_one(tmp_path):
    recognizer = tiny_recognizer()
    finetune(recognizer, tones(8), lang="xx", out=tmp_path / "a", training=options())
    trained = recognizer.adapters.detach("a")
    again = tiny_recognizer().adapters.load(tmp_path / "a")
    assert again.manifest.language == "xx" and again.manifest.language_slot is not None
    for name, tensor in trained.tensors()[1].items():
        assert torch.equal(tensor, again.tensors()[1][name])


def test_a_tenth_is_held_out_and_never_trained_on():
    message, recognizer = [], tiny_recognizer()
    done = finetune(recognizer, tones(20), lang="en", training=options(epochs=1), progress=message.append)
    assert done.training.rows == 18 and done.training.best is not None
    assert any(isinstance(e, Message) and "2 of 20 utterances" in e.text for e in message)


def test_given_development_data_leave_the_training_data_whole():
    done = finetune(tiny_recognizer(), Data(tones(20), dev=tones(3)), lang="en", training=options(epochs=1))
    assert done.training.rows == 20


def test_too_little_to_hold_out_trains_on_all_and_says_so():
    message = []
    done = finetune(tiny_recognizer(), Corpus([utterance(0)]), lang="en", training=options(epochs=1), progress=message.append)
    assert done.training.rows == 1 and done.training.best is None
    assert any(isinstance(e, Message) and "without development data" in e.text for e in message)


def test_the_language_is_the_corpus_own_unless_told():
    corpus = Corpus([utterance(i) for i in range(4)])
    german = Corpus([replace(u, lang="German") for u in corpus])
    recognizer = tiny_recognizer()
    finetune(recognizer, Data(german, dev=german), method=AdapterOptions(name="a"), training=options(steps=1))
    assert recognizer.adapters["a"].manifest.language == "de"
    with pytest.raises(BadInput, match="--lang"):
        finetune(recognizer, Data(corpus, dev=corpus), method=AdapterOptions(name="b"), training=options(steps=1))
    assert "b" not in recognizer.adapters


def test_a_proxy_language_gives_its_slot_and_its_vector():
    recognizer = tiny_recognizer()
    finetune(
        recognizer,
        Data(tones(6), dev=tones(2)),
        lang=SpeechOptions("quenya", proxy_lang="de"),
        method=AdapterOptions(name="q"),
        training=options(steps=1, lr=1e-12),
    )
    adapter = recognizer.adapters["q"]
    assert adapter.manifest.language_slot == "<|de|>"
    torch.testing.assert_close(adapter.language.v, recognizer.base.model.decoder.embed_tokens.weight[recognizer.language_token("de")])


def test_equal_seeds_give_equal_adapters_and_others_others():
    found = []
    for seed in (1, 1, 2):
        recognizer = tiny_recognizer()
        torch.rand(len(found))
        finetune(recognizer, tones(8), lang="en", method=AdapterOptions(name="x"), training=options(seed=seed))
        found.append(recognizer.adapters["x"].tensors()[1])
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])
    assert not all(torch.equal(found[0][n], found[2][n]) for n in found[0])


def test_evaluation_data_are_read_after_training_only(monkeypatch):
    order = []
    real = Utterance.samples
    monkeypatch.setattr(Utterance, "samples", lambda self: (order.append(self.speaker), real(self))[1])
    evaluated = Corpus([utterance(0, speaker="eval"), utterance(1, speaker="eval")])
    finetune(
        tiny_recognizer(),
        Data(tones(6), dev=tones(2), eval=evaluated),
        lang="en",
        training=options(),
        progress=lambda e: order.append("step") if isinstance(e, Step) else None,
    )
    assert "eval" in order and order.index("eval") > max(i for i, what in enumerate(order) if what == "step")


def test_an_adapter_that_is_there_is_neither_overwritten_nor_trained_over(tmp_path):
    recognizer = tiny_recognizer()
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="en", out=tmp_path / "a", training=options(steps=1))
    recognizer.adapters.detach("a")
    with pytest.raises(BadInput, match="--overwrite"):
        finetune(recognizer, Data(tones(4), dev=tones(2)), lang="en", out=tmp_path / "a", training=options(steps=1))
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="en", out=OutputOptions(tmp_path / "a", overwrite=True), training=options(steps=2))
    assert json.loads((tmp_path / "a" / "adapter.json").read_text())["training"]["finished"]["steps"] == 2


def test_a_finished_run_trained_as_many_numbers_as_it_did_though_its_file_holds_fewer(tmp_path):
    recognizer = tiny_recognizer()
    how = {"method": AdapterOptions("adalora", settings={"rank": 4, "target": 1}), "lang": "en", "training": options()}
    first = finetune(recognizer, tones(6), out=tmp_path / "a", **how)
    assert recognizer.adapters.detach("a") is not None
    again = finetune(recognizer, tones(6), out=OutputOptions(tmp_path / "a", resume=True), **how)
    assert again.trained_parameters == first.trained_parameters > recognizer.adapters["a"].trained_parameters()


def test_a_finished_run_is_loaded_on_resumption_and_another_is_not(tmp_path):
    recognizer, steps = tiny_recognizer(), []
    first = finetune(recognizer, tones(6), lang="en", out=tmp_path / "a", training=options())
    trained = recognizer.adapters.detach("a").tensors()[1]
    again = finetune(
        recognizer,
        tones(6),
        lang="en",
        out=OutputOptions(tmp_path / "a", resume=True),
        training=options(),
        progress=lambda e: steps.append(e) if isinstance(e, Step) else None,
    )
    assert not steps and again.training == first.training
    assert all(torch.equal(t, recognizer.adapters["a"].tensors()[1][n]) for n, t in trained.items())
    recognizer.adapters.detach("a")
    for changed in (
        {"training": options(steps=5)},
        {"method": AdapterOptions(settings={"rank": 3})},
        {"method": AdapterOptions(where="ff")},
        {"lang": "de"},
        {"lang": SpeechOptions("en", task="translate")},
    ):
        with pytest.raises(BadInput, match="another run"):
            finetune(recognizer, tones(6), **({"training": options(), "lang": "en", "out": OutputOptions(tmp_path / "a", resume=True)} | changed))
    finetune(recognizer, tones(6), lang="en", out=OutputOptions(tmp_path / "a", resume=True), training=options(cache_mb=1))  # changes no result


def test_an_interrupted_job_goes_on_to_the_same_adapter(tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if isinstance(event, Step) and event.step == 3:
            raise Stop

    whole = tiny_recognizer()
    finetune(whole, tones(8), lang="xx", out=tmp_path / "whole", training=options(steps=6))
    part = tiny_recognizer()
    with pytest.raises(Stop):
        finetune(part, tones(8), lang="xx", out=tmp_path / "a", training=options(steps=6, checkpoint_s=0.0), progress=stop)
    assert "a" not in part.adapters and (tmp_path / "a.checkpoint").is_file() and not (tmp_path / "a").exists()
    left = (tmp_path / "a.checkpoint").read_bytes()
    with pytest.raises(BadInput, match="interrupted run.*--resume"):
        finetune(part, tones(8), lang="xx", out=tmp_path / "a", training=options(steps=6, checkpoint_s=0.0))
    assert (tmp_path / "a.checkpoint").read_bytes() == left
    torch.rand(3)
    finetune(part, tones(8), lang="xx", out=OutputOptions(tmp_path / "a", resume=True), training=options(steps=6, checkpoint_s=0.0))
    expected = whole.adapters["whole"].tensors()[1]
    assert all(torch.equal(t, expected[n]) for n, t in part.adapters["a"].tensors()[1].items())
    assert not (tmp_path / "a.checkpoint").exists()


def test_training_goes_on_from_a_given_adapter(tmp_path):
    recognizer = tiny_recognizer()
    finetune(
        recognizer,
        Data(tones(6), dev=tones(2)),
        lang="en",
        method=AdapterOptions(where="encoder.layers.{0..1}"),
        out=tmp_path / "a",
        training=options(loss="ctc"),
    )
    start = recognizer.adapters["a"].tensors()[1]
    finetune(
        recognizer,
        Data(Corpus([utterance(i, text="xyz abc") for i in range(5)]), dev=tones(2)),
        lang="en",
        method=AdapterOptions(init_adapter=tmp_path / "a", name="b"),
        training=options(steps=1, lr=1e-12, head_lr=1e-12, loss="ctc"),
    )
    now = recognizer.adapters["b"].tensors()[1]
    for name in start:
        if not name.startswith("ctc."):
            torch.testing.assert_close(now[name], start[name])
    old, new = recognizer.adapters["a"].ctc, recognizer.adapters["b"].ctc
    assert set(old.vocabulary) | set("xyzabc") == set(new.vocabulary)
    torch.testing.assert_close(new.weight[new.index["a"]], old.weight[old.index["a"]])


def test_an_adapter_that_goes_on_in_another_language_is_of_that_language(tmp_path):
    recognizer = tiny_recognizer()
    common = {"training": options(steps=1)}
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="en", out=tmp_path / "a", **common)
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="German", method=AdapterOptions(init_adapter=tmp_path / "a", name="b"), **common)
    assert recognizer.adapters["b"].manifest.language == "de"
    assert recognizer.prompt(lang=None, adapter="b") == recognizer.prompt(lang="de")
    finetune(recognizer, Data(tones(4), dev=tones(2)), method=AdapterOptions(init_adapter=tmp_path / "a", name="c"), **common)
    assert recognizer.adapters["c"].manifest.language == "en"
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="klingon", out=tmp_path / "k", **common)
    with pytest.raises(BadInput, match="learned a vector for 'klingon'"):
        finetune(recognizer, Data(tones(4), dev=tones(2)), lang="de", method=AdapterOptions(init_adapter=tmp_path / "k", name="d"), **common)


def test_evaluation_data_keep_their_own_language(monkeypatch):
    from asrpeft.recognizer import Recognizer

    swahili = Corpus([replace(u, lang="sw") for u in tones(4)])
    mixed = Corpus([replace(utterance(0, speaker="x"), lang="de"), utterance(1, speaker="y")])
    asked, real = [], Recognizer.prompt
    monkeypatch.setattr(Recognizer, "prompt", lambda self, *, lang, **more: (asked.append(lang), real(self, lang=lang, **more))[1])
    finetune(
        tiny_recognizer(),
        Data(swahili, dev=swahili, eval=mixed),
        method=AdapterOptions(name="a"),
        training=options(steps=1),
        progress=lambda event: asked.append("step") if isinstance(event, Step) else None,
    )
    after = asked[len(asked) - asked[::-1].index("step") :]
    assert {"de", "sw"} <= set(after) and after.count("de") == 2  # the base and the adapter


@pytest.mark.parametrize("asked", [{"method": "ia3"}, {"settings": {"rank": 3}}, {"where": "conv"}])
def test_an_adapter_of_another_kind_is_no_start(tmp_path, asked):
    recognizer = tiny_recognizer()
    finetune(recognizer, Data(tones(4), dev=tones(2)), lang="en", out=tmp_path / "a", training=options(steps=1))
    with pytest.raises(BadInput, match="one cannot start from it"):
        finetune(
            recognizer,
            Data(tones(4), dev=tones(2)),
            lang="en",
            method=AdapterOptions(init_adapter=tmp_path / "a", name="b", **asked),
            training=options(steps=1),
        )


def test_what_is_skipped_is_told_with_reasons():
    report = []
    corpus = Corpus([*tones(4), utterance(9, audio=b"?")])
    done = finetune(tiny_recognizer(), Data(corpus, dev=tones(2)), lang="en", training=options(epochs=1), progress=report.append)
    assert [s["id"] for s in done.to_json()["skipped"]] == ["u009"] and [e.id for e in report if isinstance(e, Skipped)] == ["u009"]


def test_after_a_failure_the_recognizer_is_as_before():
    recognizer = tiny_recognizer()
    with pytest.raises(BadCorpus):
        finetune(recognizer, Data(Corpus([utterance(0, audio=b"?")]), dev=tones(2)), lang="en", method=AdapterOptions(name="x"), training=options(steps=9))
    recognizer.base.model.encoder.conv1.bias.requires_grad_(True)
    with pytest.raises(UnexpectedTraining):
        finetune(recognizer, Data(tones(4), dev=tones(2)), lang="en", method=AdapterOptions(name="x"), training=options())
    assert len(recognizer.adapters) == 0


def test_no_path_of_this_machine_goes_with_an_adapter_and_no_more_reasons_than_fit(tmp_path, monkeypatch):
    data = tmp_path / "corpus"
    data.mkdir()
    rows = [f'{{"audio": "{i}.wav", "text": "ab"}}' for i in range(4)] + [f'{{"audio": "{data}/absolute.wav", "text": "x"}}']
    (data / "all.jsonl").write_text("\n".join([*rows, '{"audio": "gone.wav", "text": "x"}', '{"audio": "noise.wav", "text": "x"}']))
    for i in range(4):
        (data / f"{i}.wav").write_bytes(tone(200, 0.3))
    for name in ("noise.wav", "absolute.wav"):
        (data / name).write_bytes(b"no audio")
    monkeypatch.setattr("asrpeft.jobs.provenance.SKIPPED", 2)
    done = finetune(tiny_recognizer(), Data(read(data / "all.jsonl"), dev=tones(2)), lang="en", out=tmp_path / "a", training=options(steps=1))
    report = json.loads((tmp_path / "a" / "adapter.json").read_text())["training"]["finished"]
    assert len(done.training.skipped) == report["n_skipped"] == 3 and len(report["skipped"]) == 2
    reasons = [s.reason for s in done.training.skipped]
    assert all(name in reason for name, reason in zip(("absolute.wav", "gone.wav", "noise.wav"), reasons)), reasons
    assert str(tmp_path) not in json.dumps(done.to_json()["skipped"])


@pytest.mark.parametrize(
    "reason, wanted",
    [
        ("/home/me/a.wav: it is empty", "a.wav: it is empty"),
        ("'/mnt/x y/b.wav'", "'x y/b.wav'"),
        ("see C:\\data\\me\\c.wav", "see c.wav"),
        ("1/2 of it, and/or more", "1/2 of it, and/or more"),
        ("clips/d.wav is cut", "clips/d.wav is cut"),
        ("~/me/e.wav", "e.wav"),
    ],
)
def test_absolute_paths_in_reasons_are_cut_to_names(reason, wanted):
    assert without_paths(reason) == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"finished": {}},
        {"finished": 3},
        {"options": 3},
        {"options": None},
        {"finished": {"steps": 1, "skipped": [3]}},
    ],
)
def test_a_damaged_record_of_a_finished_run_is_told_on_resumption(tmp_path, change):
    asked = dict(training=options(steps=1), lang="en")
    finetune(tiny_recognizer(), Data(tones(4), dev=tones(2)), out=tmp_path / "a", **asked)
    report = json.loads((tmp_path / "a" / "adapter.json").read_text())
    (tmp_path / "a" / "adapter.json").write_text(json.dumps(report | {"training": report["training"] | change}))
    with pytest.raises(BadInput, match="--overwrite"):
        finetune(tiny_recognizer(), Data(tones(4), dev=tones(2)), out=OutputOptions(tmp_path / "a", resume=True), **asked)


def test_weights_that_are_not_finite_end_in_a_failure_and_no_folder(tmp_path):
    recognizer = tiny_recognizer()

    def spoil(event):
        if isinstance(event, Step):
            with torch.no_grad():
                next(recognizer.adapters["a"].parameters()).fill_(float("nan"))

    with pytest.raises(Failure, match="'a' is not saved"):
        finetune(recognizer, Corpus([utterance(0)]), lang="en", out=tmp_path / "a", training=options(steps=1), progress=spoil)
    assert not list(tmp_path.iterdir()) and len(recognizer.adapters) == 0


def test_several_corpora_are_drawn_by_their_weights_scored_together_and_apart_and_recorded(tmp_path):
    said = []
    data = Corpus.mix([(tones(6), 2), Corpus([replace(u, lang="de") for u in tones(12)[6:]], name="more")])
    other = [utterance(i, seconds=1.0 + 0.1 * i) for i in range(20, 27)]
    heard = Corpus.mix([Corpus(other[:3], name="tones"), Corpus(other[3:5], name="rest")])
    done = finetune(
        tiny_recognizer(), Data(data, dev=Corpus(other[5:]), eval=heard), lang="sw", out=tmp_path / "sw", training=options(epochs=2), progress=said.append
    )
    assert done.training.rows == 2 * (12 + 6)
    drawn = "Drawn in an epoch: 12 of tones (6 utterances, weight 2), 6 of more. Speakers who are called alike in several corpora count as one: s0."
    assert drawn in [e.text for e in said if isinstance(e, Message)]
    report = json.loads((tmp_path / "sw" / "adapter.json").read_text())["training"]["data"]
    assert report["name"] == "2·tones + more"
    assert [(c["name"], c["weight"], c["utterances"]) for c in report["corpora"]] == [("tones", 2.0, 6), ("more", 1.0, 6)]
    groups = done.to_json()["eval"]["after"]["by"][0]
    assert groups["column"] == "corpus" and {g["value"]: g["utterances"] for g in groups["groups"]} == {"tones": 3, "rest": 2}


def rising(monkeypatch, rates):
    """Looks at the development data find these rates, one after another."""
    from asrpeft.jobs import finetune as job
    from asrpeft.training.choice import Rates

    given = iter(rates)
    monkeypatch.setattr(job, "dev_rates", lambda *how, **more: Rates(*next(given)))


def test_the_last_weights_lie_beside_the_chosen_ones(tmp_path, monkeypatch):
    rates = [(1.2, 0.7), (1.1, 0.8), (1.0, 0.9)]
    rising(monkeypatch, rates)
    recognizer = tiny_recognizer()
    done = finetune(recognizer, tones(6), lang="en", out=tmp_path / "a", training=options(steps=2, dev_every=1))
    report = json.loads(json.dumps(done.to_json()))
    assert report["last"] == str(tmp_path / "a.last") and sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.last"]
    assert (
        report["dev"]["chosen_by"] == "cer" and report["dev"]["step"] == 1 and report["dev"]["measures"][1] == {"step": 2, "wer": 1.1, "cer": 0.8, "loss": None}
    )
    chosen, last = (tiny_recognizer().adapters.load(tmp_path / name).tensors()[1] for name in ("a", "a.last"))
    assert not all(torch.equal(chosen[n], last[n]) for n in chosen)
    assert all(torch.equal(chosen[n], t) for n, t in recognizer.adapters["a"].tensors()[1].items())  # what stays attached
    rising(monkeypatch, rates)
    finetune(tiny_recognizer(), tones(6), lang="en", out=OutputOptions(tmp_path / "b", keep="last"), training=options(steps=2, dev_every=1))
    kept = tiny_recognizer().adapters.load(tmp_path / "b").tensors()[1]
    assert all(torch.equal(kept[n], last[n]) for n in last) and not (tmp_path / "b.last").exists()


def test_last_weights_of_another_run_are_not_taken_for_this_ones(tmp_path, monkeypatch):
    rising(monkeypatch, [(0.5, 0.2), (0.6, 0.2)])
    finetune(tiny_recognizer(), tones(6), lang="en", out=tmp_path / "a", training=options(steps=2, dev_every=1))
    (tmp_path / "a").rename(tmp_path / "moved")
    with pytest.raises(BadInput, match="a.last' holds the last weights of another run"):
        finetune(tiny_recognizer(), tones(6), lang="en", out=tmp_path / "a", training=options(steps=2))
    rising(monkeypatch, [(0.5, 0.2)])
    done = finetune(tiny_recognizer(), tones(6), lang="en", out=OutputOptions(tmp_path / "a", overwrite=True), training=options(steps=2))
    assert done.last is None and not (tmp_path / "a.last").exists()  # the last are the best


def test_a_finished_run_is_loaded_with_what_chose_its_weights(tmp_path, monkeypatch):
    rising(monkeypatch, [(1.2, 0.7), (1.1, 0.8)])
    given = {"training": options(steps=2, dev_every=1), "lang": "en"}
    first = finetune(tiny_recognizer(), tones(6), out=tmp_path / "a", **given)
    again = finetune(tiny_recognizer(), tones(6), out=OutputOptions(tmp_path / "a", resume=True), **given)
    assert again.training == first.training and again.training.chosen_by == "cer" and again.last == first.last
    with pytest.raises(BadInput, match="another run"):
        finetune(tiny_recognizer(), tones(6), out=OutputOptions(tmp_path / "a", resume=True, keep="last"), **given)
