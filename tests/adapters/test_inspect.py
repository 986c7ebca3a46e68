"""What `inspect` tells of an adapter folder."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from asrpeft.adapters.adapter import MANIFEST
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.inspect import inspect
from asrpeft.cli.options import Base, Printing
from asrpeft.cli.verbs.adapter import Looking
from asrpeft.cli.verbs.adapter import inspect as show
from asrpeft.errors import BadAdapter, WrongBase
from asrpeft.methods import method, names
from tests.bases import tiny_recognizer
from tests.methods.cases import perturb, recognizer, small


@pytest.mark.parametrize("name", names())
def test_every_method_can_be_inspected_with_and_without_its_base(name, tmp_path):
    model = recognizer().float()
    adapter = perturb(model.adapt(name, name="a", lang="Klingon", **small(name)))
    adapter.ctc = CTCHead.for_texts(16, ["ab"])
    folder = adapter.save(tmp_path / "a", scores={"wer": 0.5})
    alone, result = inspect(folder), inspect(folder, adapters=model.adapters)
    for seen in (alone, result):
        assert json.loads(json.dumps(seen.to_json()))["method"] == name
        config = adapter.method.Config(**seen.config)  # as the file says it: ranks may be fewer there
        held = adapter.method.stored_size(config, list(adapter.layers.values())) + 16  # 16: the language vector
        assert seen.parameters == held and seen.head_parameters == adapter.head_parameters()
        assert sum(s.parameters for s in seen.sites) + seen.shared_parameters + 16 == seen.parameters  # 16: the language vector
        assert [s.path for s in seen.sites] == list(adapter.layers)
        assert seen.bytes > 4 * seen.parameters and seen.scores == {"wer": 0.5}
        assert seen.language == "klingon" and seen.language_slot == "<|yo|>"
    assert alone.fits_base is None and all(s.delta_norm is None for s in alone.sites)
    pieces = adapter.by_path()
    there = [method(name).mergeable or pieces[s.path].n_rows > 0 for s in result.sites]  # an edit is not there without an input
    assert result.fits_base is True and all((s.delta_norm > 0) if known else (s.delta_norm is None) for s, known in zip(result.sites, there))
    assert all((s.relative is not None) == method(name).mergeable for s in result.sites)
    assert result.report == adapter.method.report(adapter.by_path())
    assert model.adapters.names() == ["a"], "inspecting attached something"


def test_the_change_of_a_weight_is_its_frobenius_norm(tmp_path):
    model = recognizer().float()
    adapter = perturb(model.adapt("full", name="a", where="fc1"))
    result = inspect(adapter.save(tmp_path / "a"), adapters=model.adapters)
    site, piece = result.sites[0], adapter.by_path()[result.sites[0].path]
    want = torch.cat([piece.dw.flatten(), piece.db]).detach().norm()
    assert site.delta_norm == pytest.approx(float(want), rel=1e-4)
    assert site.relative == pytest.approx(float(want / adapter.layers[site.path].matrix.norm()), rel=1e-4)


def test_another_base_of_the_same_shape_is_told_and_one_of_other_shapes_refused(tmp_path):
    folder = recognizer().adapt("lora", name="a").save(tmp_path / "a")
    assert inspect(folder, adapters=tiny_recognizer(1, source=40).adapters).fits_base is False
    with pytest.raises(WrongBase):
        inspect(folder, adapters=tiny_recognizer(0, source=40, width=32).adapters)
    with pytest.raises(BadAdapter):
        inspect(tmp_path)


def test_zeros_are_counted(tmp_path):
    adapter = recognizer().adapt("s2lora", name="a", rank=4)
    seen = inspect(adapter.save(tmp_path / "a"))
    assert seen.zeros == 4 * len(adapter.pieces)


def test_whether_the_digest_agrees_is_told(tmp_path):
    folder = recognizer().adapt("lora", name="a").save(tmp_path / "a")
    report = json.loads((folder / MANIFEST).read_text())
    assert inspect(folder).digest == "agrees"
    (folder / MANIFEST).write_text(json.dumps({key: value for key, value in report.items() if key != "digest"}))
    assert inspect(folder).digest == "absent"
    (folder / MANIFEST).write_text(json.dumps(report | {"config": report["config"] | {"alpha": 1.0}}))
    assert inspect(folder).digest.startswith("differs: it holds an adapter.json whose")
    with pytest.raises(BadAdapter, match="digest"):
        inspect(folder, adapters=recognizer().adapters)


@pytest.mark.parametrize(
    "scores",
    [
        {"after": {"wer": 0.5}},
        {"after": [1]},
        {"after": {}, "before": 3},
        {"before": {}, "after": {"wer": "low"}},
        {"after": {"wer": 10**400}},
        {"after": {"wer": float("nan")}, "before": {"wer": float("inf")}},
        {"after": {"wer": True}},
    ],
)
def test_odd_scores_are_shown_as_far_as_they_can_be(scores, tmp_path, capsys):
    folder = recognizer().adapt("lora", name="a").save(tmp_path / "a")
    report = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(report | {"scores": scores, "training": {"x": [float("nan")]}}))
    show(folder, base=Base, looking=Looking, printing=Printing)
    assert ("50.0 %" in capsys.readouterr().out) == (scores == {"after": {"wer": 0.5}})
    show(folder, base=Base, looking=Looking, printing=partial(Printing, json=True))
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["training"] == {"x": [None]}


def test_what_a_method_tells_of_each_layer_is_a_column_and_a_map_of_depth_and_kind(tmp_path):
    model = recognizer().float()
    adapter = perturb(model.adapt("s2lora", name="a", where="attention", rank=3))
    quiet = next(piece for path, piece in adapter.by_path().items() if path == "decoder.layers.0.encoder_attn.v_proj")
    with torch.no_grad():
        quiet.s[1:] = 0
    folder = adapter.save(tmp_path / "a")
    found = inspect(folder, adapters=model.adapters)
    assert found.by_layer()["rank"]["decoder.layers.0.encoder_attn.v_proj"] == 1 and set(found.by_layer()["rank"].values()) == {1, 3}
    assert found.pictures() == ["rank", "layers"] and "rank" in found.text()
    drawn = found.plot(tmp_path / "ranks.svg").read_text()
    assert all(word in drawn for word in ("encoder 0", "decoder 0", "encoder_attn.v_proj", ">1<", ">3<"))
    written = inspect(recognizer().adapt("lora", name="b").save(tmp_path / "b"))
    assert written.by_layer() == {} and written.pictures() == []
    show(folder, base=partial(Base, model=None), looking=partial(Looking, out=tmp_path / "a.csv"), printing=Printing)
    assert "encoder_attn.v_proj" in (tmp_path / "a.csv").read_text()
