"""S2-LoRA: what is shared, what becomes zero, what that leaves."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from asrpeft.adapters.adapter import TENSORS
from asrpeft.errors import BadInput
from asrpeft.methods.weight.s2lora import ProximalL1, S2LoRA
from tests.methods.cases import batch, pass_through, perturb, recognizer

WIDTH, FF, RANK = 16, 32, 4


def shared(adapter) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in adapter.pool.tensors.items()}


def test_one_pair_for_each_shape_whatever_the_layer():
    adapter = recognizer().adapt("s2lora", name="a", where="attention,ff", rank=RANK)
    assert shared(adapter) == {
        "a_linear_16x16": (RANK, WIDTH),
        "b_linear_16x16": (WIDTH, RANK),
        "a_linear_32x16": (RANK, WIDTH),
        "b_linear_32x16": (FF, RANK),
        "a_linear_16x32": (RANK, FF),
        "b_linear_16x32": (WIDTH, RANK),
    }
    layers = 2 * 4 + 2 * 8 + 4 * 2
    assert len(adapter.pieces) == layers
    assert adapter.trained_parameters() == adapter.formula_size() == RANK * (2 * WIDTH + 2 * (WIDTH + FF)) + layers * RANK


def test_share_stack_keeps_encoder_and_decoder_apart():
    model = recognizer()
    one = model.adapt("s2lora", name="one", where="attention", rank=RANK)
    two = model.adapt("s2lora", name="two", where="attention", rank=RANK, share="stack")
    assert set(shared(two)) == {f"{m}_{stack}_linear_16x16" for m in "ab" for stack in ("encoder", "decoder")}
    assert two.trained_parameters() - one.trained_parameters() == RANK * 2 * WIDTH
    two.pool["b_encoder_linear_16x16"].data.zero_()
    perturb(two, by=0.1)
    states, plain = (pass_through(model.double(), route, *batch())[0] for route in ("two", None))
    assert (states - plain).abs().max() > 1e-3


def test_two_adapters_never_write_the_same_tensor():
    model = recognizer()
    pools = [model.adapt("s2lora", name=name, rank=RANK).pool for name in "ab"]
    assert not {t.data_ptr() for t in pools[0].parameters()} & {t.data_ptr() for t in pools[1].parameters()}


def test_the_shared_pair_is_stored_once(tmp_path):
    adapter = recognizer().adapt("s2lora", name="a", where="attention", rank=RANK)
    held = load_file(adapter.save(tmp_path / "a") / TENSORS)
    assert sum(name.startswith("shared.") for name in held) == 2
    assert sum(t.numel() for t in held.values()) == adapter.trained_parameters()
    assert all(t.shape == (RANK,) for name, t in held.items() if name.startswith("sites."))


def test_the_proximal_step_is_the_soft_threshold():
    adapter = recognizer().adapt("s2lora", name="a", where="conv1", rank=4)
    piece = adapter.pieces_of("s2lora")[0]
    piece.s.data = torch.tensor([0.5, -0.5, 0.04, -0.05])
    ProximalL1(0.5).after_step(adapter, step=0, progress=1.0, lr=0.1)
    assert_close(piece.s.data, torch.tensor([0.45, -0.45, 0.0, 0.0]))


def test_training_reaches_exact_zeros_where_a_layer_has_nothing_to_learn_and_says_how_many():
    """The teacher moves one of two layers: with Adam, the other's coefficients must become zeros and not small numbers."""
    torch.manual_seed(0)
    model = recognizer().float()
    adapter = model.adapt("s2lora", name="a", where="encoder.layers.{0..1}.fc1", rank=8, sparsity=0.6, prune=0.05)
    by_path = adapter.by_path()
    learns, idle = by_path["encoder.layers.0.fc1"], by_path["encoder.layers.1.fc1"]
    target = torch.randn(FF, 2) @ torch.randn(2, WIDTH) / 4
    optimizer, plan = torch.optim.Adam(adapter.parameters(), lr=0.01), adapter.plan()
    steps = 200
    for step in range(steps):
        lr = 0.01 * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = lr
        x, noise = torch.randn(32, WIDTH), torch.randn(2, 32, FF)
        loss = ((x @ learns.delta(None).T - x @ target.T - noise[0]) ** 2).mean() + ((x @ idle.delta(None).T - noise[1]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plan.after_step(adapter, step=step, progress=step / steps, lr=lr)
    assert float((idle.s == 0).float().mean()) > 0.5, "the proximal steps alone leave exact zeros"
    plan.finish(adapter)
    assert_close(learns.delta(None), target, atol=0.35, rtol=0.0)
    report = adapter.method.report(by_path)
    assert report["coefficients"] == 16 and report["rank_by_layer"]["encoder.layers.1.fc1"] == 0
    assert report["rank_by_layer"]["encoder.layers.0.fc1"] >= 2 and report["sparsity"] >= 0.5


def test_pruning_drops_what_contributes_least_and_nothing_else():
    adapter = recognizer().adapt("s2lora", name="a", where="fc1", rank=4)
    for piece in adapter.pieces.values():
        piece.s.data = torch.tensor([1.0, 1e-4, -0.5, 0.0])
    adapter.plan().finish(adapter)
    assert all(piece.s.tolist() == [1.0, 0.0, -0.5, 0.0] for piece in adapter.pieces.values())


def test_zero_coefficients_survive_saving_and_merging(tmp_path):
    model = recognizer()
    adapter = perturb(model.adapt("s2lora", name="a", where="attention,conv", rank=RANK), by=0.2)
    for piece in adapter.pieces.values():
        piece.s.data[::2] = 0.0
    given = batch()
    want = pass_through(model, "a", *given)[1]
    adapter.save(tmp_path / "a")
    back = model.adapters.load(tmp_path / "a", name="b")
    assert all((piece.s == 0).tolist() == [True, False] * (RANK // 2) for piece in back.pieces.values())
    assert back.method.report(back.by_path())["sparsity"] == 0.5
    model.adapters.merge("b")
    assert_close(pass_through(model, "b", *given)[1], want, atol=1e-4, rtol=1e-4)


def test_dense_training_has_no_plan():
    model = recognizer()
    assert model.adapt("s2lora", name="a", sparsity=0, prune=0).plan() is None
    assert model.adapt("s2lora", name="b").plan().sparsity == S2LoRA.Config().sparsity > 0


@pytest.mark.parametrize("settings", [{"sparsity": -1}, {"sparsity": "nan"}, {"prune": 1}, {"prune": -0.1}, {"share": "all"}, {"rank": 0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(BadInput, match="s2lora"):
        recognizer().adapt("s2lora", name="a", **settings)
