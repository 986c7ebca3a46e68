"""A cohort: adapters trained together are those trained alone, and no run's data, end or failure moves another's numbers."""

import pytest
import torch

from asrpeft.adapters.ctc import CTCHead
from asrpeft.corpus import Corpus
from asrpeft.errors import BadCorpus, BadInput, Failure
from asrpeft.training import Choice, Message, TrainingData, checkpoints, cohort, train
from asrpeft.training.cohort import Cohort, joined, packed, train_together
from asrpeft.training.loop import Run
from tests.bases import tiny_recognizer
from tests.training.tones import options, utterance

SIZES = {"a": 7, "b": 3, "c": 5}


def corpus_of(name, n, *, first=0):
    return Corpus([utterance(10 * ord(name) % 50 + first + i, seconds=0.3 + 0.2 * (i % 3)) for i in range(n)], name=name)


DATA = {name: corpus_of(name, n) for name, n in SIZES.items()}
DEV = {name: corpus_of(name, 2, first=20) for name in SIZES}


def recognizer_for(names, method="lora", *, where=None, head=False, **settings):
    recognizer = tiny_recognizer()
    for name in names:
        torch.manual_seed(sum(map(ord, name)))
        adapter = recognizer.adapt(method, name=name, lang="en", where=where, **settings)
        if head:
            adapter.ctc = CTCHead.for_texts(16, [u.text for own in DATA.values() for u in own])
    return recognizer


def weights(recognizer, name):
    return {n: t.detach().clone() for n, t in recognizer.adapters[name].state_dict().items()}


def how(**changes):
    return options(**{"epochs": 3, "lr": 0.01, "batch_seconds": 6.0, "accumulate": 2, "dev_every": 2, "augment": "standard", "nonspeech_share": 0.1} | changes)


def alone(name, *, changes=None, data=None, progress=lambda event: None, **adapter):
    recognizer = recognizer_for([name], **adapter)
    given = TrainingData((data or DATA)[name], recognizer.prompt(lang="en"))
    done = train(recognizer, name, given, options=how(**changes or {}), choice=Choice(DEV[name]), progress=progress)
    return weights(recognizer, name), done


def together(names=tuple(SIZES), *, changes=None, data=None, checkpoint=None, resume=False, spoil=None, told=None, **adapter):
    recognizer = recognizer_for(names, **adapter)
    if spoil is not None:
        spoil(recognizer)

    def making(name):
        given = TrainingData((data or DATA)[name], recognizer.prompt(lang="en"))
        return lambda: Run(
            recognizer,
            name,
            given,
            options=how(**changes or {}),
            choice=Choice(DEV[name]),
            progress=([] if told is None else told).append,
            checkpoint=None if checkpoint is None else checkpoint / name,
        )

    done = train_together({name: making(name) for name in names}, recognizer, resume=resume)
    return {name: weights(recognizer, name) for name in names}, done


def close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=2e-3, atol=2e-5)


@pytest.fixture
def shared(monkeypatch):
    """How many runs each pass had rows of."""
    runs, backward = [], Cohort._backward
    monkeypatch.setattr(Cohort, "_backward", lambda self, recognizer, part, counts: runs.append(len(part)) or backward(self, recognizer, part, counts))
    return runs


@pytest.mark.parametrize(
    "case",
    [
        {"method": "lora"},
        {"method": "lora", "where": "encoder.conv1,encoder.conv2,decoder.embed_tokens"},
        {"method": "ia3"},
        {"method": "s2lora"},
        {"method": "adalora"},
        {"method": "prefix"},
        {"method": "prompt"},
        {"method": "houlsby"},
        {"method": "full", "where": "decoder.layers.1"},
        {"method": "lora", "head": True, "changes": {"loss": "ce+0.3*ctc"}},
        {"method": "lora", "changes": {"workers": 1}},
        {"method": "lora", "changes": {"patience": 1}},
        {"method": "lora", "changes": {"batch_seconds": 4.0}},
        {"method": "lora", "changes": {"gradient_checkpointing": True}},
    ],
    ids=str,
)
def test_an_adapter_trained_in_a_cohort_is_the_one_trained_alone(shared, case):
    found, done = together(**case)
    assert max(shared) > 1
    for name in SIZES:
        wanted, before = alone(name, **case)
        close(found[name], wanted)
        assert (done[name].steps, done[name].rows, done[name].dropped) == (before.steps, before.rows, before.dropped)
        assert done[name].best[1] == before.best[1] and [step for step, _ in done[name].evaluations] == [step for step, _ in before.evaluations]
        for (_, one), (_, other) in zip(done[name].evaluations, before.evaluations):
            assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    "case",
    [
        {"method": "lora", "dropout": 0.3},
        {"method": "lora", "changes": {"dropout": 0.1}},
        {"method": "mix_lora", "balance": 0.1},
        {"method": "lora", "changes": {"epochs": None, "minutes": 0.005}},
    ],
    ids=str,
)
def test_what_rows_would_share_is_not_shared_and_the_runs_take_turns(shared, case):
    found, done = together(**case)
    assert not shared and all(one.steps for one in done.values())
    if "minutes" not in case.get("changes", {}):
        for name in SIZES:
            wanted, _ = alone(name, **case)
            assert all(torch.equal(found[name][n], wanted[n]) for n in wanted)


def test_anothers_data_move_nothing():
    before, _ = together()
    after, _ = together(data=DATA | {"b": corpus_of("b", 6, first=7)})
    close(before["a"], after["a"]), close(before["c"], after["c"])
    assert not all(torch.allclose(before["b"][n], after["b"][n], atol=1e-3) for n in before["b"])


