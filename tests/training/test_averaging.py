"""Averages of the weights: what they are, that the steps do not feel them, and that a resumed run has the same."""

import pytest
import torch

from asrpeft.errors import BadInput
from asrpeft.training import Choice, TrainingData, checkpoints, train
from asrpeft.training.averaging import EMA, LAST, Averaging
from tests.bases import tiny_recognizer
from tests.training.test_resume import Stop
from tests.training.tones import options, tones


def copy(adapter):
    return {n: t.detach().clone() for n, t in adapter.state_dict().items()}


def run(*, seen=None, dev=True, stop_after=None, checkpoint=None, resume=False, keep="best", **changes):
    """Six steps; `seen` gets the adapter's weights at each evaluation. Returns what the adapter has at the end, and what the loop did."""
    recognizer = tiny_recognizer()
    torch.manual_seed(3)
    adapter = recognizer.adapt("lora", name="x", lang="en")
    scores = iter([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])

    def score():
        if seen is not None:
            seen.append(copy(adapter))
        return next(scores)

    given = options(**(dict(steps=6, lr=0.01, schedule="constant", warmup=0.0, dev_every=1, checkpoint_s=0.0) | changes))
    real = checkpoints.write

    def write(*args, **kwargs):
        real(*args, **kwargs)
        if args[1].step == stop_after:
            raise Stop

    checkpoints.write = write
    try:
        done = train(
            recognizer,
            "x",
            TrainingData(tones(8), recognizer.prompt(lang="en")),
            options=given,
            checkpoint=checkpoint,
            resume=resume,
            choice=Choice(tones(3), score, keep=keep) if dev else Choice(),
        )
    finally:
        checkpoints.write = real
    return copy(adapter), done


def mean(sets):
    return {n: torch.stack([one[n] for one in sets]).mean(0) for n in sets[0]}


def close(a, b):
    assert a.keys() == b.keys()
    for n in a:
        torch.testing.assert_close(a[n], b[n])


@pytest.fixture(scope="module")
def plain():
    """The weights after each step, without an average."""
    seen = []
    run(seen=seen)
    return seen


def test_the_mean_of_the_last_evaluations_is_evaluated_and_kept(plain):
    seen = []
    kept, done = run(seen=seen, average="last=3")
    for n in range(6):
        close(seen[n], mean(plain[max(0, n - 2) : n + 1]))
    close(kept, seen[-1])
    assert done.best == (0.4, 6)


def test_an_exponential_average_is_the_formulas(plain):
    seen = []
    run(seen=seen, average="ema=0.5")
    held = plain[0]
    for n in range(6):
        decay = min(0.5, (1 + n) / (10 + n))
        held = {name: decay * held[name] + (1 - decay) * plain[n][name] for name in held}
        close(seen[n], held)


@pytest.mark.parametrize("average", ["ema=0.9", "last=2"])
def test_without_development_data_the_average_is_what_is_left(plain, average):
    seen = []
    run(seen=seen, average=average)
    left, _ = run(dev=False, average=average)
    close(left, seen[-1])
    last, _ = run(keep="last", average=average)
    close(last, seen[-1])
    assert any(not torch.equal(left[n], plain[-1][n]) for n in left)


@pytest.mark.parametrize("average", ["ema=0.9", "last=3"])
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_run_goes_on_to_the_same_average(tmp_path, average, after):
    whole, _ = run(dev=False, average=average)
    with pytest.raises(Stop):
        run(dev=False, average=average, checkpoint=tmp_path / "c", stop_after=after)
    again, _ = run(dev=False, average=average, checkpoint=tmp_path / "c", resume=True)
    assert whole.keys() == again.keys() and all(torch.equal(whole[n], again[n]) for n in whole)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("none", Averaging()),
        ("ema", Averaging("ema", decay=EMA)),
        ("ema=0.5", Averaging("ema", decay=0.5)),
        ("last", Averaging("last", count=LAST)),
        ("last = 7", Averaging("last", count=7)),
    ],
)
def test_how_weights_are_averaged_is_read(text, kind):
    assert Averaging.parse(text) == kind


@pytest.mark.parametrize("text", ["", "mean", "ema=1", "ema=0", "ema=x", "last=1", "last=1000", "last=2.5", "none=2", "ema=nan"])
def test_what_is_no_average_is_refused_with_what_is(text):
    with pytest.raises(BadInput, match="ema=0.995"):
        options(average=text)
