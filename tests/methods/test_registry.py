"""What a method's file says of itself, and how its settings are checked."""

from __future__ import annotations

import inspect
import re

import pytest

from asrpeft.errors import BadInput, CannotAttach
from asrpeft.methods import configure, describe, method, names
from tests.methods.cases import recognizer, small

each = pytest.mark.parametrize("name", names())
NAMED_IN_THE_PLAN = ("lora", "s2lora", "loha", "ia3", "prompt", "prefix", "full", "bitfit")


def test_the_first_methods_are_there():
    assert set(NAMED_IN_THE_PLAN) <= set(names())


@each
def test_the_docstring_holds_a_title_a_link_a_shape_and_an_equation(name):
    told = describe(name)
    assert told.title and re.match(r"https?://\S+$", told.paper), f"{name}: no link"
    assert re.search(r"\w+ \([\w·/ ]+(, [\w·/ ]+)*,?\)", told.text), f"{name}: no shape such as A (rank, in)"
    assert re.search(r"[=←:]", told.equation) and len(told.equation) > 8, f"{name}: no equation"
    assert told.equation in inspect.getsource(inspect.getmodule(method(name)))


@each
def test_every_setting_has_a_default_and_takes_it_back_as_text(name):
    cls = method(name)
    default = cls.Config()
    as_text = {k: ",".join(v) if isinstance(v, tuple) else str(v) for k, v in vars(default).items()}
    assert configure(cls, as_text) == default == configure(cls, vars(default))


@each
def test_an_unknown_setting_is_refused_with_the_ones_there_are(name):
    with pytest.raises(BadInput, match="has no setting 'rnak'"):
        configure(method(name), {"rnak": 3})


@each
def test_numbers_that_make_no_sense_are_refused(name):
    cls = method(name)
    for key, value in vars(cls.Config()).items():
        wrong = ["many", None, [1], {}] if isinstance(value, (int, float)) else [3, None, {}, [[1]]]
        if isinstance(value, int) and not isinstance(value, bool):
            wrong += [1.5, float("inf"), float("nan"), -1]
        if isinstance(value, float):
            wrong += [float("nan"), -1.0]
        for bad in wrong:
            with pytest.raises(BadInput, match=name):
                configure(cls, {key: bad})


@each
def test_the_default_place_exists_and_a_place_of_another_kind_is_refused_with_what_fits(name):
    cls = method(name)
    model = recognizer()
    assert model.adapt(name, name="a", **small(name)).layers
    alien = {"linear": "q_proj", "conv1d": "conv", "embedding": "embedding", "norm": "norm", "attention": "self_attn", "decoder": "decoder"}
    for kind, where in alien.items():
        if kind not in cls.kinds and kind in ("conv1d", "embedding", "norm", "linear"):
            with pytest.raises(CannotAttach, match=f"{name} cannot attach to .* of kind {kind}.*its default is"):
                model.adapt(name, name="b", where=where, **small(name))
            with pytest.raises(CannotAttach, match=f"{name} cannot attach"):
                model.adapt(name, name="b", where=[cls.where, where], **small(name))
    assert model.adapters.names() == ["a"]


def test_an_unknown_method_is_refused_with_the_ones_there_are():
    with pytest.raises(BadInput, match="no method 'lroa'.*lora"):
        method("lroa")


def test_a_method_with_nothing_to_train_where_it_was_asked_says_so():
    with pytest.raises(CannotAttach, match="bitfit has nothing to train at .*k_proj.*Widen"):
        recognizer().adapt("bitfit", name="a", where="k_proj")


def test_a_prompt_that_leaves_no_room_for_text_is_refused():
    with pytest.raises(BadInput, match="fewer than 32"):
        recognizer().adapt("prompt", name="a", tokens=40)
