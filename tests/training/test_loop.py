"""The loop: what trains, what does not, what the method's plan is told, and what is kept."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from asrpeft import methods
from asrpeft.adapters.ctc import CTCHead
from asrpeft.corpus import Corpus
from asrpeft.errors import BadCorpus, BadInput, Failure, UnexpectedTraining
from asrpeft.methods import Plan
from asrpeft.training import Choice, DevScore, Message, Skipped, Step, TrainingData, loop, train
from asrpeft.training.frozen import training_mode
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones, utterance


def run(recognizer, name="x", corpus=None, *, lang="en", **changes):
    keep = {key: changes.pop(key) for key in ("checkpoint", "resume", "progress") if key in changes}
    choice = Choice(changes.pop("dev", None), changes.pop("dev_score", None))
    data = TrainingData(corpus or tones(), recognizer.prompt(lang=lang, adapter=name))
    return train(recognizer, name, data, options=options(**changes), choice=choice, **keep)


def weights(adapter):
    return {n: t.detach().clone() for n, t in adapter.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("method", methods.names())
def test_every_method_learns_while_the_base_stays_bit_identical(method):
    recognizer = tiny_recognizer()
    before = {n: t.clone() for n, t in recognizer.base.state_dict().items()}
    adapter = recognizer.adapt(method, name="x", lang="en")
    start, losses = weights(adapter), []
    run(
        recognizer,
        steps=5,
        lr=0.02,
        schedule="constant",
        warmup=0.0,
        batch_seconds=60.0,
        progress=lambda e: losses.append(e.loss) if isinstance(e, Step) else None,
    )
    assert losses[-1] < losses[0]
    assert not same(start, weights(adapter))
    after = recognizer.base.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before) and before.keys() == after.keys()
    assert not any(p.grad is not None or p.requires_grad for p in recognizer.base.parameters())
    assert not recognizer.training and not adapter.training


def test_something_of_the_base_that_would_train_is_refused():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    recognizer.base.model.encoder.conv1.weight.requires_grad_(True)
    with pytest.raises(UnexpectedTraining, match="conv1.weight"):
        run(recognizer)


def test_an_adapter_of_which_nothing_would_train_is_refused():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en").requires_grad_(False)
    with pytest.raises(UnexpectedTraining, match="Nothing"):
        run(recognizer)


def test_other_adapters_stay_as_they_are_and_can_train_afterwards():
    recognizer = tiny_recognizer()
    other = recognizer.adapt("lora", name="other", lang="en")
    recognizer.adapt("lora", name="x", lang="en")
    before = weights(other)
    run(recognizer, weight_decay=0.5)
    assert same(before, weights(other)) and all(p.requires_grad and p.grad is None for p in other.parameters())


def test_a_run_repeats_itself_whatever_random_numbers_the_caller_drew():
    found = []
    for calls in (0, 3):
        recognizer = tiny_recognizer()
        torch.manual_seed(5)
        adapter = recognizer.adapt("lora", name="x", lang="en", dropout=0.3)
        torch.rand(calls)
        state = torch.get_rng_state()
        run(recognizer, dropout=0.1, augment="strong")
        assert torch.equal(state, torch.get_rng_state())  # and it leaves the caller's alone
        found.append(weights(adapter))
    assert same(*found)


def test_workers_do_not_change_the_weights():
    found = []
    for workers in (0, 2):
        recognizer = tiny_recognizer()
        torch.manual_seed(5)
        adapter = recognizer.adapt("lora", name="x", lang="en", dropout=0.3)
        run(recognizer, workers=workers, augment="standard")
        found.append(weights(adapter))
    assert same(*found)


def test_accumulated_batches_have_the_gradient_of_one_large_batch(monkeypatch):
    found = []
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self: found.append([p.grad.clone() for g in self.param_groups for p in g["params"]]),
    )
    for seconds, accumulate in ((1000.0, 1), (3.0, 100)):
        recognizer = tiny_recognizer()
        torch.manual_seed(5)
        recognizer.adapt("full", name="x", lang="en")
        run(recognizer, steps=1, batch_seconds=seconds, accumulate=accumulate, clip=0.0)
    for whole, parts in zip(*found):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_changes_nothing_but_memory():
    found = []
    for on in (False, True):
        recognizer = tiny_recognizer()
        torch.manual_seed(5)
        adapter = recognizer.adapt("lora", name="x", lang="en", dropout=0.2)
        run(recognizer, gradient_checkpointing=on, dropout=0.1)
        found.append(weights(adapter))
    for n in found[0]:
        torch.testing.assert_close(found[0][n], found[1][n])


def test_dropout_is_on_while_training_and_as_it_was_afterwards():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    layer = recognizer.base.model.encoder.layers[0]
    layer.dropout, recognizer.base.model.encoder.layerdrop = 0.3, 0.5
    with training_mode(recognizer, "x", dropout=0.1, checkpointing=False):
        assert (layer.dropout, layer.self_attn.dropout, recognizer.base.model.encoder.layerdrop, layer.training) == (
            0.1,
            0.0,
            0.0,
            True,
        )
    assert (layer.dropout, recognizer.base.model.encoder.layerdrop, layer.training) == (0.3, 0.5, False)


def test_vectors_do_not_decay_and_matrices_do():
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("s2lora", name="x", lang="en")
    optimizer = loop.optimizer_for(dict(adapter.named_parameters()), options(weight_decay=0.1), lr=1e-3)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert all(decay[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in adapter.parameters())


def test_the_plan_is_told_of_every_step_and_of_the_end(monkeypatch):
    events = []

    class Spy(Plan):
        def penalty(self, adapter):
            return 0.1 * sum(p.square().sum() for p in adapter.parameters())

        def before_step(self, adapter, *, step, progress):
            events.append((step, progress, all(p.grad is not None for p in adapter.parameters())))

        def after_step(self, adapter, *, step, progress, lr):
            events.append((step, progress, lr))

        def finish(self, adapter):
            events.append("finish")

    recognizer = tiny_recognizer()
    monkeypatch.setattr(methods.method("lora"), "plan", classmethod(lambda cls, config: Spy()))
    recognizer.adapt("lora", name="x", lang="en")
    run(recognizer, steps=3, lr=0.1, schedule="constant", warmup=0.0)
    assert events == [(0, 0.0, True), (0, 1 / 3, 0.1), (1, 1 / 3, True), (1, 2 / 3, 0.1), (2, 2 / 3, True), (2, 1.0, 0.1), "finish"]


def test_a_penalty_pulls_the_weights(monkeypatch):
    found = []
    for strength in (0.0, 100.0):

        class Pull(Plan):
            def penalty(self, adapter, strength=strength):
                return strength * sum(p.square().sum() for p in adapter.parameters())

        monkeypatch.setattr(methods.method("lora"), "plan", classmethod(lambda cls, config, plan=Pull: plan()))
        recognizer = tiny_recognizer()
        torch.manual_seed(0)
        adapter = recognizer.adapt("lora", name="x", lang="en")
        run(recognizer, steps=20, lr=0.01)
        found.append(sum(float(p.detach().square().sum()) for p in adapter.parameters()))
    assert found[1] < 0.9 * found[0]


def test_s2lora_reaches_exact_zeros_that_are_zero_in_the_file(tmp_path):
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("s2lora", name="x", lang="en", sparsity=1.0)
    run(recognizer, steps=10, lr=0.01)
    report = adapter.method.report(adapter.by_path())
    assert 0 < report["sparsity"] <= 1
    adapter.save(tmp_path / "a")
    recognizer.adapters.detach("x")
    again = recognizer.adapters.load(tmp_path / "a", name="x")
    assert again.method.report(again.by_path())["sparsity"] == report["sparsity"]


def test_a_learned_language_vector_trains_and_the_slot_of_the_base_does_not():
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="quenya")
    start, slot = adapter.language.v.detach().clone(), recognizer.languages[adapter.manifest.language_slot]
    kept = recognizer.base.model.decoder.embed_tokens.weight[slot].clone()
    run(recognizer, lang=None)
    assert not torch.equal(start, adapter.language.v)
    assert torch.equal(kept, recognizer.base.model.decoder.embed_tokens.weight[slot])


@pytest.mark.parametrize("loss", ["ctc", "ce+ctc"])
def test_a_head_trains_with_its_own_rate(loss):
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en", where="encoder.layers.{0..1}")
    adapter.ctc = CTCHead.for_texts(16, [u.text for u in tones()])
    start = adapter.ctc.weight.detach().clone()
    run(recognizer, loss=loss, lr=1e-12, head_lr=0.1, schedule="constant", warmup=0.0)
    assert (adapter.ctc.weight - start).abs().max() > 0.01


def test_a_heads_rate_below_the_adapters_is_obeyed_and_unless_told_it_is_no_lower():
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en")
    adapter.ctc = CTCHead.for_texts(16, [u.text for u in tones()])

    def peaks(**changes):
        groups = loop.optimizer_for(dict(adapter.named_parameters()), options(**changes), lr=0.02).param_groups
        head = {id(p) for p in adapter.ctc.parameters()}
        return {g["peak"] for g in groups if any(id(p) in head for p in g["params"])}

    assert peaks(head_lr=1e-5) == {1e-5} and peaks(head_lr=0.1) == {0.1} and peaks() == {0.02}


def test_ctc_without_a_head_is_refused_with_a_remedy():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    with pytest.raises(BadInput, match="CTCHead"):
        run(recognizer, loss="ce+ctc")


def test_transcripts_that_do_not_fit_are_counted():
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en")
    corpus = Corpus([utterance(0, seconds=0.1, text="ab" * 9), utterance(1)])
    adapter.ctc = CTCHead.for_texts(16, [u.text for u in corpus])
    message = []
    done = run(recognizer, corpus=corpus, loss="ctc", epochs=3, batch_seconds=60.0, progress=message.append)
    assert done.dropped == 3 and any(isinstance(e, Message) and "did not fit" in e.text for e in message)


def test_the_weights_that_were_best_on_the_development_data_are_kept():
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en")
    scores, seen, events = iter([0.9, 0.4, 0.6, 0.5]), [], []

    def score():
        seen.append(weights(adapter))
        return next(scores)

    done = run(recognizer, steps=4, dev=tones(3), dev_score=score, dev_every=1, progress=events.append)
    assert done.best == (0.4, 2) and done.evaluations == ((1, 0.9), (2, 0.4), (3, 0.6), (4, 0.5)) and done.kind == "wer"
    assert same(weights(adapter), seen[1])
    assert [(e.score, e.best) for e in events if isinstance(e, DevScore)] == [
        (0.9, True),
        (0.4, True),
        (0.6, False),
        (0.5, False),
    ]


def test_equal_scores_keep_the_later_weights_and_still_count_against_patience():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    done = run(recognizer, steps=50, dev=tones(3), dev_score=lambda: 1.0, dev_every=1, patience=3)
    assert done.steps == 4 and done.best == (1.0, 4)


def test_without_a_score_the_loss_on_the_development_data_chooses():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    done = run(recognizer, steps=8, lr=0.01, dev=tones(5), dev_every=2)
    assert done.kind == "loss" and [step for step, _ in done.evaluations] == [2, 4, 6, 8] and done.evaluations[-1][1] < done.evaluations[0][1]


def test_unless_told_there_are_eight_looks_the_last_of_them_at_the_end():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    done = run(recognizer, steps=15, dev=tones(3), dev_score=lambda: 1.0, dev_every=None)
    assert [step for step, _ in done.evaluations] == [2, 4, 6, 8, 10, 12, 14, 15]


def test_the_number_of_looks_does_not_change_what_is_learned():
    found = []
    for every in (1, 100):
        recognizer = tiny_recognizer()
        torch.manual_seed(5)
        adapter = recognizer.adapt("lora", name="x", lang="en", dropout=0.3)
        run(recognizer, dev=tones(3), dev_every=every, dropout=0.1)
        found.append(weights(adapter))
    assert same(*found)


def test_unreadable_utterances_are_named_once_and_the_rest_is_trained_on():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    events = []
    done = run(
        recognizer,
        corpus=Corpus([utterance(0), utterance(1, audio=b"?"), utterance(2), utterance(3, text="x" * 99)]),
        epochs=3,
        progress=events.append,
    )
    assert done.rows == 6 and {s.id for s in done.skipped} == {"u001", "u003"}
    assert [e.id for e in events if isinstance(e, Skipped)] == ["u001"]


@pytest.mark.parametrize("corpus", [Corpus([utterance(0, text="x" * 99)]), Corpus([utterance(0, audio=b"?"), utterance(1, audio=b"?")])])
def test_a_corpus_without_a_usable_utterance_is_refused(corpus):
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    with pytest.raises(BadCorpus, match="u000"):
        run(recognizer, corpus=corpus, epochs=5)


def test_a_gradient_that_is_not_finite_is_not_followed_and_in_the_end_a_failure():
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="x", lang="en")
    with torch.no_grad():
        next(iter(adapter.pieces.values())).b.fill_(float("nan"))
    start = weights(adapter)
    with pytest.raises(Failure, match="--lr"):
        run(recognizer, steps=50)
    assert all(torch.equal(start[n].nan_to_num(), t.nan_to_num()) for n, t in weights(adapter).items())


def test_time_can_be_what_is_planned(monkeypatch):
    ticks = itertools.count(0.0, 0.05)  # a machine of its own: on a busy one a second is a step, on a quiet one two hundred
    monkeypatch.setattr("asrpeft.training.clock.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    events = []
    done = run(recognizer, minutes=0.02, progress=events.append)
    steps = [e for e in events if isinstance(e, Step)]
    assert 1.2 <= done.seconds < 1.5 and len(steps) > 5 and steps[-1].total is None and steps[-1].lr < steps[len(steps) // 2].lr


def test_progress_tells_rate_loss_and_remaining_time():
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    message = []
    done = run(recognizer, steps=3, progress=message.append)
    steps = [e for e in message if isinstance(e, Step)]
    assert [(e.step, e.total) for e in steps] == [(1, 3), (2, 3), (3, 3)] and steps[-1].remaining_s == 0
    assert all(1e6 > e.utterances_per_second > 0 and e.loss > 0 and e.lr > 0 for e in steps)
    assert "Training" in next(e.text for e in message if isinstance(e, Message)) and done.utterances_per_second > 0
    assert done.peak_memory_bytes > 10_000_000


def test_a_float16_base_is_refused_with_a_remedy():
    recognizer = tiny_recognizer()
    recognizer.base.half()
    recognizer.adapt("lora", name="x", lang="en")
    with pytest.raises(BadInput, match="bfloat16"):
        run(recognizer)
