"""ΔW is made once while it cannot have changed, outside autocast, under a bound of memory."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch.testing import assert_close

from asrpeft.methods import LayerAdapter, Pool
from asrpeft.methods.base import gaussian
from asrpeft.methods.change_cache import CHANGES, ChangeCache
from tests.methods.cases import DIM, batch, make_layer, pass_through, perturb, recognizer
from tests.methods.planted import planted


class Counted(LayerAdapter):
    """LoRA written the plainest way, which counts how often its ΔW was made and under what."""

    made: list = []

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.a, self.b = gaussian(2, layer.shape[1]), gaussian(layer.shape[0], 2)
        self.share = pool.share("scale", lambda: torch.ones(())) is not None

    @classmethod
    def size(cls, config, layer):
        return 2 * sum(layer.shape)

    @classmethod
    def shared_size(cls, config, layers):
        return 1

    def delta(self, w):
        made = self.pool["scale"] * (self.b @ self.a) + 0 * w
        self.made.append((w.dtype, made.dtype, torch.is_autocast_enabled("cpu")))
        return made


@pytest.fixture
def counted():
    Counted.made = []
    with planted(Counted):
        model = recognizer().float()
        adapter = model.adapt("planted", name="a", where="decoder.layers.0.fc1")
        yield model, adapter, next(iter(adapter.pieces.values()))


def ask(adapter, piece, dtype=torch.float32):
    return piece.change(next(iter(adapter.layers.values())), dtype)[0]


@torch.no_grad()
def test_decoding_makes_it_once(counted):
    model, adapter, _ = counted
    features, contexts, tokens = batch()
    for _ in range(5):
        pass_through(model, "a", features.float(), contexts, tokens)
    assert len(Counted.made) == 1


CHANGES_TO = {
    "its own parameter, in place": lambda m, a, p: p.a.mul_(2),
    "its own parameter, exchanged": lambda m, a, p: setattr(p.a, "data", torch.ones_like(p.a)),
    "its own parameter, another object": lambda m, a, p: setattr(p, "a", torch.nn.Parameter(torch.ones_like(p.a))),
    "the shared parameter": lambda m, a, p: a.pool["scale"].fill_(3.0),
    "the frozen weight": lambda m, a, p: next(iter(a.layers.values())).module.weight.mul_(2),
    "the state dict": lambda m, a, p: a.load_state_dict({n: t * 2 for n, t in a.state_dict().items()}),
    "a step of training, hidden from version counters": lambda m, a, p: (a.train(), p.a.data.mul_(3), a.eval()),
}


@pytest.mark.parametrize("what", CHANGES_TO)
@torch.no_grad()
def test_it_is_made_anew_when_what_it_is_made_of_changes(counted, what):
    model, adapter, piece = counted
    assert ask(adapter, piece) is ask(adapter, piece)
    CHANGES_TO[what](model, adapter, piece)
    assert_close(ask(adapter, piece), adapter.pool["scale"] * (piece.b @ piece.a))
    assert len(Counted.made) == 2 and ask(adapter, piece) is ask(adapter, piece)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adafactor])
@pytest.mark.parametrize("foreach", [False, True])
def test_an_optimizers_step_is_seen(counted, optimizer, foreach):
    _, adapter, piece = counted
    with torch.no_grad():
        before = ask(adapter, piece).clone()
    ask(adapter, piece).sum().backward()
    optimizer(adapter.parameters(), lr=0.1, foreach=foreach).step()
    with torch.no_grad():
        assert (ask(adapter, piece) - before).abs().max() > 1e-3


def test_where_a_gradient_is_wanted_it_is_part_of_the_graph_and_never_kept(counted):
    _, adapter, piece = counted
    for _ in range(2):
        ask(adapter, piece).sum().backward()
    assert piece.a.grad is not None and len(Counted.made) == 2
    for parameter in adapter.parameters():
        parameter.requires_grad_(False)
    assert ask(adapter, piece) is ask(adapter, piece), "a frozen adapter's is kept although gradients are recorded"


def test_one_made_in_inference_mode_serves_a_backward_pass(counted):
    _, adapter, piece = counted
    for parameter in adapter.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        ask(adapter, piece)
    x = torch.randn(2, 16, requires_grad=True)
    torch.nn.functional.linear(x, ask(adapter, piece)).sum().backward()
    assert x.grad is not None and len(Counted.made) == 1


@torch.no_grad()
def test_it_is_made_in_float32_outside_autocast_and_rounded_once():
    with planted(Counted):
        model = recognizer().bfloat16()
        adapter = model.adapt("planted", name="a", where="decoder.layers.0.fc1")
        piece = next(iter(adapter.pieces.values()))
        Counted.made = []
        with torch.autocast("cpu", torch.bfloat16):
            got = ask(adapter, piece, torch.bfloat16)
        assert Counted.made == [(torch.float32, torch.float32, False)]
        assert torch.equal(got, (piece.b @ piece.a).bfloat16())


class Residual(LayerAdapter):
    """ΔW = BA − B₀A₀, where what is subtracted is large: PiSSA's form."""

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        u, s, v = torch.linalg.svd(layer.matrix.float(), full_matrices=False)
        self.b, self.a = torch.nn.Parameter(u[:, :4] * s[:4]), torch.nn.Parameter(v[:4])
        self.keep("b0", self.b), self.keep("a0", self.a)

    def delta(self, w):
        return self.b @ self.a - self.b0 @ self.a0


