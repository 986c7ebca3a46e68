"""Batches that do not fit in memory: computed in parts with the same gradient, less at once after memory ran out."""

import pytest
import torch

from asrpeft.corpus import Corpus
from asrpeft.errors import Failure
from asrpeft.recognizer.context import ENCODER_FRAMES_PER_SECOND
from asrpeft.training import Choice, Message, TrainingData, checkpoints, memory, train
from asrpeft.training.budget import OutOfMemory, generous_bytes, largest_row, out_of_memory, part, parts
from asrpeft.training.examples import Examples
from asrpeft.training.frozen import trained_parameters
from asrpeft.training.gradient import Gradient
from asrpeft.training.processes import Processes
from tests.bases import tiny_recognizer
from tests.training.test_resume import Stop
from tests.training.tones import options, tones, utterance

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def run(*, corpus=None, events=None, checkpoint=None, resume=False, stop_after=None, **changes):
    """A run in float32 whose first step's gradient is looked at; returns the weights, and those gradients."""
    recognizer, gradients = tiny_recognizer(), []
    torch.manual_seed(3)
    adapter = recognizer.adapt("lora", name="x", lang="en")
    real, real_write = Gradient.of, checkpoints.write

    def of(self, *args, **how):
        loss = real(self, *args, **how)
        gradients.append([p.grad.clone() for p in self.trained])
        return loss

    def write(*args, **kwargs):
        real_write(*args, **kwargs)
        if args[1].step == stop_after:
            raise Stop

    Gradient.of, checkpoints.write = of, write
    try:
        train(
            recognizer,
            "x",
            TrainingData(corpus or tones(12), recognizer.prompt(lang="en")),
            choice=Choice(),
            checkpoint=checkpoint,
            resume=resume,
            options=options(**(dict(steps=2, batch_seconds=60.0, lr=0.01, checkpoint_s=0.0) | changes)),
            progress=events.append if events is not None else lambda event: None,
        )
    finally:
        Gradient.of, checkpoints.write = real, real_write
    return {n: t.detach().clone() for n, t in adapter.state_dict().items()}, gradients


@pytest.fixture
def small(monkeypatch):
    """Memory that holds so many seconds of audio at once: more raises what a GPU raises."""

    def holding(seconds, error=GPU):
        real = Gradient._backward

        def backward(self, batch, counts, rows, scale=1.0):
            if len(batch) * int(batch.frames.max()) > seconds * ENCODER_FRAMES_PER_SECOND:
                raise error
            return real(self, batch, counts, rows, scale)

        monkeypatch.setattr(Gradient, "_backward", backward)

    return holding


@pytest.mark.parametrize("seconds", [1.0, 7.0, 15.0])
def test_a_batch_computed_in_parts_has_the_gradient_of_the_whole(seconds):
    (_, whole), (_, divided) = run(), run(budget_seconds=seconds)
    for a, b in zip(whole[0], divided[0]):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 80000 bytes."),
        MemoryError(),
    ],
)
def test_after_memory_ran_out_the_step_is_taken_again_with_less_at_once(small, error):
    expected, whole = run(budget_seconds=60.0)
    small(20.0, error)
    events = []
    weights, found = run(budget_seconds=60.0, events=events)
    told = [e.text for e in events if isinstance(e, Message) and "Memory ran out" in e.text]
    assert len(told) == 1 and "at most 12 seconds" in told[0]  # 24 s was tried and halved: lowered once, and so for good
    assert len(found) == 2
    for a, b in zip(whole[0], found[0]):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_what_was_found_is_kept_with_the_run_and_gone_on_with(small, tmp_path):
    small(20.0)
    whole, _ = run(budget_seconds=60.0, steps=4)
    with pytest.raises(Stop):
        run(budget_seconds=60.0, steps=4, checkpoint=tmp_path / "c", stop_after=2)
    held = checkpoints.read(tmp_path / "c").state.budget_s
    events = []
    again, _ = run(budget_seconds=60.0, steps=4, checkpoint=tmp_path / "c", resume=True, events=events)
    assert held is not None and held <= 20.0 and not any("Memory ran out" in e.text for e in events if isinstance(e, Message))
    assert all(torch.equal(whole[n], again[n]) for n in whole)


def test_a_resumed_run_may_be_told_to_take_less(tmp_path):
    with pytest.raises(Stop):
        run(steps=3, budget_seconds=40.0, checkpoint=tmp_path / "c", stop_after=1)
    run(steps=3, budget_seconds=5.0, checkpoint=tmp_path / "c", resume=True)
    assert checkpoints.read(tmp_path / "c").state.budget_s == 5.0


def test_a_single_utterance_that_does_not_fit_ends_the_run_with_what_to_do(small):
    small(0.5)
    with pytest.raises(Failure, match="single utterance.*--gradient-checkpointing"):
        run(budget_seconds=60.0)