def test_the_base_stays_bit_identical_and_others_are_left_alone():
    recognizer = recognizer_for(["a", "b", "other"])
    kept = {n: t.clone() for n, t in recognizer.base.state_dict().items()} | weights(recognizer, "other")
    runs = {
        name: lambda name=name: Run(
            recognizer,
            name,
            TrainingData(DATA[name], recognizer.prompt(lang="en")),
            options=how(),
            choice=Choice(DEV[name]),
            checkpoint=None,
            progress=lambda event: None,
        )
        for name in ("a", "b")
    }
    train_together(runs, recognizer)
    after = recognizer.base.state_dict() | weights(recognizer, "other")
    assert all(torch.equal(kept[n], after[n]) for n in kept) and not recognizer.training
    assert all(p.requires_grad for p in recognizer.adapters["other"].parameters())


def test_a_run_that_diverges_fails_alone():
    def spoil(recognizer):
        with torch.no_grad():
            next(recognizer.adapters["b"].parameters()).fill_(float("nan"))

    found, done = together(spoil=spoil, changes={"epochs": 8})
    assert isinstance(done["b"], Failure) and "not finite" in str(done["b"])
    for name in ("a", "c"):
        wanted, before = alone(name, changes={"epochs": 8})
        close(found[name], wanted)
        assert done[name].steps == before.steps


def test_a_run_without_an_utterance_that_can_be_used_costs_the_others_nothing():
    broken = Corpus([utterance(1, audio=b"nothing that sounds", seconds=0.5), utterance(2, audio=b"nor this", seconds=0.5)], name="b")
    found, done = together(data=DATA | {"b": broken})
    assert isinstance(done["b"], BadCorpus) and "none could be read" in str(done["b"])
    close(found["a"], alone("a")[0])


@pytest.mark.parametrize("after", [1, 6])
def test_an_interrupted_cohort_goes_on_to_the_same_weights(tmp_path, monkeypatch, after):
    class Stop(KeyboardInterrupt):
        pass

    whole, _ = together(changes={"checkpoint_s": 0.0})
    calls, write = [], checkpoints.write

    def stopping(*args, **kwargs):
        write(*args, **kwargs)
        calls.append(1)
        if len(calls) == after:
            raise Stop

    monkeypatch.setattr(checkpoints, "write", stopping)
    with pytest.raises(Stop):
        together(changes={"checkpoint_s": 0.0}, checkpoint=tmp_path)
    monkeypatch.setattr(checkpoints, "write", write)
    again, done = together(changes={"checkpoint_s": 0.0}, checkpoint=tmp_path, resume=True)
    for name in SIZES:
        close(again[name], whole[name])
    assert len({checkpoints.read(path).state.step for path in tmp_path.iterdir()}) > 1 or after == 6


def test_where_memory_runs_out_less_is_computed_at_once_to_the_same_weights(monkeypatch):
    backward, sizes = Cohort._backward, []

    def small(self, recognizer, part, counts):
        sizes.append(sum(len(own) for _, own in part) * max(int(own.frames.max()) for _, own in part))
        if sizes[-1] > 150:
            raise MemoryError
        return backward(self, recognizer, part, counts)

    monkeypatch.setattr(Cohort, "_backward", small)
    plain = {"nonspeech_share": 0.0}
    found, done = together(changes=plain)
    assert max(sizes) > 150 and max(sizes[-10:]) <= 150
    for name in SIZES:
        wanted, before = alone(name, changes=plain)
        close(found[name], wanted)
        assert done[name].steps == before.steps


def test_two_runs_of_one_adapter_or_of_other_options_are_refused():
    recognizer = recognizer_for(["a", "b"])

    def run(name, **changes):
        given = TrainingData(DATA[name], recognizer.prompt(lang="en"))
        return Run(recognizer, name, given, options=how(**changes), choice=Choice(), checkpoint=None, progress=lambda event: None)

    with pytest.raises(BadInput, match="the same one"):
        Cohort([run("a"), run("a")])
    with pytest.raises(BadInput, match="same options"):
        Cohort([run("a"), run("b", lr=0.5)])


def test_rows_of_all_runs_are_packed_by_length_within_the_budget():
    recognizer = recognizer_for(["a"])
    made = Run(
        recognizer, "a", TrainingData(DATA["a"], recognizer.prompt(lang="en")), options=how(), choice=Choice(), checkpoint=None, progress=lambda event: None
    ).examples
    batches = [(number, made.batch(rows, 0)[0]) for number, rows in ((0, [0, 2]), (1, [1, 2, 5]), (0, [3, 4]), (2, [5]), (3, [6]))]
    passes = packed(batches, budget=300)
    rows = [(number, id_, n) for one in passes for number, batch in one for id_, n in zip(batch.ids, batch.frames.tolist())]
    assert sorted(rows) == sorted((number, id_, n) for number, batch in batches for id_, n in zip(batch.ids, batch.frames.tolist()))
    longest = [max(int(batch.frames.max()) for _, batch in one) for one in passes]
    assert longest == sorted(longest) and len(passes) > 1
    for one, most in zip(passes, longest):
        assert sum(len(batch) for _, batch in one) * most <= 300 or sum(len(batch) for _, batch in one) == 1
        assert all(batch.features.shape[-1] == 2 * int(batch.frames.max()) for _, batch in one)
    assert any(len({number for number, _ in one}) > 1 for one in passes)
    one = joined([batch for _, batch in batches])
    assert (
        len(one) == sum(len(batch) for _, batch in batches)
        and one.features.shape[-1] == 2 * int(one.frames.max())
        and (one.labels != cohort.IGNORED).sum() == sum((batch.labels != cohort.IGNORED).sum() for _, batch in batches)
    )


def test_messages_are_each_runs_own():
    told = []
    together(told=told, changes={"epochs": 1})
    assert sum(isinstance(event, Message) and event.text.startswith("Training") for event in told) == 3