@pytest.mark.parametrize("move", [0.1, 0.01, 0.001])
@torch.no_grad()
def test_a_small_move_of_large_factors_survives_bfloat16(move):
    layer = make_layer("linear without bias")
    piece = Residual(layer, Residual.Config(), Pool())
    noise = torch.Generator().manual_seed(0)
    for parameter in (piece.a, piece.b):
        parameter.mul_(1 + move * torch.randn(parameter.shape, generator=noise))
    x = torch.randn(3, 4, DIM, generator=noise)
    exact = x.double() @ piece.delta(None).double().T
    with torch.autocast("cpu", torch.bfloat16):
        got = piece(x, torch.zeros(3, 4, DIM, dtype=torch.bfloat16), layer)
    assert float((got.double() - exact).norm() / exact.norm()) < 0.01


@torch.no_grad()
def test_what_is_kept_goes_with_its_adapter_and_is_no_part_of_a_copy():
    with planted(Counted):
        model = recognizer().float()
        adapter = model.adapt("planted", name="a", where="decoder.layers.0.fc1")
        gc.collect()
        before = CHANGES.bytes
        ask(adapter, next(iter(adapter.pieces.values())))
        assert CHANGES.bytes - before == 32 * 16 * 4
        twin = copy.deepcopy(model)
        assert CHANGES.bytes - before == 32 * 16 * 4 and twin.adapters.names() == ["a"]
        del adapter, model
        gc.collect()
        assert CHANGES.bytes == before


class Piece(torch.nn.Module):
    pass


def test_no_more_bytes_are_kept_than_the_bound_and_what_does_not_fit_is_made_each_time():
    kept, pieces, made = ChangeCache(limit=3 * 400), [Piece() for _ in range(5)], []

    def ask(i):
        return kept.get(pieces[i], [], torch.float32, lambda: (made.append(i), (torch.zeros(100), None))[1])

    for _ in range(4):  # a model whose five changes do not all fit: three are kept, and not thrown out by turns
        for i in range(5):
            ask(i)
    assert kept.bytes == 1200 and made == [0, 1, 2, 3, 4] + [3, 4] * 3
    made.clear()
    for _ in range(4):  # another model's turn: its own take the place of what is no longer used
        ask(3), ask(4)
    assert made == [3, 4] and kept.bytes == 1200
    del pieces[0]
    gc.collect()
    assert kept.bytes <= 1200
    kept.forget(pieces[-1])
    assert kept.bytes <= 800
    assert ChangeCache(limit=10).get(pieces[0], [], torch.float32, lambda: (torch.zeros(100), None))[0].numel() == 100


@torch.no_grad()
def test_a_change_that_is_a_parameter_itself_takes_no_room():
    model = recognizer().float()
    adapter = perturb(model.adapt("full", name="a", where="decoder.layers.0.fc1"))
    before = CHANGES.bytes
    ask(adapter, next(iter(adapter.pieces.values())))
    assert CHANGES.bytes == before