def test_another_error_is_no_lack_of_memory(small):
    small(0.5, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        run(budget_seconds=60.0)
    assert not out_of_memory(RuntimeError("shapes")) and not out_of_memory(OSError(12, "Cannot allocate memory"))


def test_what_fits_is_found_from_a_bound_and_a_smaller_bound_holds_less(tmp_path):
    found = []
    for gb in (0.5, 0.02, 0.01, 0.0001):
        events = []
        with pytest.raises(Stop):
            run(memory_gb=gb, budget_seconds=None, checkpoint=tmp_path / str(gb), stop_after=1, events=events)
        found.append(checkpoints.read(tmp_path / str(gb)).state.budget_s)
        assert any("computed in parts" in e.text for e in events if isinstance(e, Message)) == (found[-1] < 60.0)
    assert found[0] == 60.0 and found[1] / found[2] == pytest.approx(2.0, rel=0.01)
    assert found[3] == largest_seconds(tones(12))  # one utterance at the least, and that is tried


def largest_seconds(corpus):
    recognizer = tiny_recognizer()
    row = largest_row(Examples(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, context="auto"))
    return int(row.frames[0]) / ENCODER_FRAMES_PER_SECOND


def test_a_step_takes_about_what_its_budget_says(monkeypatch):
    """What one row of the longest utterance was measured at holds for batches of any."""
    monkeypatch.setattr(memory, "available", lambda device: 2**30)
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en")
    given = options(batch_seconds=600.0)
    examples = Examples.for_training(TrainingData(tones(12), recognizer.prompt(lang="en")), recognizer, options=given)
    gradient = Gradient(recognizer, adapter, trained_parameters(recognizer, "x"), given.terms(), given, Processes())
    row = largest_row(examples)
    device = recognizer.device
    one = memory.taken_by(lambda: gradient.trial(row), device)
    eight = memory.taken_by(lambda: gradient.trial(part(row, [0] * 8)), device)
    assert 4 * one < eight < 8.5 * one
    assert all(p.grad is None for p in adapter.parameters())


def test_measuring_what_fits_changes_nothing(tmp_path):
    def weights(**changes):
        return run(steps=2, dropout=0.2, augment="standard", **changes)[0]

    found, given = weights(budget_seconds=None), weights()
    assert all(torch.equal(found[n], given[n]) for n in found)


def test_where_a_batch_fits_whatever_it_takes_nothing_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(Gradient, "trial", lambda self, batch: pytest.fail("a trial was made"))
    run(memory_gb=4.0, budget_seconds=None, steps=1)


def test_what_is_called_generous_is_more_than_is_taken():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    given = options()
    examples = Examples.for_training(TrainingData(tones(12), recognizer.prompt(lang="en")), recognizer, options=given)
    gradient = Gradient(recognizer, recognizer.adapters["x"], trained_parameters(recognizer, "x"), given.terms(), given, Processes())
    row = part(largest_row(examples), [0] * 8)
    assert memory.taken_by(lambda: gradient.trial(row), recognizer.device) < generous_bytes(recognizer.base.config) * 8 * int(row.frames[0])


@pytest.mark.parametrize("seconds", [None, 1.0, 3.0, 6.0, 1000.0])
def test_every_row_is_in_one_part_and_no_part_is_larger_than_told(seconds):
    recognizer = tiny_recognizer()
    corpus = Corpus([utterance(i, seconds=0.5 + i % 4) for i in range(9)])
    batch, _ = Examples(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, context="auto").batch(range(9), None)
    made = list(parts(batch, seconds))
    assert sorted(id_ for one in made for id_ in one.ids) == sorted(batch.ids)
    assert all(len(one) == 1 or len(one) * int(one.frames.max()) <= (seconds or 1e9) * ENCODER_FRAMES_PER_SECOND for one in made)
    assert sum(int((one.labels != -100).sum()) for one in made) == int((batch.labels != -100).sum())
    for one in made:
        assert one.features.shape[2] == 2 * int(one.frames.max()) and one.tokens.shape == one.labels.shape


def test_all_processes_hear_of_it_when_memory_ran_out_in_one(monkeypatch):
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en")
    given = options()
    gradient = Gradient(recognizer, adapter, trained_parameters(recognizer, "x"), given.terms(), given, Processes())
    monkeypatch.setattr(Processes, "totals", lambda self, values: [1.0 for _ in values])  # another one says so
    with pytest.raises(OutOfMemory), gradient._memory_watched():
        pass


@pytest.mark.parametrize("limit, left", [("1000\n", 600), ("max\n", None)])
def test_the_limit_of_a_container_bounds_what_is_available(monkeypatch, tmp_path, limit, left):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    system = memory.available(torch.device("cpu"))
    assert system == left if left is not None else system > 10_000_000
