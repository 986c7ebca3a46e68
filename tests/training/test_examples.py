"""Utterances become features, contexts, inputs and labels; what cannot is named."""

from dataclasses import replace

import pytest
import torch

from asrpeft.audio import log_mel
from asrpeft.corpus import Corpus, Utterance
from asrpeft.errors import BadAudio, BadCorpus, BadInput
from asrpeft.recognizer import IGNORED
from asrpeft.training import train
from asrpeft.training.batch import StepKey
from asrpeft.training.budget import part
from asrpeft.training.cohort import joined
from asrpeft.training.examples import Examples, TrainingData
from asrpeft.training.steps import Steps
from tests.bases import tiny_recognizer
from tests.training.tones import options, tone, tones, utterance


@pytest.fixture(scope="module")
def recognizer():
    return tiny_recognizer()


def made(recognizer, corpus, **changes):
    return Examples.for_training(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, options=options(**changes))


def test_labels_are_the_inputs_shifted_by_one_with_the_prompt_left_out_and_the_end_put_in(recognizer):
    prompt = recognizer.prompt(lang="en")
    text = recognizer.encode_text(" ab ab 0")
    example = made(recognizer, tones()).example(0, None)
    assert example.inputs == (*prompt, *text)
    assert example.labels == (*[IGNORED] * (len(prompt) - 1), *text, recognizer.end)
    assert example.inputs.count(recognizer.start) == 1 and recognizer.start not in example.labels


def test_padding_of_a_batch_is_no_target(recognizer):
    batch, bad = made(recognizer, Corpus([utterance(0, text="a"), utterance(1, text="abcdefgh")])).batch([0, 1], None)
    assert not bad and batch.tokens.shape == batch.labels.shape
    short = len(recognizer.prompt(lang="en")) + 2
    assert (batch.labels[0, short:] == IGNORED).all() and (batch.tokens[0, short:] == recognizer.end).all()


def test_an_example_does_not_depend_on_its_batch(recognizer):
    examples = made(recognizer, tones(), augment="strong")
    together, _ = examples.batch([0, 3, 7], 2)
    for row, index in enumerate((0, 3, 7)):
        alone, _ = examples.batch([index], 2)
        n = 2 * int(alone.frames[0])
        assert together.frames[row] == alone.frames[0]
        assert torch.equal(together.features[row, :, :n], alone.features[0])
        assert (together.features[row, :, n:] == 0).all()


def test_chance_is_keyed_by_seed_utterance_and_epoch(recognizer):
    examples = made(recognizer, tones(), augment="strong")
    once = examples.example(1, 4).features
    assert torch.equal(once, made(recognizer, tones().filter(lambda u: u.id != "u000"), augment="strong").example(0, 4).features)
    assert once.shape != examples.example(1, 5).features.shape or not torch.equal(once, examples.example(1, 5).features)
    other = made(recognizer, tones(), augment="strong", seed=1).example(1, 4).features
    assert once.shape != other.shape or not torch.equal(once, other)


def test_development_data_are_heard_as_they_are(recognizer):
    corpus = tones()
    example = Examples(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, context="auto").example(2, None)
    samples = torch.from_numpy(corpus[2].samples())
    assert torch.equal(example.features, log_mel(samples, n_mels=recognizer.n_mels, n_frames=2 * example.context))
    assert (example.context, example.speech) == (50, 25)  # 0.5 s and a margin of 0.5 s


def test_what_a_row_will_cost_is_known_before_it_is_heard(recognizer):
    corpus = Corpus([utterance(n, audio=tone(200, seconds), seconds=seconds) for n, seconds in enumerate((0.7, 2.6, 4.9, 9.4, 29.0))])
    examples = made(recognizer, corpus, augment="standard", nonspeech_share=0.3)
    for epoch in (None, 0, 1, 2, 3):
        rows = list(range(5)) if epoch is None else examples.drawn(epoch)
        assert examples.frames(epoch, rows) == [examples.example(row, epoch).context for row in rows]
    assert len({tuple(examples.frames(epoch)) for epoch in range(4)}) == 4  # played slower and faster


def test_contexts_are_jittered_in_training_only(recognizer):
    examples = made(recognizer, Corpus([utterance(0, seconds=4.0)]))
    assert {examples.example(0, epoch).context for epoch in range(12)} == {250, 300}
    assert set(made(recognizer, tones(), context="full").frames(0)) == {1500}


def test_a_transcript_that_does_not_fit_the_decoder_is_left_out_and_said_to_be(recognizer):
    corpus = Corpus([utterance(0), utterance(1, text="x" * 100)])
    examples = made(recognizer, corpus)
    assert len(examples) == 1 and [s.id for s in examples.skipped] == ["u001"] and "101 tokens" in examples.skipped[0].reason


def test_virtual_tokens_take_their_room_from_the_transcript(recognizer):
    corpus = Corpus([utterance(0, text="x" * 40)])
    prompt = recognizer.prompt(lang="en")
    assert len(Examples(TrainingData(corpus, prompt), recognizer, context="auto")) == 1
    assert len(Examples(TrainingData(corpus, prompt), recognizer, context="auto", reserved=30)) == 0


def test_broken_audio_is_named_and_the_others_are_computed(recognizer):
    corpus = Corpus([utterance(0), utterance(1, audio=b"no sound at all"), utterance(2)])
    data = made(recognizer, corpus)[StepKey(0, 0, ((0, 1), (1,), (2,), ()))]
    assert [batch.ids for batch in data.batches] == [("u000",), ("u002",)]
    assert {s.id for s in data.skipped} == {"u001"} and "u001" in data.skipped[0].reason


