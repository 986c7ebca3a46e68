"""Which weights are kept where WER says nothing, and that the last ones are not lost."""

import pytest
import torch

from asrpeft.cli.training_progress import rates_of
from asrpeft.errors import BadInput
from asrpeft.training import Choice, DevScore, Guard, Message, TrainingData, checkpoints, train
from asrpeft.training.choice import Rates, judge
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


@pytest.mark.parametrize(
    ("rates", "by"),
    [((0.0, 0.0), "wer"), ((0.899, 0.95), "wer"), ((0.9, 0.5), "cer"), ((1.112, 0.794), "cer"), ((1.3, 0.9), "loss"), ((1.0, 1.0), "loss")],
)
def test_the_first_measure_that_says_something_judges(rates, by):
    look = judge(Rates(*rates), lambda: 3.5)
    assert look.by == by and look.value == {"wer": rates[0], "cer": rates[1], "loss": 3.5}[by] and (look.loss is None) == (by != "loss")


def test_what_an_earlier_measure_can_judge_is_better_than_what_it_cannot():
    best_first = ((0.2, 0.9, 9), (0.8, 0.1, 0), (2.0, 0.3, 0), (0.95, 0.6, 0), (3.0, 2.0, 1), (1.0, 1.0, 2))
    order = [judge(Rates(*rates), lambda loss=loss: loss) for *rates, loss in best_first]
    assert sorted(order, key=lambda look: look.rank) == order


def run(rates, *, losses=(), checkpoint=None, resume=False, keep="best", events=None, steps=None, recognizer=None, **more):
    """Train with a look after each step, whose rates (and losses, where they are asked) are given."""
    recognizer = recognizer or tiny_recognizer()
    if "x" not in recognizer.adapters:
        torch.manual_seed(3)
        recognizer.adapt("lora", name="x", lang="en")
    adapter, weights, given = recognizer.adapters["x"], {}, iter(rates)

    def score():
        weights[len(weights) + 1] = {n: t.detach().clone() for n, t in adapter.state_dict().items()}
        return Rates(*next(given))

    from asrpeft.training import loop

    real, lost = loop.Run.dev_loss, iter(losses)
    loop.Run.dev_loss = lambda self: next(lost)
    try:
        done = train(
            recognizer,
            "x",
            TrainingData(tones(8), recognizer.prompt(lang="en")),
            options=options(steps=steps or len(rates), dev_every=1, checkpoint_s=0.0, lr=0.01),
            choice=Choice(tones(3), score, keep=keep, **more),
            checkpoint=checkpoint,
            resume=resume,
            progress=events.append if events is not None else lambda event: None,
        )
    finally:
        loop.Run.dev_loss = real
    return done, weights, adapter.state_dict()


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize(
    ("rates", "losses", "step", "by"),
    [
        ([(1.02, 0.99), (1.30, 0.85), (1.08, 0.80), (1.01, 0.82)], [3.0], 3, "cer"),  # silence early has the fewest word errors
        ([(1.0, 1.0), (1.3, 1.2), (1.5, 1.4)], [4.0, 3.0, 3.5], 2, "loss"),
        ([(1.3, 0.7), (0.85, 0.8), (0.88, 0.3)], [], 2, "wer"),
    ],
)
def test_the_measure_that_says_something_chooses_and_the_run_says_which(rates, losses, step, by):
    events = []
    done, weights, kept = run(rates, losses=losses, events=events)
    assert done.best == (rates[step - 1][0], step) and done.chosen_by == by and same(kept, weights[step])
    assert [one[:3] for one in done.measures] == [(i + 1, *one) for i, one in enumerate(rates)] and len(done.evaluations) == len(rates)
    said = next(e.text for e in events if isinstance(e, Message) and e.text.startswith("Kept: "))
    assert f"of step {step} of {len(rates)}" in said
    assert {"wer": "by 85.0 % WER", "cer": "by CER, 80.0 %: WER says little", "loss": "by loss, 3.0000"}[by] in said


