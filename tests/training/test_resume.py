"""A run killed at any moment goes on to the weights of an uninterrupted one."""

import json
import random
import signal
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from asrpeft.corpus import Corpus
from asrpeft.corpus.mix import draws
from asrpeft.errors import BadInput
from asrpeft.training import Choice, Message, TrainingData, checkpoints, train
from tests.bases import tiny_recognizer
from tests.training.killed_run import run
from tests.training.tones import options, tones


class Stop(Exception):
    pass


def stopped(path, after, *, method="lora", **changes):
    """A run that ends by an exception after step `after`, whose checkpoint is the state before it."""
    real = checkpoints.write

    def write(*args, **kwargs):
        real(*args, **kwargs)
        if args[1].step == after:
            raise Stop

    checkpoints.write = write
    try:
        with pytest.raises(Stop):
            run(path, method=method, **changes)
    finally:
        checkpoints.write = real


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole") / "checkpoint")


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, whole):
    path = tmp_path / "checkpoint"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.training.killed_run", str(path), "6", str(torch.get_num_threads())],
        capture_output=True,
        timeout=300,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert checkpoints.read(path).state.step == 5 and [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    weights, done = run(path, resume=True)
    assert all(torch.equal(weights[n], t) for n, t in whole[0].items()) and weights.keys() == whole[0].keys()
    assert (done.steps, done.rows, done.evaluations, done.best) == (
        whole[1].steps,
        whole[1].rows,
        whole[1].evaluations,
        whole[1].best,
    )


@pytest.mark.parametrize("after", [1, 4, 8, 9])
def test_whichever_step_was_the_last(tmp_path, whole, after):
    stopped(tmp_path / "checkpoint", after)
    weights, done = run(tmp_path / "checkpoint", resume=True)
    assert all(torch.equal(weights[n], t) for n, t in whole[0].items())
    assert done.evaluations == whole[1].evaluations and done.best == whole[1].best


@pytest.mark.parametrize("method", ["s2lora", "prefix", "full"])
def test_whatever_the_method(tmp_path, method):
    expected, _ = run(tmp_path / "whole", method=method, steps=5)
    stopped(tmp_path / "checkpoint", 3, method=method, steps=5)
    weights, _ = run(tmp_path / "checkpoint", method=method, steps=5, resume=True)
    assert all(torch.equal(weights[n], t) for n, t in expected.items())


def test_resuming_a_finished_run_trains_nothing(tmp_path, whole):
    path = tmp_path / "checkpoint"
    run(path)
    weights, done = run(path, resume=True)
    assert done.steps == 9 and all(torch.equal(weights[n], t) for n, t in whole[0].items())


@pytest.mark.parametrize("changes, raised", [({"steps": 12}, "steps was 9 and is 12"), ({"lr": 0.5}, "lr"), ({"method": "full"}, "method")])
def test_another_run_is_not_resumed(tmp_path, changes, raised):
    stopped(tmp_path / "checkpoint", 2)
    with pytest.raises(BadInput, match=raised):
        run(tmp_path / "checkpoint", resume=True, **changes)


def test_other_data_are_not_resumed_on(tmp_path):
    stopped(tmp_path / "checkpoint", 2)
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en", dropout=0.2)
    same = options(steps=9, dropout=0.1, augment="standard", dev_every=2, checkpoint_s=0.0, lr=0.01)
    with pytest.raises(BadInput, match="data differ"):
        train(
            recognizer,
            "x",
            TrainingData(tones(11), recognizer.prompt(lang="en")),
            options=same,
            choice=Choice(tones(3)),
            checkpoint=tmp_path / "checkpoint",
            resume=True,
        )


def rewritten(path, *, tensors=lambda t: t, **changes):
    """A checkpoint with other counts, as somebody's program or a damaged disk might leave it; without its checksum."""
    with safe_open(path, "pt") as file:
        report = json.loads(file.metadata()["asrpeft"])
        held = {name: file.get_tensor(name) for name in file.keys()}
    report["state"] |= changes.pop("state", {})
    path.write_bytes(save(tensors(held), metadata={"asrpeft": json.dumps(report | changes)}))


DAMAGED = {
    "counts are a list": {"state": [1]},
    "no options": {"options": None},
    "identity is text": {"identity": "x"},
    "a format of a list": {"format": [1]},
    "step is text": {"state": {"step": "5"}},
    "step is below zero": {"state": {"step": -1}},
    "an unknown count": {"state": {"color": 1}},
    "best is a number": {"state": {"best": 0.5}},
    "evaluations are text": {"state": {"evaluations": "abc"}},
    "an evaluation of three": {"state": {"evaluations": [[1, 2, 3]]}},
    "rank is a number": {"state": {"rank": 1}},
    "measures are numbers": {"state": {"measures": [1]}},
    "skipped is a list": {"state": {"skipped": ["u1"]}},
    "seconds are text": {"state": {"seconds": "1"}},
    "finished is a number": {"state": {"finished": 2}},
    "a tensor is missing": {"tensors": lambda t: dict(list(t.items())[1:])},
    "a tensor has another shape": {"tensors": lambda t: {n: x[None] for n, x in t.items()}},
    "moments of nothing": {"tensors": lambda t: t | {"optimizer.nothing/exp_avg": torch.zeros(2)}},
    "one more best weight": {"tensors": lambda t: t | {"best.nothing": torch.zeros(2)}},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_checkpoint_whose_counts_or_tensors_are_damaged_is_refused_with_a_remedy(tmp_path, case):
    path, changes = tmp_path / "checkpoint", DAMAGED[case]
    stopped(path, 2)
    if "state" in changes and not isinstance(changes["state"], dict):
        path.write_bytes(save({"a": torch.zeros(2)}, metadata={"asrpeft": json.dumps({"format": checkpoints.FORMAT, **changes})}))
    else:
        rewritten(path, **changes)
    with pytest.raises(BadInput, match="Remove it to start anew"):
        run(path, resume=True)


def test_a_checkpoint_without_a_checksum_is_resumed_as_before_there_was_one(tmp_path, whole):
    stopped(tmp_path / "checkpoint", 4)
    rewritten(tmp_path / "checkpoint")
    weights, _ = run(tmp_path / "checkpoint", resume=True)
    assert all(torch.equal(weights[n], t) for n, t in whole[0].items())


def test_any_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    path, rng = tmp_path / "checkpoint", random.Random(0)
    stopped(path, 2)
    good = path.read_bytes()
    for bit in (8 * len(good) - 1, *(rng.randrange(8 * len(good)) for _ in range(60))):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(BadInput, match="Remove it to start anew"):
            checkpoints.read(path)


@pytest.mark.parametrize("broken", [b"", b"not a checkpoint", save({"a": torch.zeros(2)})])
def test_a_file_that_is_no_checkpoint_is_refused_with_a_remedy(tmp_path, broken):
    (tmp_path / "checkpoint").write_bytes(broken)
    with pytest.raises(BadInput, match="Remove it"):
        run(tmp_path / "checkpoint", resume=True)


def test_without_a_checkpoint_resuming_is_starting(tmp_path):
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    message = []
    done = train(
        recognizer,
        "x",
        TrainingData(tones(4), recognizer.prompt(lang="en")),
        options=options(steps=1),
        checkpoint=tmp_path / "none",
        resume=True,
        progress=message.append,
    )
    assert done.steps == 1 and any(isinstance(e, Message) and "from the beginning" in e.text for e in message)


def test_a_checkpoint_is_one_file_without_pickle_and_without_the_base(tmp_path):
    run(tmp_path / "checkpoint", steps=2)
    data = (tmp_path / "checkpoint").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["asrpeft"])["state"]["step"] == 2
    assert {name.split(".")[0] for name in load(data)} == {"adapter", "best", "optimizer"}


def test_a_checkpoint_holds_what_trains_but_is_not_saved(tmp_path):
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("prefix", name="x", lang="en", mlp=8)
    train(
        recognizer,
        "x",
        TrainingData(tones(4), recognizer.prompt(lang="en")),
        options=options(steps=1),
        checkpoint=tmp_path / "c",
    )
    held = checkpoints.read(tmp_path / "c").part("adapter.")
    assert held.keys() == adapter.state_dict().keys() and any("net" in name for name in held) and not any("net" in name for name in adapter.tensors()[1])


def test_a_run_on_weighted_corpora_resumes_to_the_same_weights_and_not_with_others(tmp_path):
    def data(weight):
        return Corpus.mix([(tones(7), weight), (Corpus(tones(12)[7:], name="more"), 2)])

    changes = {"data": data(0.4), "epochs": 3, "steps": None, "batch_seconds": 4.0}
    whole, did = run(tmp_path / "whole", **changes)
    stopped(tmp_path / "part", 3, **changes)
    again, done = run(tmp_path / "part", resume=True, **changes)
    assert done.rows == did.rows == 3 * 10 + sum(draws(0.4, u.id, seed=0, epoch=e) for u in tones(7) for e in range(3))
    assert all(torch.equal(whole[n], again[n]) for n in whole)
    stopped(tmp_path / "other", 3, **changes)
    with pytest.raises(BadInput, match="data differ"):
        run(tmp_path / "other", resume=True, **(changes | {"data": data(0.5)}))
