"""Arithmetic of adapters: one adapter in place of a sum, exactly where the methods permit, else with the error it says."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from asrpeft.adapters.compose import compose, expression
from asrpeft.adapters.intruders import intruders, of_weights
from asrpeft.adapters.routing import summed
from asrpeft.errors import BadInput, CannotMerge
from tests.methods.cases import batch, pass_through, perturb, recognizer, small


def adapted(*names: str, **settings):
    """A recognizer with an adapter for each name, of the method that the name begins with, moved from its start."""
    model = recognizer()
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        own = name.split("-")[0]
        perturb(model.adapt(own, name=name, **(small(own) | settings)), seed + 1, by=0.1)
    return model


def composed(model, text: str, **how):
    found = compose(model.adapters, summed(text), name="sum", **how)
    model.adapters.attach(found.adapter.double())
    return found


def outputs(model, route):
    with torch.no_grad():
        return pass_through(model, route, *batch())[1]


def test_loras_side_by_side_are_their_sum_exactly_and_of_the_sum_of_their_ranks():
    model = recognizer()
    for seed, (name, rank, where) in enumerate((("a", 2, "attention"), ("b", 3, "q_proj,fc1"), ("c", 1, "encoder.conv1,embedding"))):
        torch.manual_seed(seed)
        perturb(model.adapt("lora", name=name, rank=rank, where=where), seed + 1, by=0.1)
    model.double()
    found = composed(model, "a + 0.5*b - 2*c")
    assert found.exact and found.error == 0.0 and found.adapter.config.rank == 6
    assert_close(outputs(model, "sum"), outputs(model, "a+0.5*b - 2*c"), atol=1e-6, rtol=1e-4)
    assert (outputs(model, "sum") - outputs(model, "a")).abs().max() > 1e-3
    plain = model.adapters["sum"]
    assert not plain.by_path()["encoder.conv1"].a[:5].any() and plain.trained_parameters() == plain.formula_size()


@pytest.mark.parametrize("text", ["loha", "lora-1 + 0.5*loha", "dora - lora-1", "2*vera"])
def test_any_sum_is_exact_as_a_full_adapter_and_says_how_far_a_lora_of_some_rank_is_from_it(text):
    model = adapted(*{name for name, _ in summed(text)}, where="attention").double()
    full = composed(model, text, form="full")
    assert full.exact and full.adapter.manifest.method == "full"
    assert_close(outputs(model, "sum"), outputs(model, text), atol=1e-6, rtol=1e-5)
    model.adapters.detach("sum")
    errors = []
    for rank in (1, 4, 16):
        near = composed(model, text, rank=rank)
        assert not near.exact and near.adapter.config.rank == rank
        errors.append(near.error)
        model.adapters.detach("sum")
    assert errors[0] > 0.01 and errors[0] > errors[1] >= errors[2] and errors[2] < 1e-5  # 16: the layers' own width


@torch.no_grad()
def test_the_error_that_is_said_is_the_distance_to_the_sum_and_no_lora_of_that_rank_is_nearer():
    model = adapted("loha", rank=2)
    found = compose(model.adapters, summed("loha"), name="near", rank=2)
    path, piece = next(iter(found.adapter.by_path().items()))
    w, b = model.adapters.layers[path].wide()
    wanted = model.adapters["loha"].by_path()[path].merged(w, b)[0] - w
    values = torch.linalg.svdvals(wanted)
    assert found.errors[path] == pytest.approx(float((wanted - piece.delta(w)).norm() / wanted.norm()), rel=1e-3)
    assert found.errors[path] == pytest.approx(float(values[2:].norm() / values.norm()), rel=1e-3)


def test_a_sum_of_low_rank_is_written_exactly_without_a_word_about_rank():
    model = adapted("loha", where="fc1", rank=2).double()  # of rank four at most: (16, 32) has room for it
    found = composed(model, "loha")
    assert found.exact and found.adapter.config.rank == 4
    assert_close(outputs(model, "sum"), outputs(model, "loha"), atol=1e-6, rtol=1e-5)


def test_a_sum_of_high_rank_asks_how_near_the_lora_must_be():
    model = adapted("full", where="q_proj,k_proj")
    model.adapters["full"].by_path()["encoder.layers.0.self_attn.k_proj"].requires_grad_(False)
    for piece in model.adapters["full"].by_path().values():
        if piece.db is not None:
            piece.db.data.zero_()
    with pytest.raises(BadInput, match=r"rank 16.*--rank 4 \(error \d+%\).*--form full, which is exact"):
        compose(model.adapters, summed("full"), name="sum")


def test_what_has_no_single_adapter_is_refused_with_the_reason():
    model = adapted("lora", "prompt", "bitfit", "houlsby")
    with pytest.raises(CannotMerge, match="'prompt' is prompt, which acts on activations"):
        compose(model.adapters, summed("lora+prompt"), name="sum")
    with pytest.raises(CannotMerge, match="'houlsby'"):
        compose(model.adapters, summed("houlsby"), name="sum", form="full")
    with pytest.raises(BadInput, match="moves biases .* and a LoRA has none.*--form full"):
        compose(model.adapters, summed("lora+bitfit"), name="sum", rank=4)
    perturb(model.adapt("lora", name="apart", where="embedding", rank=2, head=False), 5)
    perturb(model.adapt("lora", name="tied", where="embedding", rank=2), 6)
    with pytest.raises(BadInput, match="output head"):
        compose(model.adapters, summed("apart+tied"), name="sum")
    assert compose(model.adapters, summed("apart+lora"), name="sum").adapter.config.head is False


@pytest.mark.parametrize(
    "how, match",
    [
        ({"form": "zip"}, "no form 'zip'"),
        ({"drop": 1.0}, "--drop"),
        ({"drop": -0.1}, "--drop"),
        ({"rank": 0}, "at least 1"),
        ({"form": "full", "rank": 2}, "has none"),
    ],
)
def test_what_cannot_be_asked_is_refused(how, match):
    model = adapted("lora")
    with pytest.raises(BadInput, match=match):
        compose(model.adapters, summed("lora"), name="sum", **how)


def test_what_is_dropped_is_the_seeds_and_the_rest_grows_by_as_much():
    model = adapted("lora", where="fc1")
    whole = compose(model.adapters, summed("lora"), name="sum", form="full").adapter.by_path()
    halves = [compose(model.adapters, summed("lora"), name="sum", form="full", drop=0.5, seed=seed).adapter.by_path() for seed in (0, 0, 1)]
    path = next(iter(whole))
    one, same, other = (half[path].dw for half in halves)
    assert torch.equal(one, same) and not torch.equal(one, other)
    kept = one != 0
    assert 0.4 < kept.float().mean() < 0.6
    assert_close(one[kept], 2 * whole[path].dw[kept])


def test_one_bit_a_weight_has_the_signs_of_the_change_and_the_mean_of_its_size():
    model = adapted("lora").double()
    found = composed(model, "lora", form="bits")
    path, piece = next(iter(found.adapter.by_path().items()))
    w, _ = model.adapters.layers[path].wide()
    wanted = model.adapters["lora"].by_path()[path].delta(w)
    made = piece.delta(w)
    assert torch.equal(made.sign(), torch.where(wanted > 0, 1.0, -1.0).double())
    assert_close(made.abs(), torch.full_like(made, float(wanted.abs().mean())), rtol=1e-5, atol=1e-7)
    best = min(float((wanted - scale * made.sign()).norm()) for scale in torch.linspace(0, 2 * float(wanted.abs().mean()), 41))
    assert float((wanted - made).norm()) == pytest.approx(best, rel=1e-3) and not found.exact and 0 < found.error < 1
    numbers = found.adapter.tensors()[1]
    assert numbers[f"sites.{path}.bits"].nbytes == w.shape[0] * w.shape[1] // 8


def test_language_and_record_of_the_first_go_along_and_of_all_what_they_were_trained_on():
    from asrpeft.corpus.traces import Record, Trace

    def record(*numbers):
        return {"record": {"train": Record(Trace.of(numbers, 9), Trace.of(numbers, 9), Trace.of((), 9)).to_json()}}

    model = adapted("lora-1", "lora-2")
    model.adapters.describe("lora-1", language="sw", context="auto", scores={"after": {"wer": 0.1}}, training=record(1, 2))
    model.adapters.describe("lora-2", language="yo", training=record(3))
    made = compose(model.adapters, summed("lora-1+lora-2"), name="sum").adapter.manifest
    assert (made.language, made.context, made.scores) == ("sw", "auto", {}) and made.base_fingerprint == model.adapters.fingerprint
    assert Record.from_json(made.training["record"]["train"]).recordings.digests == (1, 2, 3) and made.training["composed"] == "lora-1 + lora-2"


def test_a_learned_language_goes_along_where_it_comes_first_and_whole():
    model = adapted("lora").double()
    perturb(model.adapt("lora", name="new", rank=2, lang="klingon"), 4).double()
    assert_close(outputs(composed_with(model, "new+lora"), "sum"), outputs(model, "new+lora"), atol=1e-6, rtol=1e-4)
    for text in ("lora+new", "0.5*new+lora"):
        with pytest.raises(BadInput, match="learned vector for 'klingon'.*first, with the weight 1"):
            compose(model.adapters, summed(text), name="again")


def composed_with(model, text):
    composed(model, text)
    return model


@pytest.mark.parametrize("text", ["a", "a + 0.5*b - c", "-1*a + b", "0.25*a - 2*b", "-0.5*a"])
def test_an_expression_is_written_as_it_is_read(text):
    assert expression(summed(text)) == text


def test_intruders_are_new_directions_and_a_scaled_weight_has_none():
    torch.manual_seed(0)
    w = torch.linalg.qr(torch.randn(32, 32))[0] @ torch.diag(torch.linspace(3, 0.5, 32)) @ torch.linalg.qr(torch.randn(32, 32))[0]
    assert of_weights(w, 1.5 * w, top=5)[:2] == (0, 5)
    foreign = torch.nn.functional.normalize(torch.ones(32) + 0.1 * torch.randn(32), dim=0)
    count, of, least = of_weights(w, w + 30 * torch.outer(foreign, torch.randn(32)), top=5)
    assert (count, of) == (1, 5) and least < 0.5
    model = adapted("lora", "prompt")
    assert [one.path for one in intruders(model.adapters["lora"])] == list(model.adapters["lora"].layers)
    with pytest.raises(CannotMerge, match="no intruder dimensions"):
        list(intruders(model.adapters["prompt"]))
