"""In half precision a row gets W + ΔW made in float32 and rounded once: what merging writes, whatever else is in the batch."""

from __future__ import annotations

import contextlib
import gc

import pytest
import torch
from torch.testing import assert_close

from asrpeft.methods import method, names
from tests.bases import tiny_recognizer
from tests.methods.cases import bench, pairs, perturb, shown

MERGED = [name for name in names() if method(name).mergeable and method(name).changes_weights() and not method(name).conditioned]
HALF = [pair for pair in pairs() if pair[0] in MERGED and pair[1] != "embedding"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "autocast"])
@pytest.mark.parametrize("name, kind, tried", HALF, ids=shown)
@torch.no_grad()
def test_routed_is_merged_to_the_last_bit_and_a_row_is_itself_in_any_company(name, kind, tried, dtype):
    if dtype == torch.float32 and kind == "norm":
        pytest.skip("autocast leaves norms in float32")
    here = bench(name, kind, tried, dtype=dtype).perturb()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        routed = here.run("ppp")[0]
        assert torch.equal(here.run("p-q")[0][:1], routed[:1]) and torch.equal(here.run("qp-")[0][1:2], routed[1:2])
        here.site.merge("p")
        assert torch.equal(here.layer.module(here.x), routed)


@torch.no_grad()
def test_a_sum_routed_is_the_sum_merged_to_the_last_bit():
    model = tiny_recognizer(source=40)
    for seed, (name, own) in enumerate((("a", "lora"), ("b", "ia3"))):
        perturb(model.adapt(own, name=name, where="fc2,k_proj"), seed + 1, by=0.2)
    model.base.model.encoder.to(torch.bfloat16)
    features, frames = torch.randn(3, 8, 80), torch.tensor([40, 40, 40])

    def states(route):
        with contextlib.nullcontext() if route is None else model.route(route):
            return model.encode(features, frames).states

    plain, routed, mixed = states(None), states("a+0.5*b"), states(["a+0.5*b", "a", None])
    assert not torch.equal(routed, plain) and torch.equal(mixed[2], plain[2])
    assert torch.equal(mixed[0], routed[0])
    model.adapters.merge("a+0.5*b")
    assert torch.equal(states(None), routed)


def test_where_a_gradient_is_wanted_the_thin_way_stays():
    here = bench("lora", "linear", {"rank": 2}, dtype=torch.bfloat16).perturb()
    here.run("ppp")[0].float().sum().backward()
    assert all(p.grad is not None for p in here.pieces["p"].parameters())


@torch.no_grad()
def test_a_weight_that_was_moved_is_rounded_anew_also_in_a_sum():
    from asrpeft.adapters.routing import Route

    here = bench("lora", "linear", {"rank": 2}, dtype=torch.bfloat16).perturb()

    def run(name):
        with here.site.ambient.set(route=Route(name, {"both": (("p", 1.0), ("q", 0.5))})):
            return here.layer.module(here.x)

    before = run("p"), run("both")
    assert torch.equal(run("p"), before[0]) and torch.equal(run("both"), before[1])
    perturb(here.pieces["q"], 9, by=1.0)
    assert torch.equal(run("p"), before[0]) and not torch.equal(run("both"), before[1])


@torch.no_grad()
def test_in_float32_nothing_is_kept_that_is_as_large_as_the_weight():
    from asrpeft.methods.change_cache import CHANGES

    gc.collect()  # what earlier tests left must not be collected, and forgotten, between the two counts
    before = CHANGES.bytes
    here = bench("lora", "linear", {"rank": 2}).perturb()
    y = here.run("ppp")[0]
    assert CHANGES.bytes == before
    here.site.merge("p")
    assert_close(here.layer.module(here.x), y)
