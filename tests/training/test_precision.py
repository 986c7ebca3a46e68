"""Which number format the forward pass is computed in, by hardware; and float16, whose gradients need a scale."""

import pytest
import torch

from asrpeft.errors import BadInput, Failure
from asrpeft.training import Choice, Step, TrainingData, checkpoints, precision, train
from asrpeft.training.checkpoints import State
from asrpeft.training.gradient import Gradient
from asrpeft.training.loss_scale import FIRST_SCALE, GROWS_AFTER, LossScale
from asrpeft.training.precision import autocast, forward_dtype
from tests.bases import tiny_recognizer
from tests.training.test_resume import Stop
from tests.training.tones import options, tones

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "asked, device, bf16, tensor_cores, expected",
    [
        ("auto", CPU, True, False, torch.bfloat16),
        ("auto", CPU, False, False, None),
        ("auto", GPU, True, True, torch.bfloat16),
        ("auto", GPU, False, True, torch.float16),
        ("auto", GPU, False, False, None),
        ("no", GPU, True, True, None),
        ("bf16", CPU, False, False, torch.bfloat16),
        ("fp16", GPU, True, True, torch.float16),
    ],
)
def test_the_format_is_chosen_by_hardware_unless_told(monkeypatch, asked, device, bf16, tensor_cores, expected):
    monkeypatch.setattr(precision, "has_bf16", lambda device: bf16)
    monkeypatch.setattr(precision, "has_fp16", lambda device: tensor_cores)
    assert forward_dtype(asked, device, torch.float32) == expected


def test_a_base_in_bfloat16_is_computed_as_it_is_and_one_in_float16_refused(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    assert forward_dtype("auto", CPU, torch.bfloat16) is None
    with pytest.raises(BadInput, match="--dtype float32 or bfloat16"):
        autocast("auto", CPU, torch.float16)


def test_within_the_context_products_are_in_that_format():
    a = torch.randn(4, 4)
    for asked, dtype in (("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with autocast(asked, CPU, torch.float32):
            assert (a @ a).dtype == dtype


def run(*, checkpoint=None, resume=False, stop_after=None, events=None, **changes):
    recognizer = tiny_recognizer()
    torch.manual_seed(3)
    adapter = recognizer.adapt("lora", name="x", lang="en")
    real = checkpoints.write

    def write(*args, **kwargs):
        real(*args, **kwargs)
        if args[1].step == stop_after:
            raise Stop

    checkpoints.write = write
    try:
        train(
            recognizer,
            "x",
            TrainingData(tones(8), recognizer.prompt(lang="en")),
            choice=Choice(),
            checkpoint=checkpoint,
            resume=resume,
            options=options(**(dict(steps=6, lr=0.01, checkpoint_s=0.0, precision="fp16") | changes)),
            progress=events.append if events is not None else lambda event: None,
        )
    finally:
        checkpoints.write = real
    return {n: t.detach().clone() for n, t in adapter.state_dict().items()}


def test_training_in_float16_goes_where_float32_goes_and_resumes_to_the_same_weights(tmp_path):
    halves, wholes = [], []
    weights = run(events=halves)
    run(precision="no", events=wholes)
    losses = [[e.loss for e in events if isinstance(e, Step)] for events in (halves, wholes)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    with pytest.raises(Stop):
        run(checkpoint=tmp_path / "c", stop_after=3)
    again = run(checkpoint=tmp_path / "c", resume=True)
    assert all(torch.equal(weights[n], again[n]) for n in weights)


def test_gradients_are_those_without_a_scale(monkeypatch):
    found, real = [], Gradient.of

    def of(self, *args, **how):
        loss = real(self, *args, **how)
        found.append([p.grad.clone() for p in self.trained])
        return loss

    monkeypatch.setattr(Gradient, "of", of)
    for asked in ("fp16", "no"):
        run(steps=1, precision=asked)
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=0.05, atol=2e-3)


def test_a_step_whose_gradient_overflows_is_left_out_and_the_scale_halved():
    state = State()
    scale = LossScale(state, torch.float16)
    assert scale.value == FIRST_SCALE
    scale.update(False)
    assert scale.value == FIRST_SCALE / 2
    for _ in range(GROWS_AFTER):
        scale.update(True)
    assert scale.value == FIRST_SCALE and state.fine_steps == 0
    for _ in range(60):
        scale.update(False)
    assert scale.value == 1.0
    assert LossScale(State(), torch.bfloat16).value == 1.0


def test_overflows_are_no_failure_while_the_scale_can_fall_and_one_after(monkeypatch):
    steps = []
    real = Gradient.of

    def of(self, *args, **how):
        loss = real(self, *args, **how)
        self.trained[0].grad.fill_(float("inf"))
        steps.append(how["scale"])
        return loss

    monkeypatch.setattr(Gradient, "of", of)
    with pytest.raises(Failure, match="not finite in 5 steps"):
        run(steps=40)
    assert steps[0] == FIRST_SCALE and steps[-5:] == [1.0] * 5
