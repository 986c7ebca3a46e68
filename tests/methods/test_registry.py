"""What a method's file says of itself, and how its settings are checked."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

import pytest

from asrpeft.errors import BadInput, CannotAttach
from asrpeft.methods import LayerAdapter, configure, describe, method, names, register
from asrpeft.methods.base import gaussian, zeros
from tests.methods.cases import recognizer, small

each = pytest.mark.parametrize("name", names())
NAMED_IN_THE_PLAN = ("lora", "s2lora", "loha", "ia3", "prompt", "prefix", "full", "bitfit")


def test_the_first_methods_are_there():
    assert set(NAMED_IN_THE_PLAN) <= set(names())


@each
def test_the_docstring_holds_a_title_a_link_a_shape_and_an_equation(name):
    message = describe(name)
    assert message.title and re.match(r"https?://\S+$", message.paper), f"{name}: no link"
    assert re.search(r"\w+ \([\w·/ ]+(, [\w·/ ]+)*,?\)", message.text), f"{name}: no shape such as A (rank, in)"
    assert re.search(r"[=←:]", message.equation) and len(message.equation) > 8, f"{name}: no equation"
    assert message.equation in inspect.getsource(inspect.getmodule(method(name)))


@each
def test_every_setting_has_a_default_and_takes_it_back_as_text(name):
    cls = method(name)
    default = cls.Config()
    as_text = {k: ",".join(v) if isinstance(v, tuple) else str(v) for k, v in vars(default).items()}
    assert configure(cls, as_text) == default == configure(cls, vars(default))


@each
def test_a_method_with_dropout_is_tried_with_it_and_with_none(name):
    """So that the common tests see that evaluation drops nothing."""
    dropouts = [key for key in vars(method(name).Config()) if "dropout" in key]
    for key in dropouts:
        assert {bool(tried.get(key, getattr(method(name).Config(), key))) for tried in method(name).tries} == {True, False}, key


@pytest.mark.parametrize("name", [name for name in names() if not method(name).mergeable and method(name).forward is not LayerAdapter.forward])
def test_an_edit_that_no_weight_form_checks_gives_its_equation_once_more(name):
    assert method(name).literal_edit is not LayerAdapter.literal_edit


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
        if isinstance(value, dict):
            wrong.remove({})
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


def test_a_second_method_of_one_name_is_refused_and_the_first_stays():
    lora = method("lora")
    with pytest.raises(ValueError, match="'lora' is asrpeft.methods.weight.lora.LoRA already: .*Other needs another name"):

        @register("lora")
        class Other(LayerAdapter):
            pass

    assert method("lora") is lora
    assert register("lora")(lora) is lora, "the same class again, as a notebook's cell gives it, is no second one"


def test_the_folder_of_methods_is_read_once(monkeypatch):
    names()
    monkeypatch.setattr("pkgutil.walk_packages", lambda *a: pytest.fail("the package was walked again"))
    assert method("lora").name == "lora" and "loha" in names()


@dataclass(frozen=True)
class Kinds:
    blocks: tuple[int, ...] = (2, 4)
    scales: tuple[float, ...] = ()
    names: tuple = ("fc2",)
    ranks: dict[str, int] = field(default_factory=dict)
    limit: float | None = None


class Odd(LayerAdapter):
    name = "odd"
    Config = Kinds


@pytest.mark.parametrize(
    "key, given, value",
    [
        ("blocks", "2,8", (2, 8)),
        ("blocks", [3], (3,)),
        ("scales", "0.5, 1e-2", (0.5, 0.01)),
        ("scales", "", ()),
        ("names", "fc1,fc2", ("fc1", "fc2")),
        ("ranks", "q_proj:4, fc1:8", {"q_proj": 4, "fc1": 8}),
        ("ranks", '{"decoder.*.fc1": 2}', {"decoder.*.fc1": 2}),
        ("ranks", {"a": 1}, {"a": 1}),
        ("limit", "none", None),
        ("limit", None, None),
        ("limit", "0.5", 0.5),
    ],
)
def test_settings_may_be_lists_of_numbers_numbers_by_name_or_nothing(key, given, value):
    assert getattr(configure(Odd, {key: given}), key) == value


@pytest.mark.parametrize(
    "key, given, why",
    [
        ("blocks", "2,x", "'2,x' is not a whole number"),
        ("blocks", [1.5], "whole number"),
        ("blocks", 3, "not a list of whole numbers"),
        ("scales", "a", "not a number"),
        ("ranks", "q_proj", "NAME:VALUE"),
        ("ranks", "q:2.5", "whole number"),
        ("ranks", 3, "NAME:VALUE"),
        ("limit", "x", "a number"),
    ],
)
def test_a_list_of_something_else_is_refused(key, given, why):
    with pytest.raises(BadInput, match=f"odd: {key}=.*{why}"):
        configure(Odd, {key: given})


def test_a_docstring_that_has_nothing_but_a_title_and_an_equation_keeps_its_equation(monkeypatch):
    import asrpeft.methods.weight.loha as file

    monkeypatch.setattr(file, "__doc__", "LoHa.\n\n    ΔW = (B₁A₁) ⊙ (B₂A₂)      Aᵢ (rank, in·k)\n")
    assert describe("loha").equation == "ΔW = (B₁A₁) ⊙ (B₂A₂)      Aᵢ (rank, in·k)" and describe("loha").title == "LoHa."


def test_a_scalar_can_be_a_parameter():
    assert zeros().shape == gaussian().shape == ()


@pytest.mark.parametrize("value", ["nan", "inf", float("nan"), float("-inf")])
def test_a_setting_is_a_number_that_one_can_compute_with(value):
    with pytest.raises(BadInput, match="not a number to compute with"):
        configure(method("lora"), {"alpha": value})