def test_audio_is_decoded_once_while_there_is_room(recognizer, monkeypatch):
    corpus, reads = tones(2), []
    real = Utterance.samples
    monkeypatch.setattr(Utterance, "samples", lambda self: (reads.append(self.id), real(self))[1])
    small = made(recognizer, corpus, cache_mb=1)
    for _ in range(3):
        small.batch([0, 1], 0)
    assert reads == ["u000", "u001"]
    none = made(recognizer, corpus, cache_mb=0)
    none.batch([0], 0), none.batch([0], 0)
    assert reads[2:] == ["u000", "u000"]


def test_features_are_made_once_where_a_sound_is_heard_so_again(recognizer, monkeypatch):
    computed = []
    monkeypatch.setattr("asrpeft.training.examples.log_mel", lambda samples, **given: (computed.append(len(samples)), log_mel(samples, **given))[1])
    examples = made(recognizer, tones(2), augment="standard")
    fresh = examples.example(0, None), examples.example(0, 0), examples.example(0, 1)
    again = examples.example(0, None), examples.example(0, 0), examples.example(0, 1)
    assert len(computed) == 5 and all(
        torch.equal(a.features, b.features) and (a.context, a.speech) == (b.context, b.speech) for a, b in zip(fresh, again, strict=True)
    )
    examples.variants = 2
    examples.example(0, 0), examples.example(1, 0), computed.clear()
    assert torch.equal(examples.example(0, 2).features, fresh[1].features) and not computed  # the third epoch is the first variant again
    examples._room = 0
    examples.example(0, 1), examples.example(0, 3)
    assert len(computed) == 2


def test_more_than_thirty_seconds_is_refused(recognizer):
    examples = made(recognizer, Corpus([utterance(0, audio=tone(200, 30.5), seconds=29.0)]))
    with pytest.raises(BadAudio, match="30"):
        examples.example(0, None)


def test_rows_of_several_languages_have_prompts_of_their_own(recognizer):
    corpus = Corpus([utterance(0), utterance(1)])
    languages = {"u000": "en", "u001": "de"}
    examples = Examples(TrainingData(corpus, lambda u: recognizer.prompt(lang=languages[u.id])), recognizer, context="auto")
    batch, _ = examples.batch([0, 1], None)
    assert batch.tokens[0, 1] == recognizer.language_token("en") and batch.tokens[1, 1] == recognizer.language_token("de")


def test_each_row_is_drawn_as_often_as_its_weight_says_and_anew_each_time(recognizer):
    corpus = Corpus.mix([(tones(6), 2), (Corpus(tones(12)[6:], name="rest"), 0.5)])
    examples = made(recognizer, corpus, augment="strong")
    rows = [examples.drawn(epoch) for epoch in range(8)]
    for place in range(12):
        times = [sum(row % 12 == place for row in drawn) for drawn in rows]
        assert times == [2] * 8 if place < 6 else (set(times) == {0, 1} and times[:2] in ([0, 1], [1, 0]) and sum(times) == 4)
    assert rows[2] == made(recognizer, corpus, augment="strong").drawn(2)
    once, twice = (examples.example(row, 0) for row in (3, 15))
    assert once.id == twice.id == "u003" and not (once.features.shape == twice.features.shape and torch.equal(once.features, twice.features))
    assert made(recognizer, tones()).drawn(5) == list(range(12))


def test_a_row_whose_loss_weighs_nothing_is_not_trained_on_and_dev_data_know_no_weights(recognizer):
    corpus = Corpus([replace(u, loss_weight=w) for u, w in zip(tones(4), (1.0, 0.0, 0.25, 0.0))])
    examples = made(recognizer, corpus)
    assert [examples.corpus[row].id for row in examples.drawn(0)] == ["u000", "u002"]
    assert examples.batch([0, 2], 0)[0].weights == (1.0, 0.25) and examples.batch([0, 2], None)[0].weights == ()
    assert not examples.skipped, "nothing is wrong with such a row"
    nothing = Corpus([replace(u, loss_weight=0.0) for u in tones(2)], name="nothing")
    recognizer.adapt("lora", name="idle", lang="en")
    with pytest.raises(BadCorpus, match="'?nothing'? weigh nothing"):
        train(recognizer, "idle", TrainingData(nothing, recognizer.prompt(lang="en")), options=options())
    recognizer.adapters.detach("idle")


def test_a_part_of_a_batch_keeps_what_each_of_its_rows_is_told_and_weighs(recognizer):
    corpus = Corpus([replace(u, loss_weight=w) for u, w in zip(tones(3), (1.0, 0.5, 0.25))])
    batch = replace(made(recognizer, corpus).batch(range(3), 0)[0], facts=({"age": 1}, {"age": 2}, {"age": 3}))
    some = part(batch, [2, 0])
    assert (some.ids, some.weights, some.facts) == (("u002", "u000"), (0.25, 1.0), ({"age": 3}, {"age": 1}))
    assert joined([some, replace(batch, weights=())]).weights == (0.25, 1.0, 1.0, 1.0, 1.0) and joined([replace(batch, weights=())]).weights == ()


def test_an_epoch_of_steps_holds_every_row_that_is_drawn(recognizer):
    corpus = Corpus.mix([(tones(6), 3), (Corpus(tones(12)[6:], name="rest"), 0.4)])
    examples = made(recognizer, corpus, epochs=4)
    steps = Steps(examples, options(epochs=4))
    for epoch in range(4):
        assert sorted(row for key in steps.epoch(epoch) for batch in key.batches for row in batch) == sorted(examples.drawn(epoch))
    assert all(batch is not None for key in steps.epoch(0) for batch in examples[key].batches)
    with pytest.raises(BadInput, match="nothing is drawn in 1 epochs"):
        Steps(made(recognizer, Corpus.mix([(Corpus([utterance(0)]), 0.001)])), options(epochs=1))
