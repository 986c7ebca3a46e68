"""The missing token table is learned through the frozen decoder, and nothing else moves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scripts.bench.relearn_tokens import Learner, Shards, learn, write_states
from tests.bases import tiny_recognizer

TEXTS = ("abc", "dab", "cad", "bead")


def clips(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return iter([(rng.normal(0, 0.1, 8_000).astype(np.float32), TEXTS[i % len(TEXTS)]) for i in range(n)])


@pytest.fixture
def model():
    return tiny_recognizer(0)


@pytest.fixture
def states(model, tmp_path):
    return Shards.read([write_states(model, clips(8), tmp_path / "states" / "one.npy")])


def test_the_loss_is_that_of_the_whole_table_whose_other_rows_are_zero(model, states):
    learner = Learner(model, TEXTS, seed=0)
    chosen = [0, 1, 2]
    encoded, texts = states.batch(chosen), [states.rows[i][3] for i in chosen]
    summed, n = learner.loss(encoded, texts)
    learner.give(model, learner.table.detach())
    expected = 0.0
    for row, text in enumerate(texts):
        tokens = [*learner.prompt, *model.encode_text(" " + text)]
        logits, _ = model.decode(encoded.take(torch.tensor([row])), torch.tensor([tokens]))
        wanted = torch.tensor([*tokens[len(learner.prompt) :], model.end])
        expected += float(F.cross_entropy(logits[0, len(learner.prompt) - 1 :], wanted, reduction="sum"))
    assert n == sum(len(model.encode_text(" " + text)) + 1 for text in texts)
    assert float(summed.detach()) == pytest.approx(expected, rel=2e-2)  # one of the two under autocast where there is bfloat16


def test_learning_lowers_the_cross_entropy_and_moves_nothing_of_the_base(model, states, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.base.state_dict().items()}
    learner = Learner(model, TEXTS, seed=0)
    first = learner.cross_entropy(states)
    learn(learner, states, states, tmp_path / "table.safetensors", steps=30, batch=8, lr=2e-2, save=30, tell=lambda row: None)
    assert learner.cross_entropy(states) < 0.7 * first
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.base.state_dict().items())


def test_the_table_that_held_out_speech_liked_best_is_kept(model, states, tmp_path, monkeypatch):
    learner, found, tables = Learner(model, TEXTS, seed=0), iter([3.0, 1.0, 2.0]), []
    monkeypatch.setattr(learner, "cross_entropy", lambda held: next(found))
    given = {"steps": 6, "batch": 8, "lr": 0.1, "save": 2, "replaced": 0.5}
    best = learn(learner, states, states, tmp_path / "table.safetensors", **given, tell=lambda row: tables.append(learner.table.detach().clone()))
    assert torch.equal(best, tables[1]) and not torch.equal(best, tables[2])


def test_a_run_that_was_cut_goes_on_to_the_same_table(model, states, tmp_path):
    how = {"batch": 4, "lr": 1e-2, "save": 3, "tell": lambda row: None}
    whole, cut, again = (Learner(model, TEXTS, seed=1) for _ in range(3))
    learn(whole, states, states, tmp_path / "whole.safetensors", steps=6, **how)
    for _ in range(4):  # killed after step 4: step 3 is the last that was saved
        cut.take_step(states, batch=4, lr=1e-2, total=6)
        if cut.step == 3:
            cut.save(tmp_path / "cut.safetensors")
    learn(again, states, states, tmp_path / "cut.safetensors", steps=6, **how)
    assert torch.equal(again.table, whole.table)


def test_the_table_of_other_texts_is_refused(model, states, tmp_path):
    Learner(model, TEXTS, seed=0).save(tmp_path / "table.safetensors")
    with pytest.raises(ValueError, match="another --out"):
        Learner(model, (*TEXTS, "zebra"), seed=0).resume(tmp_path / "table.safetensors")


def test_states_that_are_there_are_not_computed_again(model, tmp_path):
    path = tmp_path / "states.npy"
    write_states(model, clips(2), path)
    before = path.stat().st_mtime_ns

    def refused():
        raise AssertionError("computed again")
        yield

    write_states(model, refused(), path)
    assert path.stat().st_mtime_ns == before
    assert [text for *_, text in Shards.read([path]).rows] == list(TEXTS[:2])


def test_learning_begins_at_chance_and_at_a_rate_that_grows(model, states):
    learner = Learner(model, TEXTS, seed=0)
    assert learner.cross_entropy(states) == pytest.approx(np.log(model.base.config.vocab_size), rel=0.02)
    rates = []
    for _ in range(3):
        learner.take_step(states, batch=4, lr=1e-2, total=30)
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2], rel=0.02)
