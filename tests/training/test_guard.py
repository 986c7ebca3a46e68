"""A limit on forgetting: the best weights on the development data that pass it are kept, and none if none pass."""

import pytest
import torch

from asrpeft.errors import BadInput, Failure
from asrpeft.training import Choice, DevScore, Guard, GuardScore, TrainingData, checkpoints, train
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


def run(dev, losses, *, checkpoint=None, resume=False, events=None, max_loss=0.03, key="k", steps=5, **changes):
    """Train for some steps with an evaluation after each: what they and the guard say is given."""
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    weights, scores, guards = [], iter(dev), iter(losses)

    def score():
        weights.append({n: t.detach().clone() for n, t in recognizer.adapters["x"].state_dict().items()})
        return next(scores)

    done = train(
        recognizer,
        "x",
        TrainingData(tones(12), recognizer.prompt(lang="en")),
        options=options(steps=steps, dev_every=1, checkpoint_s=0.0, **changes),
        choice=Choice(tones(3), score, Guard(lambda: next(guards), max_loss, key)),
        checkpoint=checkpoint,
        resume=resume,
        progress=events.append if events is not None else lambda event: None,
    )
    return done, weights, recognizer.adapters["x"].state_dict()


def test_the_best_weights_that_pass_are_kept_though_better_ones_forget_more():
    events = []
    done, weights, kept = run([0.9, 0.7, 0.8, 0.5, 0.4], [0.0, 0.03, 0.04, 0.2], events=events)
    assert done.best == (0.7, 2) and all(torch.equal(kept[n], t) for n, t in weights[1].items())
    assert done.guard_evaluations == ((1, 0.0), (2, 0.03), (4, 0.04), (5, 0.2))  # step 3 was no candidate: not asked
    assert [(e.step, e.passed) for e in events if isinstance(e, GuardScore)] == [(1, True), (2, True), (4, False), (5, False)]
    assert [e.best for e in events if isinstance(e, DevScore)] == [True, True, False, False, False]


def test_later_weights_of_an_equal_score_are_kept_only_if_they_pass():
    done, weights, kept = run([0.5, 0.5, 0.5, 0.6, 0.5], [0.0, 0.01, 0.5, 0.5])
    assert done.best == (0.5, 2) and all(torch.equal(kept[n], t) for n, t in weights[1].items())


def test_where_nothing_passes_the_run_fails_and_says_what_was_lost_and_what_to_do():
    with pytest.raises(Failure, match=r"of 5 evaluations the best \(step 3\) lost 7\.0 points.*3 are allowed.*--lr.*--max-loss"):
        run([0.9, 0.8, 0.7, 0.6, 0.5], [0.2, 0.09, 0.07, 0.3, 0.4])


def test_patience_counts_looks_that_were_refused():
    done, *_ = run([0.9, 0.8, 0.7, 0.6, 0.5], [0.0, 0.1, 0.1, 0.1, 0.1], patience=2)
    assert done.steps == 3 and done.best == (0.9, 1)


def test_a_resumed_run_remembers_what_passed_and_that_nothing_did(tmp_path):
    path = tmp_path / "checkpoint"
    dev, losses = [0.9, 0.7, 0.8, 0.5, 0.4], [0.0, 0.01, 0.4, 0.2]
    expected, weights, _ = run(dev, losses, checkpoint=path)
    assert checkpoints.read(path).state.guard_evaluations == list(expected.guard_evaluations)
    again, _, kept = run([], [], checkpoint=path, resume=True)
    assert again.best == expected.best and again.guard_evaluations == expected.guard_evaluations
    assert all(torch.equal(kept[n], t) for n, t in weights[1].items())
    with pytest.raises(Failure):
        run(dev, [1.0] * 5, checkpoint=path)
    with pytest.raises(Failure, match="of 5 evaluations"):
        run([], [], checkpoint=path, resume=True)


@pytest.mark.parametrize("changes", [{"max_loss": 0.1}, {"key": "other"}])
def test_another_limit_or_other_guard_data_are_another_run(tmp_path, changes):
    run([0.9] * 2, [0.0] * 2, checkpoint=tmp_path / "checkpoint", steps=2)
    with pytest.raises(BadInput, match="guard data|limits"):
        run([0.9] * 2, [0.0] * 2, checkpoint=tmp_path / "checkpoint", resume=True, steps=2, **changes)


def test_a_guard_needs_development_data():
    with pytest.raises(BadInput, match="--dev-data"):
        Choice(guard=Guard(lambda: 0.0, 0.03))
