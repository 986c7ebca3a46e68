"""Optimizers by name: each trains, each goes on after an interruption as if there had been none, each does what its paper says."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from asrpeft.errors import BadInput
from asrpeft.training import TrainingOptions, loop
from asrpeft.training.optimizer import optimizer_for, set_rate
from asrpeft.training.optimizers import OPTIMIZERS, parse
from asrpeft.training.optimizers.state import blank, fill, flat
from tests.bases import tiny_recognizer
from tests.methods.test_plans import run
from tests.training.tones import options

NAMES = [name for name in OPTIMIZERS if name != "adamw8bit"]  # which compiles its step


def trained(optimizer: str, steps: int = 6, *, method: str = "full", keep: dict | None = None, **changes):
    model = tiny_recognizer()
    torch.manual_seed(0)
    adapter = model.adapt(method, name="x", lang="en", where="fc1,fc2,norm")
    run(model, steps=steps, optimizer=optimizer, **({"lr": 0.01} | changes), **keep or {})
    return adapter, {name: tensor.detach().clone() for name, tensor in adapter.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_moves_every_parameter_of_a_run(name):
    _, weights = trained(name)
    assert all(bool(tensor.abs().max() > 0) and bool(tensor.isfinite().all()) for tensor in weights.values())


@pytest.mark.parametrize("name", [*NAMES, "galore,rank=3,refresh=2", "adafactor,beta1=0.9"])
def test_an_interrupted_run_goes_on_to_the_same_bits(name, tmp_path):
    _, whole = trained(name)
    original, taken = loop.Run.step, []

    def step(self, data):
        original(self, data)
        taken.append(1)
        if len(taken) == 3:
            raise KeyboardInterrupt

    loop.Run.step = step
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(name, keep={"checkpoint": tmp_path / "run", "checkpoint_s": 0})
    finally:
        loop.Run.step = original
    _, resumed = trained(name, keep={"checkpoint": tmp_path / "run", "resume": True})
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_a_run_is_not_resumed_with_another_optimizer(tmp_path):
    trained("adamw", keep={"checkpoint": tmp_path / "run"})
    with pytest.raises(BadInput, match="optimizer was 'adamw' and is 'muon'"):
        trained("muon", keep={"checkpoint": tmp_path / "run", "resume": True})


# -- what each one does ------------------------------------------------------------------------------------------------
def moved(text: str, gradients: list[torch.Tensor], lr: float = 0.1, decay: float = 0.0) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    """How far a parameter that starts at zero is after steps along these gradients."""
    w = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = optimizer_for({"w": w}, options(optimizer=text, weight_decay=decay, lr=lr), lr=lr)
    for gradient in gradients:
        w.grad = gradient.clone()
        optimizer.step()
    return w.detach(), optimizer


def numbers(optimizer: torch.optim.Optimizer) -> int:
    return sum(tensor.numel() for state in optimizer.state.values() for tensor in flat(state).values())


def gradients(*shape: int, n: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape) for _ in range(n)]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_galore_is_adam_on_the_projected_gradient(shape):
    """Algorithm 2 of the paper, written out."""
    wide = shape[0] <= shape[1]
    found, _ = moved("galore,rank=2,scale=0.5,beta1=0.8,beta2=0.9", gradients(*shape))
    given = [g if wide else g.T for g in gradients(*shape)]
    p = torch.linalg.svd(given[0])[0][:, :2]
    w, m, v = torch.zeros_like(given[0]), 0.0, 0.0
    for t, g in enumerate(given):
        r = p.T @ g
        m, v = 0.8 * m + 0.2 * r, 0.9 * v + 0.1 * r**2
        w = w - 0.1 * 0.5 * p @ (m / (1 - 0.8 ** (t + 1)) / ((v / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8))
    assert_close(found, w if wide else w.T, atol=1e-4, rtol=1e-3)
    assert torch.linalg.matrix_rank(found, rtol=1e-4) == 2
    renewed, _ = moved("galore,rank=2,refresh=2,scale=0.5", gradients(*shape))
    assert torch.linalg.matrix_rank(renewed, rtol=1e-4) == 4


def test_galore_keeps_a_part_of_adams_numbers_and_is_adamw_for_what_is_small():
    _, adam = moved("adamw", gradients(60, 90))
    _, low = moved("galore,rank=4", gradients(60, 90))
    assert numbers(adam) == 2 * 60 * 90 + 1 and numbers(low) == 2 * 4 * 90 + 60 * 4 + 1
    for shape in ((7,), (4, 90)):
        assert_close(moved("galore,rank=4", gradients(*shape), decay=0.1)[0], moved("adamw", gradients(*shape), decay=0.1)[0], atol=1e-6, rtol=1e-5)


def test_adafactor_keeps_a_row_and_a_column_and_steps_by_the_rate_from_zero():
    w, optimizer = moved("adafactor", gradients(60, 90, n=1), lr=0.01)
    assert numbers(optimizer) < 160
    assert 0.005 < float(w.square().mean().sqrt()) < 0.011, "a rate relative to a parameter's size would leave zeros where they are"


def test_muons_step_is_orthogonal_and_as_large_as_adams():
    w, _ = moved("muon", gradients(20, 40, n=1), lr=0.01)
    values = torch.linalg.svdvals(w)
    assert float(values.max() / values.min()) < 3, "its singular values are about equal"
    adam, _ = moved("adamw", gradients(20, 40, n=1), lr=0.01)
    assert 0.1 < float(w.norm() / adam.norm()) < 1.0
    assert_close(moved("muon", gradients(9))[0], moved("adamw", gradients(9))[0])


def test_the_schedule_moves_a_rate_that_is_a_tensor_in_place():
    _, optimizer = moved("adamw", gradients(3))
    rate = optimizer.param_groups[0]["lr"] = torch.tensor(1.0)
    set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is rate and float(rate) == pytest.approx(0.05)


# -- refusals ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, message",
    [
        ("adam", "There is no optimizer 'adam'. Did you mean 'adamw'"),
        ("galore,rank", "'rank' is no setting; write NAME=VALUE"),
        ("galore,rank=0", "galore: rank must be a number above 0"),
        ("galore,depth=2", "galore has no setting 'depth'"),
        ("adamw,beta1=1", r"adamw: beta1=1.0 is not in \[0, 1\)"),
    ],
)
def test_what_cannot_be_an_optimizer_is_refused_when_options_are_made(text, message):
    with pytest.raises(BadInput, match=message):
        TrainingOptions(optimizer=text)


def test_an_optimizer_whose_steps_are_of_another_size_needs_a_rate():
    with pytest.raises(BadInput, match="--optimizer sgd .* give --lr"):
        trained("sgd", lr=None)


def test_without_torchao_eight_bit_states_are_refused_with_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao.optim", None)
    with pytest.raises(BadInput, match=r"pip install 'asrpeft\[quantized\]'.*adafactor"):
        optimizer_for({"w": nn.Parameter(torch.zeros(3))}, options(optimizer="adamw8bit"), lr=0.1)


# -- state ---------------------------------------------------------------------------------------------------------------
class Codes(torch.Tensor):
    """A state in the way of torchao's 8-bit one: a kind of tensor of its own, made of codes and a scale."""

    @staticmethod
    def __new__(cls, codes, scale):
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes, scale):
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self):
        return ["codes", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError(func)


def test_states_of_any_kind_are_written_as_tensors_and_read_back():
    def state(fill_with: float):
        codes = Codes(torch.full((4, 2), fill_with).byte(), torch.tensor([fill_with]))
        return {"step": int(fill_with), "rms": float(fill_with), "mean": torch.full((3,), fill_with), "codes": codes, "absent": None}

    written = {name: tensor.clone() for name, tensor in flat(state(7.0)).items()}
    assert sorted(written) == ["codes.codes", "codes.scale", "mean", "rms", "step"]
    fresh = state(0.0)
    assert fill(fresh, written) == []
    assert fresh["step"] == 7 and isinstance(fresh["step"], int) and fresh["rms"] == 7.0 and fresh["absent"] is None
    assert bool((fresh["codes"].codes == 7).all()) and float(fresh["codes"].scale) == 7.0 and bool((fresh["mean"] == 7).all())


def test_a_state_of_another_form_is_named_and_nothing_is_changed():
    _, optimizer = moved("galore,rank=2", gradients(6, 9))
    (w,) = optimizer.state
    held = {name: tensor.clone() for name, tensor in flat(optimizer.state[w]).items()}
    fresh = blank(optimizer, w)
    assert fill(fresh, held | {"mean": torch.zeros(5)}) == ["mean"] and fill(fresh, {k: v for k, v in held.items() if k != "square"}) == ["square"]
    assert fresh["step"] == 1 and fill(fresh, held) == [] and fresh["step"] == 3 and torch.equal(fresh["mean"], held["mean"])
    assert optimizer.state[w]["step"] == 3, "a blank state is made of copies"


def test_settings_are_read_from_the_text_of_the_command_line():
    kind, settings = parse("galore, rank=32,scale=2")
    assert kind.name == "galore" and (settings.rank, settings.scale, settings.refresh) == (32, 2.0, 100)


def test_torchaos_eight_bit_adamw_trains_and_is_written_and_read_back():
    pytest.importorskip("torchao.optim")
    w, optimizer = moved("adamw8bit", gradients(64, 64, n=2), lr=0.01)
    want, _ = moved("adamw", gradients(64, 64, n=2), lr=0.01)
    assert float((w - want).abs().max()) < 2e-3
    (own,) = optimizer.state
    fresh = blank(optimizer, own)
    assert fill(fresh, flat(optimizer.state[own])) == []
    assert all(torch.equal(a, b) for a, b in zip(flat(fresh).values(), flat(optimizer.state[own]).values()))
