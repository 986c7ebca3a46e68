"""Attention as matrix products of bfloat16, block by block: the numbers of PyTorch's kernel, within what bfloat16 holds, and where it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from asrpeft.adapters import attention, blocked_attention
from asrpeft.options import TrainingOptions
from asrpeft.training import TrainingData, train
from tests.bases import tiny_recognizer
from tests.training.tones import tones

ROWS, HEADS, QUERIES, KEYS, DIM = 3, 2, 7, 11, 16
CAUSAL = torch.ones(QUERIES, KEYS, dtype=torch.bool).tril(KEYS - QUERIES)[None, None]
PADDING = (torch.arange(KEYS) < torch.tensor([11, 6, 1])[:, None])[:, None, None]
MASKS = {
    "none": None,
    "causal": CAUSAL,
    "padding": PADDING,
    "both": CAUSAL & PADDING,
    "added": torch.randn(ROWS, 1, 1, KEYS, generator=torch.Generator().manual_seed(1)),
}


def inputs(dtype: torch.dtype = torch.bfloat16, keys: int = KEYS) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [(ROWS, HEADS, n, DIM) for n in (QUERIES, keys, keys)]
    return [torch.randn(shape, generator=random).bfloat16().to(dtype).requires_grad_() for shape in shapes]


def gradients(of: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.randn(of.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    return list(torch.autograd.grad(of, inputs, weight.to(of.dtype)))


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("mask", MASKS)
def test_it_is_scaled_dot_product_attention_within_bfloat16(mask, scale):
    halves, exact = inputs(), inputs(torch.float64)
    seen = MASKS[mask]
    found = blocked_attention.blocked_attention(*halves, seen, scale=scale)
    right = F.scaled_dot_product_attention(*exact, attn_mask=seen if seen is None or seen.dtype == torch.bool else seen.double(), scale=scale)
    for ours, theirs in zip([found, *gradients(found, halves)], [right, *gradients(right, exact)]):
        assert ours.dtype == torch.bfloat16 and float((ours.double() - theirs).norm() / theirs.norm()) < 0.02


@pytest.mark.parametrize("size", [1.0, 30.0, 60.0, 400.0, -400.0, 3e38])
def test_weights_of_large_and_of_vanishing_products_sum_to_one(size):
    products = torch.randn(2, 5, 33, generator=torch.Generator().manual_seed(0)).mul(min(abs(size), 1e6)).add(size if abs(size) < 1e6 else 0.0).bfloat16()
    products[:, 1, 4:] = torch.finfo(torch.bfloat16).min
    products[1, 2] = torch.finfo(torch.bfloat16).min  # nothing is seen: all the same, as in PyTorch
    found = blocked_attention._softmax(products)
    assert found.dtype == torch.bfloat16 and torch.allclose(found.double(), products.double().softmax(-1), atol=0.004)


@pytest.mark.parametrize("name, value", [("BLOCK", 1), ("KEPT", 0)])
def test_neither_how_many_heads_are_in_a_block_nor_what_is_computed_again_changes_a_number(name, value, monkeypatch):
    def all_numbers() -> list[Tensor]:
        own = inputs()
        found = blocked_attention.blocked_attention(*own, PADDING, scale=0.25)
        return [found, *gradients(found, own)]

    before = all_numbers()
    monkeypatch.setattr(blocked_attention, name, value)
    for a, b in zip(before, all_numbers()):
        assert torch.equal(a, b) if name == "KEPT" else torch.allclose(a, b, atol=0.02)


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_what_nothing_trained_lies_before_gets_no_gradient_and_costs_none(trained):
    own = [one if i == trained else one.detach() for i, one in enumerate(inputs())]
    whole = inputs()
    alone = gradients(blocked_attention.blocked_attention(*own, None, scale=1.0), [own[trained]])[0]
    assert torch.equal(alone, gradients(blocked_attention.blocked_attention(*whole, None, scale=1.0), whole)[trained])


def test_it_is_taken_in_training_in_bfloat16_where_the_processor_multiplies_that(monkeypatch):
    monkeypatch.setattr(blocked_attention, "QUICK", True)
    half, single = inputs(), inputs(torch.float32)
    assert blocked_attention.pays(*half, dropout=0.0)
    assert not blocked_attention.pays(*single, dropout=0.0) and not blocked_attention.pays(*half, dropout=0.1)
    assert not blocked_attention.pays(*(one.detach() for one in half), dropout=0.0)
    with torch.no_grad():
        assert not blocked_attention.pays(*half, dropout=0.0)
    monkeypatch.setattr(blocked_attention, "QUICK", False)
    assert not blocked_attention.pays(*half, dropout=0.0)


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_a_run_that_takes_it_learns_as_one_that_does_not(method, monkeypatch):
    losses = {}
    for taken in (True, False):
        calls = []

        def pays(*args, taken=taken, calls=calls, **kwargs):
            calls.append(args)
            return taken and torch.is_grad_enabled() and args[0].dtype == torch.bfloat16

        monkeypatch.setattr(attention, "pays", pays)
        recognizer = tiny_recognizer()
        torch.manual_seed(0)
        recognizer.adapt(method, name="x", lang="en")
        seen: list[float] = []
        options = TrainingOptions(steps=6, lr=0.01, precision="bf16", batch_seconds=60.0, nonspeech_share=0.0, workers=0)
        data = TrainingData(tones(6), recognizer.prompt(lang="en", adapter="x"))
        train(recognizer, "x", data, options=options, progress=lambda event, seen=seen: seen.append(event.loss) if hasattr(event, "loss") else None)
        assert calls
        losses[taken] = torch.tensor(seen)
    assert torch.allclose(losses[True], losses[False], rtol=0.02) and losses[True][-1] < losses[True][0]
