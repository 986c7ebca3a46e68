"""Gradients of frozen weights in a step, and the sparse method, which moves by them."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from asrpeft.errors import BadInput
from asrpeft.methods import Plan, Pool, configure, method
from asrpeft.methods.weight.sparse import chosen
from asrpeft.training import loop
from tests.bases import tiny_recognizer
from tests.methods.cases import make_layer
from tests.methods.test_plans import run


class Watch(Plan):
    """Asks for dense gradients in the second step, and keeps them beside those of `full`'s own ΔW."""

    seen: dict = {}

    def wants_gradients(self, adapter, *, step, progress):
        return step == 1

    def see_gradients(self, adapter, gradients, *, step, progress):
        self.seen |= {"step": step, "dense": gradients, "own": {path: piece.dw.grad.clone() for path, piece in adapter.by_path().items()}}

    def before_step(self, adapter, *, step, progress):
        assert ("dense" in self.seen) == (step >= 1)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 3, "batch_seconds": 2.0}, {"gradient_checkpointing": True}], ids=["one", "several", "checkpointing"])
def test_dense_gradients_are_those_that_training_every_number_would_have(changes, monkeypatch):
    monkeypatch.setattr(Watch, "seen", {})
    monkeypatch.setattr(method("full"), "plan", classmethod(lambda cls, config: Watch()))
    model = tiny_recognizer()
    model.adapt("full", name="x", lang="en", where="fc1,q_proj,conv1,conv2,decoder.embed_tokens,decoder.layer_norm")
    run(model, steps=3, clip=0.0, lr=0.01, **changes)
    own, dense = Watch.seen["own"], Watch.seen["dense"]
    assert own.keys() == dense.keys() and Watch.seen["step"] == 1
    for path, gradient in own.items():
        assert gradient.abs().max() > 0
        assert_close(dense[path], gradient, atol=1e-6, rtol=1e-4)
    assert not any(p.grad is not None for p in model.base.parameters())


# -- sparse ------------------------------------------------------------------------------------------------------------
def test_places_of_each_pattern_are_what_it_says():
    score = torch.arange(48.0).view(6, 8)
    assert chosen(score, (1, 1), 3).tolist() == [45, 46, 47]
    assert chosen(score, (1, 8), 16).tolist() == list(range(32, 48))
    assert sorted(chosen(score, (3, 4), 12).tolist()) == [row * 8 + column for row in (3, 4, 5) for column in (4, 5, 6, 7)]


def test_magnitude_takes_the_largest_weights():
    layer = make_layer("linear")
    piece = method("sparse")(layer, configure(method("sparse"), {"pattern": "magnitude", "density": 0.1}), Pool([layer]))
    w = layer.matrix.abs().flatten()
    assert sorted(piece.at.tolist()) == sorted(w.topk(4).indices.tolist())


def test_gradient_takes_the_places_where_the_loss_pulls_most(monkeypatch):
    model = tiny_recognizer()
    adapter = model.adapt("sparse", name="x", lang="en", where="fc1", pattern="gradient", density=0.02, batches=2)
    own, seen = type(adapter.plan()), {}

    class Look(own):
        def before(self, adapter, passes):
            super().before(adapter, passes)
            seen.update(passes.gradients(2))

    monkeypatch.setattr(method("sparse"), "plan", classmethod(lambda cls, config: Look(config)))
    run(model, steps=1, lr=0.01)
    for path, piece in adapter.by_path().items():
        assert sorted(piece.at.tolist()) == sorted(seen[path].abs().flatten().topk(len(piece.v)).indices.tolist())
        assert piece.v.abs().max() > 0


def test_a_block_cannot_be_dropped_number_by_number():
    with pytest.raises(BadInput, match="spiel.*pattern='block'"):
        configure(method("sparse"), {"pattern": "block", "update": "spiel"})


def spiel(steps: int = 10, **keep):
    model = tiny_recognizer()
    torch.manual_seed(0)
    adapter = model.adapt("sparse", name="x", lang="en", where="fc1,fc2", density=0.05, update="spiel", cycles=4, drop=0.5, until=0.8)
    run(model, steps=steps, lr=0.01, **keep)
    return model, adapter


def test_drop_and_grow_moves_places_to_where_gradients_are_and_forgets_what_was_there(monkeypatch, tmp_path):
    own, cycles = method("sparse").plan(configure(method("sparse"), {"update": "spiel"})), []

    class Look(type(own)):
        def see_gradients(self, adapter, gradients, *, step, progress):
            before = {path: (piece.at.clone(), piece.v.detach().clone()) for path, piece in adapter.by_path().items()}
            super().see_gradients(adapter, gradients, step=step, progress=progress)
            for path, piece in adapter.by_path().items():
                (at, v), moved = before[path], piece.at != before[path][0]
                n = int(moved.sum())
                assert len(set(piece.at.tolist())) == len(at), "two values at one place"
                if not n:
                    continue
                assert v[moved].abs().max() <= v[~moved].abs().min() and bool((piece.v[moved] == 0).all())
                rest = gradients[path].abs().flatten()
                rest[at.long()] = 0
                assert sorted(piece.at[moved].tolist()) == sorted(rest.topk(n).indices.tolist())
                if step:
                    state = self.optimizer.state[piece.v]
                    assert bool((state["exp_avg"][moved] == 0).all()) and bool((state["exp_avg_sq"][moved] == 0).all())
                    assert bool((state["exp_avg"][~moved] != 0).any())
                cycles.append((step, n))

    monkeypatch.setattr(method("sparse"), "plan", classmethod(lambda cls, config: Look(config)))
    model, adapter = spiel()
    steps, counts = sorted({step for step, _ in cycles}), [n for _, n in cycles]
    assert len(steps) >= 3 and steps[-1] < 8 and counts[0] > counts[-1], "fewer and fewer, and none after `until`"
    back = model.adapters.load(adapter.save(tmp_path / "a"), name="b")
    assert all(torch.equal(t, adapter.state_dict()[n]) for n, t in back.state_dict().items() if "cycles" not in n)


def test_an_interrupted_run_goes_on_to_the_same_places(tmp_path):
    _, whole = spiel()
    original, taken = loop.Run.step, []

    def step(self, data):
        original(self, data)
        taken.append(1)
        if len(taken) == 4:
            raise KeyboardInterrupt

    loop.Run.step = step
    try:
        with pytest.raises(KeyboardInterrupt):
            spiel(checkpoint=tmp_path / "run", checkpoint_s=0)
    finally:
        loop.Run.step = original
    _, resumed = spiel(checkpoint=tmp_path / "run", resume=True)
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_peft_gives_the_same_change_for_the_same_places():
    peft = pytest.importorskip("peft", reason="peft is in the extra `test`")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5))
    theirs = peft.get_peft_model(net, peft.ShiraConfig(r=1, target_modules=["0"])).base_model.model[0]
    from asrpeft.methods.layers import layer_of

    layer = layer_of("layers.0.q_proj", theirs.base_layer)
    piece = method("sparse")(layer, configure(method("sparse"), {"density": 11 / 30}), Pool([layer]))
    with torch.no_grad():
        piece.v.normal_(), piece.at.copy_(theirs.shira_indices["default"][0] * 6 + theirs.shira_indices["default"][1])
        theirs.shira_weight["default"].copy_(piece.v)
    assert_close(piece.delta(layer.matrix), theirs.get_delta_weight("default").to_dense())
