"""The catalog of methods: by family, tier and fit; searched; with where each acts."""

from __future__ import annotations

import csv
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

import asrpeft.methods
from asrpeft.errors import BadInput, CannotAttach
from asrpeft.jobs.catalog import PLACES, about, catalog, family_of, place_of
from asrpeft.methods import method, names
from tests.bases import tiny_recognizer

FOLDER = Path(asrpeft.methods.__file__).parent


@pytest.fixture(scope="module")
def recognizer():
    return tiny_recognizer()


@pytest.fixture(scope="module")
def whole(recognizer):
    return catalog(recognizer)


def test_every_method_is_listed_once_under_the_folder_of_its_file(whole):
    assert sorted(one.description.name for one in whole.entries) == names()
    for one in whole.entries:
        assert one.family == family_of(one.description.name) and (FOLDER / one.family).is_dir()
        assert import_module(method(one.description.name).__module__).__file__.startswith(str(FOLDER / one.family))
    assert all(about(family) for family in {one.family for one in whole.entries})


def test_the_parameters_are_what_an_adapter_of_the_method_trains(recognizer, whole):
    for one in whole.entries:
        adapter = recognizer.adapt(one.description.name, name="x")
        assert one.parameters == adapter.formula_size(), one.description.name
        assert {place for place, default in one.places.items() if default} == {place_of(layer) for layer, _ in adapter.placed()}
        recognizer.adapters.detach("x")


def test_where_a_method_can_act_it_can_be_attached_and_nowhere_else(recognizer, whole):
    layers = list(recognizer.adapters.layers.values())
    for one in whole.entries:
        for place in whole.places:
            there = [layer for layer in layers if place_of(layer) == place]
            if place in one.places:
                able = [layer.path for layer in there if layer.kind in one.description.kinds]
                assert recognizer.adapt(one.description.name, name="x", where=able).layers
                recognizer.adapters.detach("x")
            elif not any(layer.path.startswith(f"{other.path}.") for layer in layers for other in there):  # else its path names all below it
                with pytest.raises(CannotAttach):
                    recognizer.adapt(one.description.name, name="x", where=[layer.path for layer in there])


def test_every_layer_of_a_whisper_has_a_place_with_a_name(recognizer):
    assert {place_of(layer) for layer in recognizer.adapters.layers.values()} <= {*PLACES}


@pytest.mark.parametrize("name", names())
def test_a_tier_is_one_two_or_three_where_a_method_says_one(name):
    assert method(name).tier in (None, 1, 2, 3)


def test_it_is_narrowed_by_family_tier_and_fit_and_searched_by_words(recognizer):
    def left(**asked):
        return {one.description.name for one in catalog(recognizer, **asked).entries}

    assert left(family="tokens") >= {"prompt", "prefix"} and "lora" not in left(family="tokens")
    assert {"lora", "s2lora", "ia3"} <= left(tier=1) and not left(tier=1) & left(tier=3)
    assert left(fits="norm") >= {"ln", "bitfit"} and "lora" not in left(fits="norm")
    assert left(fits="conv1d") == left(fits="conv") and "prompt" not in left(fits="conv")
    assert "lokr" in left(search="KRONECKER") and left(search="hadamard 2108.06098") >= {"loha"} and "lora" not in left(search="hadamard")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"family": "wait"}, "--family wait: choose .*tokens.* or weight"),
        ({"tier": 4}, "--tier 4: choose 1, 2 or 3"),
        ({"fits": "brain"}, "--fits brain: choose conv, .*linear"),
        ({"search": "zebra", "tier": 1}, "--tier 1 and --search 'zebra'"),
    ],
)
def test_what_finds_nothing_says_what_there_is(recognizer, asked, said):
    with pytest.raises(BadInput, match=said):
        catalog(recognizer, **asked)


def test_it_is_shown_drawn_and_saved(whole, tmp_path):
    shown = str(whole)
    assert all(re.search(rf"^ {name} ", shown, re.MULTILINE) for name in names()) and "weight: an additive ΔW" in shown
    row = next(line for line in shown[shown.index("Where each acts") :].splitlines() if line.split()[:1] == ["prefix"])
    assert row.split()[1:] == ["●" if place == "dec-attention" else "○" if place in ("enc-attention", "cross") else "·" for place in whole.places]
    for name in ("where.svg", "methods.html", "methods.csv", "methods.json"):
        whole.save(tmp_path / name)
    drawn = (tmp_path / "where.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in (*names(), *whole.places))
    assert json.loads((tmp_path / "methods.json").read_text(encoding="utf-8"))["methods"][0]["family"]
    assert len(list(csv.DictReader((tmp_path / "methods.csv").open(encoding="utf-8", newline="")))) == len(names())


def test_one_method_is_told_with_its_settings(recognizer):
    shown = str(catalog(recognizer, only=["lora"]))
    assert "--set NAME=VALUE" in shown and "alpha" in shown
    with pytest.raises(CannotAttach):
        catalog(recognizer, only=["prompt"], where="conv")
    assert catalog(recognizer, only=["prompt", "lora"], where="conv").entries[0].parameters is None
