"""Sums of adapters and facts of rows on the command line: what `--adapter`, `--condition` and `adapter compose` make of what is typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from asrpeft.adapters.routing import Conditioned
from asrpeft.cli import options as o
from asrpeft.corpus import Corpus
from asrpeft.errors import BadAdapter, BadCorpus, BadInput, BadRoute
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune
from asrpeft.options import AdapterOptions, Data
from tests.bases import tiny_recognizer
from tests.methods.cases import batch, pass_through, perturb
from tests.training.tones import options, tones


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two adapters on disk, one of them in a folder whose name has a hyphen."""
    place, model = tmp_path_factory.mktemp("adapters"), tiny_recognizer(source=40)
    for seed, name in enumerate(("sw", "speaker-12")):
        perturb(model.adapt("lora", name=name, rank=2, lang="sw", context="auto"), seed + 1, by=0.1).save(place / name)
    return place


def test_a_sum_of_folders_is_the_sum_of_their_adapters_each_loaded_once(folders):
    model = tiny_recognizer(source=40)
    names = o.attach(model, [f"{folders}/sw + 0.5*{folders}/speaker-12", f"{folders}/sw", f"{folders}/sw - 2*{folders}/speaker-12"])
    assert names[0] == "sw + 0.5*speaker-12" and names[2] == "sw - 2*speaker-12" and len(model.adapters) == 2
    assert o.task_of(model, names, None) == "transcribe"
    o.warn_of_language(model, names, "sw")
    given = [part.float() if part.is_floating_point() else part for part in batch()]
    with torch.no_grad():
        one, two, plain = (pass_through(model, name, *given)[1] for name in (names[0], names[1], None))
    assert (one - two).abs().max() > 1e-3 and (two - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    "typed, error, match",
    [
        ("{0}/sw + {0}/nobody", BadAdapter, "In the sum .*no adapter folder.*another name"),
        ("{0}/sw + x*{0}/speaker-12", BadRoute, "weight 'x' is no number"),
        ("{0}/sw +", BadRoute, "'nothing' is no adapter"),
        ("{0}/sw + {0}/sw", BadRoute, "named twice"),
        ("2*3*{0}/sw", BadRoute, "is no adapter with a weight"),
    ],
)
def test_what_is_no_sum_of_folders_says_what_is_wrong(folders, typed, error, match):
    with pytest.raises(error, match=match):
        o.attach(tiny_recognizer(source=40), [typed.format(folders)])


def test_a_folder_whose_own_name_holds_a_plus_is_itself(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "sw", tmp_path / "c+d")
    assert o.attach(tiny_recognizer(source=40), [str(tmp_path / "c+d")]) == ["c+d"]


