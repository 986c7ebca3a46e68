"""`torch.compile` of a routed layer: one graph, without a break, for every route; the numbers are those of the layer as it is."""

from __future__ import annotations

import pytest
import torch
from torch import _dynamo as dynamo
from torch._dynamo.utils import counters
from torch.testing import assert_close

from asrpeft.adapters import attention
from asrpeft.adapters.routing import Ambient
from tests.methods.cases import batch, perturb, recognizer, small

METHODS = ("lora", "dora", "ia3", "houlsby")

# What traces a graph registers a device guard for a GPU that is not there, and a first backward pass after that starts threads for it, which
# processes forked off later (in the tests of kills and disks) could not do without. A backward pass before it starts none.
torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="module")
def model():
    made = recognizer().float()
    for seed, name in enumerate(METHODS):
        torch.manual_seed(seed)
        perturb(made.adapt(name, name=name, **small(name)), seed + 1)
    return made


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@torch.no_grad()
def test_a_compiled_layer_is_one_graph_for_each_route_and_follows_the_route(model, part):
    dynamo.reset()
    counters.clear()
    features, contexts, tokens = batch()
    states = model.encode(features.float(), contexts).states
    layer = getattr(model.base.model, part).layers[0]
    x = states if part == "encoder" else torch.randn(len(tokens), 1, states.shape[2])

    def run(x):
        return layer(x, None) if part == "encoder" else layer(x, encoder_hidden_states=states)

    compiled = torch.compile(run, backend="eager", dynamic=False)
    routes = ["lora", None, [None, *METHODS[:3]], ["ia3", "houlsby", "lora", None], "houlsby"]
    for route in (*routes, routes[2], routes[0]):
        with model.route(route):
            assert_close(compiled(x), run(x))
    assert not counters["graph_break"], dict(counters["graph_break"])
    assert counters["stats"]["unique_graphs"] == len(routes)


@torch.no_grad()
def test_a_compiled_layer_follows_the_route_of_its_own_thread(model):
    from concurrent.futures import ThreadPoolExecutor

    layer = model.base.model.encoder.layers[0]
    compiled = torch.compile(lambda x: layer(x, None), backend="eager", dynamic=False)
    x = torch.randn(2, 6, model.base.config.d_model)

    def other():
        with model.route("dora"):
            return compiled(x), layer(x, None)

    with model.route("lora"), ThreadPoolExecutor(1) as pool:
        here = compiled(x)
        there, plain_there = pool.submit(other).result()
        assert_close(here, layer(x, None))
        assert_close(compiled(x), here)
    assert_close(there, plain_there)
    assert not torch.allclose(here, there)


def test_an_attention_that_is_gone_is_forgotten_and_another_in_its_place_is_itself():
    known = len(attention._AMBIENT), len(attention._SITES)
    gone = torch.nn.Linear(1, 1)
    attention.watch(gone, Ambient(), attention.PrefixSource())
    assert (len(attention._AMBIENT), len(attention._SITES)) == (known[0] + 1, known[1] + 1)
    key = id(gone)
    del gone
    assert key not in attention._AMBIENT and key not in attention._SITES
