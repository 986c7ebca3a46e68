"""In a step of several passes ΔW is made once, and the gradient is what it is when every pass makes its own."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from asrpeft.methods import LayerAdapter, method
from asrpeft.methods.step_changes import made_once
from tests.methods.cases import batch, perturb, recognizer, small

METHODS = ["loha", "dora", "oft", "randlora", "s2lora", "lora", "full", "intrinsic"]


def gradients(name: str, *, share: bool, where: str | None = None, checkpointing: bool = False, autocast: bool = False, limit: int | None = None, **settings):
    """(gradients of two passes, how often a change was made)"""
    model = recognizer()
    torch.manual_seed(0)
    adapter = perturb(model.adapt(name, name="x", where=where, **small(name, **settings)), by=0.1).train()
    if not autocast:
        adapter.double()
    else:
        model.base.float()
    model.gradient_checkpointing(checkpointing)
    made, original = [], LayerAdapter._make

    def counted(self, layer, dtype):
        made.append(layer.path)
        return original(self, layer, dtype)

    LayerAdapter._make = counted
    try:
        with made_once(adapter.by_path().values() if share else (), limit) as changes:
            for seed in (3, 4):
                features, contexts, tokens = batch(seed=seed)
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    out = model(features.float() if autocast else features, contexts, tokens, route="x")
                    loss = (out.logits.float() ** 2 if autocast else out.logits**2).mean()
                loss.backward()
            changes.push()
    finally:
        LayerAdapter._make = original
    assert all(piece.step_changes is None for piece in adapter.by_path().values())
    return {n: p.grad.clone() for n, p in adapter.named_parameters() if p.grad is not None}, made


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_the_same_and_a_change_is_made_once(name, checkpointing):
    want, often = gradients(name, share=False, checkpointing=checkpointing)
    got, once = gradients(name, share=True, checkpointing=checkpointing)
    assert want.keys() == got.keys()
    for key in want:
        assert_close(got[key], want[key], atol=1e-12, rtol=1e-7)
    if often and name != "full":  # lora never makes one; full's is its parameter
        assert len(once) == len(set(once)) and len(often) >= 2 * len(once)


def test_a_table_of_tokens_and_its_head_share_one_change():
    want, often = gradients("loha", share=False, where="embed_tokens")
    got, once = gradients("loha", share=True, where="embed_tokens")
    assert len(often) == 4 and len(once) == 1
    for key in want:
        assert_close(got[key], want[key], atol=1e-12, rtol=1e-7)


def test_under_autocast_gradients_of_passes_are_added_up_in_float32():
    want, _ = gradients("loha", share=False, autocast=True)
    got, _ = gradients("loha", share=True, autocast=True)
    for key in want:
        assert got[key].dtype == torch.float32
        assert_close(got[key], want[key], atol=0.03 * float(want[key].abs().max()), rtol=0)


def test_what_does_not_fit_the_limit_is_made_by_every_pass():
    want, often = gradients("loha", share=False)
    got, made = gradients("loha", share=True, limit=0)
    assert len(made) == len(often) + len(set(often)), "tried once, then made by each pass"
    for key in want:
        assert_close(got[key], want[key], atol=1e-12, rtol=1e-7)


def test_a_training_step_of_several_batches_makes_changes_once_and_arrives_where_one_batch_does():
    from tests.bases import tiny_recognizer
    from tests.methods.test_plans import run

    ends, made, original = [], [], method("loha").delta

    def counted(self, w):
        made.append(id(self))
        return original(self, w)

    for changes in ({"batch_seconds": 60.0}, {"batch_seconds": 4.0, "accumulate": 100}):
        model = tiny_recognizer()
        torch.manual_seed(0)
        adapter = model.adapt("loha", name="x", lang="en", where="fc1", rank=2)
        method("loha").delta = counted
        made.clear()
        try:
            run(model, steps=1, lr=0.01, **changes)
        finally:
            method("loha").delta = original
        assert len(made) == len(adapter.layers)
        ends.append({n: t.detach().clone() for n, t in adapter.state_dict().items()})
    for name, tensor in ends[0].items():
        assert_close(ends[1][name], tensor, atol=2e-3, rtol=1e-3)