def test_merging_a_sum_writes_the_checkpoint_of_the_sum(folders):
    model = tiny_recognizer(source=40)
    name = o.attach_one(model, f"{folders}/sw+0.5*{folders}/speaker-12", merge=False)
    given = [part.float() if part.is_floating_point() else part for part in batch()]
    with torch.no_grad():
        routed = pass_through(model, name, *given)[1]
        model.adapters.merge(name)
        assert_close(pass_through(model, name, *given)[1], routed, atol=1e-2, rtol=1e-2)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A folder with an adapter that was trained to be told who speaks."""
    recognizer, out, heard = tiny_recognizer(), tmp_path_factory.mktemp("told") / "film", []
    asked = AdapterOptions("film", conditions=("speaker",), settings={"hidden": 2})
    found = finetune(recognizer, tones(20, speakers=2), lang="en", method=asked, training=options(steps=2), out=out, progress=heard.append)
    return out, found, [getattr(one, "text", "") for one in heard]


def test_finetune_keeps_who_spoke_and_chooses_on_sentences_of_speakers_that_it_knows(told):
    out, _, said = told
    assert any("held out by sentence" in text for text in said)
    model = tiny_recognizer()
    adapter = model.adapters.load(out)
    assert [part.values for part in adapter.conditions] == [("s0", "s1")] and adapter.config.inputs == 3
    again = tiny_recognizer()
    with pytest.raises(BadInput, match="told speaker of each row, and cannot be told audio:mel"):
        finetune(
            again,
            tones(20, speakers=2),
            lang="en",
            method=AdapterOptions("film", settings={"hidden": 2}, conditions=("audio:mel",), init_adapter=out),
            training=options(steps=1),
        )


def test_data_that_cannot_tell_are_refused_before_anything_trains_and_strangers_are_noted(told):
    out, _, _ = told
    silent = Corpus([replace(u, speaker=None) for u in tones(4)], name="silent")
    asked = AdapterOptions("film", conditions=("speaker",))
    with pytest.raises(BadCorpus, match="'silent' has no column 'speaker' to tell the adapter"):
        finetune(tiny_recognizer(), Data(train=tones(20, speakers=2), eval=silent), lang="en", method=asked, training=options(steps=1))
    with pytest.raises(BadInput, match="lora is the same for all rows"):
        finetune(tiny_recognizer(), tones(20), lang="en", method=AdapterOptions("lora", conditions=("speaker",)), training=options(steps=1))
    model = tiny_recognizer()
    name = model.adapters.load(out).name
    strangers = Corpus([replace(u, speaker="s1" if i else "new") for i, u in enumerate(tones(3))], name="strangers")
    found = evaluate(model, strangers, adapters=[name], lang="en")
    assert any("1 of 2 values of 'speaker' are new to 'film' (new)" in note for note in found.notes)
    with pytest.raises(BadCorpus, match="--condition speaker="):
        evaluate(model, silent, adapters=[name], lang="en")
    fixed = evaluate(model, silent, adapters=[Conditioned(name, speaker="s0")], lang="en")
    assert fixed.systems[1].adapter == name


def test_condition_says_who_speaks_and_is_checked_against_who_is_known(told, capsys):
    model = tiny_recognizer()
    name = model.adapters.load(told[0]).name
    assert o.knowing(model, name, {"speaker": "s1"}).facts == {"speaker": "s1"}
    for given, match in (({"speaker": "s7"}, "met no speaker 's7'.*s0, s1"), ({"age": "3"}, "not told 'age'; it is told speaker")):
        with pytest.raises(BadInput, match=match):
            o.knowing(model, name, given)
    assert not isinstance(o.knowing(model, name, None), Conditioned)
    assert "told the speaker of each row" in capsys.readouterr().err
    with pytest.raises(BadInput, match="name one with --adapter"):
        o.attach_one(tiny_recognizer(), None, merge=False, condition={"speaker": "s1"})


def test_compose_and_compress_write_adapters_and_say_how_exact_they_are(folders, tmp_path, capsys, monkeypatch):
    import json

    from asrpeft.cli.main import run

    monkeypatch.setattr(o, "load_model", lambda *_, **__: tiny_recognizer(source=40))
    run(["adapter", "compose", "--expr", f"{folders}/sw + 0.5*{folders}/speaker-12", "--out", str(tmp_path / "sum"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["exact"] and told["config"]["rank"] == 4 and told["expression"] == "sw + 0.5*speaker-12"
    run(["adapter", "compress", str(tmp_path / "sum"), "--rank", "1", "--out", str(tmp_path / "thin"), "--json"])
    thin = json.loads(capsys.readouterr().out)
    assert not thin["exact"] and 0 < thin["error"] < 1 and thin["config"]["rank"] == 1
    run(["adapter", "inspect", str(tmp_path / "sum"), "--model", "tiny", "--intruders", "--json"])
    assert json.loads(capsys.readouterr().out)["intruders"]["of"] > 0
    for wrong in ([], ["--rank", "1", "--bits", "1"], ["--bits", "2"]):
        with pytest.raises(SystemExit) as stopped:
            run(["adapter", "compress", str(tmp_path / "sum"), *wrong, "--out", str(tmp_path / "no")])
        assert stopped.value.code == 2 and "Say how small" in capsys.readouterr().err
