"""Adapters in upper layers learn on states of the lower ones as they would in the whole encoder."""

import math

import numpy as np
import pytest
import torch

from asrpeft.adapters.ctc import CTCHead
from asrpeft.methods import names
from asrpeft.options import TrainingOptions
from scripts.bench.ctc_start import write_states
from scripts.bench.upper import MARGIN, TRIED, Task, Upper, fit, scores
from tests.bases import tiny_recognizer
from tests.training.tones import tones

TEXTS = ("ab", "ba", "aba")


@pytest.fixture
def upper():
    return Upper(tiny_recognizer(0), 1)


@pytest.fixture
def states(upper, tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.normal(0, 1, (MARGIN + 12 + n, 16)).astype(np.float16) for n in range(6)]
    return write_states(tmp_path / "states", frames, TEXTS * 2, ["p", "q"] * 3)


@pytest.fixture
def task(upper, states):
    torch.manual_seed(0)
    return Task(upper, states, states, states, CTCHead(16, ["<blank>", *" ab"]))


def test_lower_and_upper_layers_are_the_whole_encoder(upper):
    features, frames = torch.randn(2, 8, 80), torch.tensor([40, 30])
    features[1, :, 60:] = 0
    below = upper.lower(features, frames).float()
    with torch.no_grad():
        whole = upper.recognizer.encode(features, frames).states
        found = upper(below, frames)
    scale = whole[1, :30].std()
    assert torch.allclose(found[1, :30] / scale, whole[1, :30] / scale, atol=0.1)  # the lower ones in bfloat16 where there is that


@pytest.mark.parametrize("where", ["attention", "attention,conv", "block"])
def test_adapters_lie_in_the_upper_layers_alone(upper, where):
    name = "reft" if where == "block" else "lora"
    adapter = upper.recognizer.adapt(name, name=TRIED, where=upper.place(where), lang="en", **({"rank": 2}))
    assert {path.split(".")[2] for path in adapter.by_path()} == {"1"} and all(path.startswith("encoder.layers") for path in adapter.by_path())


@pytest.mark.parametrize("name", ["lora", "adalora", "houlsby", "bitfit"])
def test_a_run_lowers_the_loss_and_leaves_the_base_as_it_was(task, name):
    before = {key: value.clone() for key, value in task.upper.recognizer.base.state_dict().items()}
    start = task.measured(name, lr=1e-2, seed=0, steps=0, batch=4, head_lr=1e-2)
    found = task.measured(name, lr=1e-2, seed=0, steps=15, batch=4, head_lr=1e-2)
    assert found["dev_loss"] < start["dev_loss"] and found["trained"] > 0 and not list(task.upper.recognizer.adapters.names())
    assert all(torch.equal(value, before[key]) for key, value in task.upper.recognizer.base.state_dict().items())


def test_runs_of_one_seed_are_equal_and_start_from_one_head(task):
    one, two, other = (task.measured("lora", lr=1e-2, seed=seed, steps=3, batch=4, head_lr=1e-2)["dev_loss"] for seed in (0, 0, 1))
    assert one == two != other


def test_a_run_that_diverges_says_so(task):
    with task._attached("lora", "attention", {}, 0) as adapter:
        with torch.no_grad():
            next(adapter.parameters()).fill_(math.nan)
        assert not fit(task.upper, adapter, task.train, TrainingOptions(steps=2, loss="ctc"), lr=1e-3, batch=4)


def test_a_start_from_data_is_refused_in_words(task):
    assert "lora_ga" in names()
    with pytest.raises(ValueError, match="without --upper"):
        task.measured("lora_ga", lr=1e-3, seed=0, steps=1, batch=2, head_lr=1e-3)


def test_scores_have_counts_of_all_utterances(task):
    with task._attached("lora", "attention", {}, 0) as adapter:
        found = scores(task.upper, adapter, task.test, seed=0)
    assert found["utterances"] == 6 and 0 < found["cer"] and found["interval_unit"] == "utterance"


def test_a_corpus_is_heard_once_and_says_who_speaks(upper, tmp_path):
    corpus = tones(4, speakers=2)
    first = upper.heard(corpus, (0, None), seed=0, path=tmp_path / "heard")
    again = upper.heard(corpus[:1], (0,), seed=0, path=tmp_path / "heard")  # what is kept is read, whatever is asked
    assert len(first) == len(again) == 8 and set(first.speakers) == {"s0", "s1"} and np.array_equal(first.frames, again.frames)
    assert np.isfinite(first.frames).all() and int(first.lengths.sum()) == len(first.frames)
