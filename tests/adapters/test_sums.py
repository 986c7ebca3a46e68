"""Sums: a row that uses several adapters at once, with weights, of one method or of several."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.testing import assert_close

from asrpeft.adapters.routing import summed
from asrpeft.errors import BadRoute, CannotMerge
from tests.methods.cases import batch, pass_through, perturb, recognizer, small

METHODS = ("lora", "ia3", "dora", "oft", "bitfit", "full")


def adapted(*names: str):
    model = recognizer()
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        perturb(model.adapt(name.split("-")[0], name=name, **small(name.split("-")[0])), seed + 1, by=0.1)
    return model.double()


@pytest.mark.parametrize("a, b", list(itertools.combinations(METHODS, 2)) + [("lora-1", "lora-2"), ("ia3-1", "ia3-2")])
@torch.no_grad()
def test_a_sum_merged_is_the_sum_routed_in_either_order_and_by_row(a, b):
    """At places where both act, one of them on the input of the other's layer among them (ia3 on fc2, lora on all)."""
    model = recognizer()
    for seed, name in enumerate((a, b)):
        torch.manual_seed(seed)
        own = name.split("-")[0]
        perturb(model.adapt(own, name=name, where="k_proj,fc2,out_proj", **small(own)), seed + 1, by=0.2)
    model.double()
    given = batch()
    text = f"{a}+0.5*{b}"
    routed = pass_through(model, text, *given)
    alone = pass_through(model, a, *given)
    assert (routed[1] - alone[1]).abs().max() > 1e-3
    for x, y in zip(pass_through(model, f"0.5*{b} + {a}", *given), routed):
        assert_close(x, y, atol=1e-8, rtol=1e-6)
    mixed = pass_through(model, [text, None, a, b], *given)[1]
    assert_close(mixed[0], routed[1][0], atol=1e-8, rtol=1e-6)
    assert_close(mixed[2], alone[1][2], atol=1e-8, rtol=1e-6)
    before = {n: t.clone() for n, t in model.base.state_dict().items()}
    model.adapters.merge(text)
    for x, y in zip(pass_through(model, text, *given), routed):
        assert_close(x, y, atol=1e-6, rtol=1e-5)
    with pytest.raises(BadRoute, match="merged"):
        pass_through(model, a, *given)
    model.adapters.detach(b)
    assert model.adapters.merged == () and all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items())


@torch.no_grad()
def test_a_weight_scales_a_change_and_zero_and_opposites_are_the_base():
    model, given = adapted("lora-1", "lora-2"), batch()
    plain = pass_through(model, None, *given)[1]
    assert_close(pass_through(model, "0*lora-1", *given)[1], plain)
    assert_close(pass_through(model, "1.0*lora-1", *given)[1], pass_through(model, "lora-1", *given)[1])
    perturb(model.adapters["lora-2"])
    model.adapters["lora-2"].load_state_dict(model.adapters["lora-1"].state_dict())
    assert_close(pass_through(model, "lora-1+-1*lora-2", *given)[1], plain)
    half = pass_through(model, "0.5*lora-1+.5*lora-2", *given)[1]
    assert_close(half, pass_through(model, "lora-1", *given)[1], atol=1e-8, rtol=1e-6)


@torch.no_grad()
def test_virtual_tokens_stand_beside_a_change_of_weights_and_cannot_be_halved():
    model, given = adapted("prompt", "lora", "prefix"), batch()
    tokens = given[2]
    routed = pass_through(model, "prompt+prefix+0.5*lora", *given)[1]
    assert routed.shape[:2] == tokens.shape and (routed - pass_through(model, "prompt+prefix", *given)[1]).abs().max() > 1e-3
    row = pass_through(model, [None, "prompt+prefix+0.5*lora", "lora", "prompt"], *given)[1][1]
    assert_close(row, routed[1], atol=1e-8, rtol=1e-6)
    with pytest.raises(BadRoute, match="'prompt' has virtual tokens.*0.5 times"):
        pass_through(model, "lora+0.5*prompt", *given)
    with pytest.raises(CannotMerge, match="prompt acts on activations"):
        model.adapters.merge("lora+prompt")


def test_a_sum_takes_its_first_adapters_language_and_room_for_all_its_virtual_tokens():
    from asrpeft.decoding.start import as_route, prompt_rows

    model = adapted("lora", "prompt").float()
    model.adapters.describe("lora", language="sw")
    assert model.prompt(lang=None, adapter="lora+prompt") == model.prompt(lang="sw")
    assert model.context_for("lora+prompt") == model.context_for("lora")
    assert prompt_rows(model, as_route("lora+prompt", 1)) == 3 and prompt_rows(model, as_route("lora", 1)) == 0


def test_a_gradient_reaches_every_adapter_of_a_sum():
    model, given = adapted("lora", "ia3", "oft"), batch()
    pass_through(model, "lora+0.5*ia3+2*oft", *given)[1].square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for name in ("lora", "ia3", "oft") for p in model.adapters[name].parameters())


@pytest.mark.parametrize(
    "text, terms",
    [
        ("a+b", (("a", 1.0), ("b", 1.0))),
        ("sw+0.5*speaker-12", (("sw", 1.0), ("speaker-12", 0.5))),
        (" a + -2 * b", (("a", 1.0), ("b", -2.0))),
        (".5*a", (("a", 0.5),)),
    ],
)
def test_a_sum_is_read(text, terms):
    assert summed(text) == terms


@pytest.mark.parametrize("text", ["a+", "+a", "a++b", "0.5*", "a+a"])
def test_what_is_no_sum_is_refused(text):
    with pytest.raises(BadRoute, match="no sum of adapters"):
        summed(text)


def test_an_unknown_adapter_in_a_sum_is_named_and_a_name_with_a_plus_is_itself():
    model = adapted("lora")
    with pytest.raises(BadRoute, match="no adapter 'lroa'"):
        pass_through(model, "lora+lroa", *batch())
    perturb(model.adapt("lora", name="c+d", rank=2), 5).double()
    assert (pass_through(model, "c+d", *batch())[1] - pass_through(model, None, *batch())[1]).abs().max() > 1e-3