def test_equal_looks_keep_the_later_weights_by_whatever_measure():
    done, weights, kept = run([(1.1, 0.8), (1.2, 0.8), (1.0, 0.85)])
    assert done.best == (1.2, 2) and same(kept, weights[2])


def test_the_last_weights_are_given_where_they_are_others_or_left_where_they_are_wanted():
    rates = [(0.5, 0.2), (0.4, 0.2), (0.6, 0.2)]
    done, weights, kept = run(rates)
    assert same(kept, weights[2]) and same(done.last, weights[3])
    assert run(rates[:2])[0].last is None
    done, weights, kept = run(rates, keep="last")
    assert same(kept, weights[3]) and done.best == (0.4, 2) and done.last is None


def test_what_the_method_does_at_the_end_is_done_to_the_last_weights_too():
    def s2lora():
        recognizer = tiny_recognizer()
        torch.manual_seed(3)
        recognizer.adapt("s2lora", name="x", lang="en", prune=0.9)
        return recognizer

    rates = [(0.5, 0.2), (0.6, 0.2)]
    done, weights, _ = run(rates, recognizer=s2lora())
    _, _, pruned = run(rates, recognizer=s2lora(), keep="last")
    assert same(done.last, pruned) and not same(done.last, weights[2])


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_resumed_run_chooses_and_keeps_the_same(tmp_path, after):
    rates, losses = [(1.2, 0.8), (1.3, 0.95), (1.0, 0.7), (1.4, 0.99)], [2.0, 1.0]
    whole, _, expected = run(rates, losses=losses)
    real = checkpoints.write

    class Stop(Exception):
        pass

    def write(*given, **how):
        real(*given, **how)
        if given[1].step == after:
            raise Stop

    checkpoints.write = write
    try:
        with pytest.raises(Stop):
            run(rates, losses=losses, checkpoint=tmp_path / "c")
    finally:
        checkpoints.write = real
    left = losses[sum(one[1] >= 0.9 for one in rates[:after]) :]
    again, _, kept = run(rates[after:], losses=left, checkpoint=tmp_path / "c", resume=True, steps=4)
    assert again == replaced(whole, again) and same(kept, expected) and same(again.last, whole.last)
    once_more, _, kept = run([], checkpoint=tmp_path / "c", resume=True, steps=4)  # it had come to its end
    assert same(kept, expected) and same(once_more.last, whole.last) and once_more.measures == whole.measures


def replaced(one, other):
    """`one` with the times of `other`, which no two runs share."""
    from dataclasses import replace

    return replace(one, seconds=other.seconds, peak_memory_bytes=other.peak_memory_bytes)


def test_a_run_that_keeps_the_last_is_another_run_and_refuses_a_guard(tmp_path):
    run([(0.5, 0.2)], checkpoint=tmp_path / "c", keep="last")
    with pytest.raises(BadInput, match="weights to keep"):
        run([(0.5, 0.2)], checkpoint=tmp_path / "c", resume=True)
    with pytest.raises(BadInput, match="--keep last.*--max-loss"):
        run([(0.5, 0.2)], keep="last", guard=Guard(lambda: 0.0, 0.03))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (DevScore(3, 0.5, "wer", True, 0.2, None, "wer"), "50.0 % WER (best so far)"),
        (DevScore(3, 1.3, "wer", True, 0.8, None, "cer"), "130.0 % WER, 80.0 % CER (best so far, by CER)"),
        (DevScore(3, 1.3, "wer", False, 0.95, 3.21, "loss"), "130.0 % WER, 95.0 % CER, loss 3.2100"),
        (DevScore(3, 2.0, "loss", True), "loss 2.0000 (best so far)"),
    ],
)
def test_a_look_is_shown_with_what_judges_it(event, said):
    assert rates_of(event) == said
