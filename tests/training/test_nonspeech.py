"""Sound without speech in training: made on the spot, the same for the same key, and with nothing to be written."""

import numpy as np
import pytest
import torch

from asrpeft.corpus import Corpus, Utterance
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.jobs import nonspeech as job
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.nonspeech import divide
from asrpeft.options import AdapterOptions, Data
from asrpeft.recognizer import IGNORED
from asrpeft.training import Message, TrainingData, nonspeech, train
from asrpeft.training.examples import Examples
from asrpeft.training.steps import Steps
from tests.bases import tiny_recognizer
from tests.training.killed_run import run
from tests.training.test_resume import stopped
from tests.training.tones import options, tones, utterance


def examples(n=40, share=0.2, recordings=None, **changes):
    recognizer = tiny_recognizer()
    asked = options(epochs=2, nonspeech_share=share, **changes)
    made = Examples.for_training(TrainingData(tones(n), recognizer.prompt(lang="en"), recordings), recognizer, options=asked)
    return made, Steps(made, asked)


@pytest.mark.parametrize("kind", range(len(nonspeech.KINDS)), ids=lambda k: nonspeech.KINDS[k].__name__)
@pytest.mark.parametrize("seconds", [0.05, 1.0, 30.0])
def test_every_kind_of_clip_is_sound_of_its_length_and_the_same_for_the_same_key(kind, seconds):
    clip = nonspeech.clip(seconds, 7, kind=kind)
    assert clip.shape == (round(seconds * 16_000),) and clip.dtype == torch.float32
    assert clip.isfinite().all() and clip.abs().max() <= 1.0
    assert torch.equal(clip, nonspeech.clip(seconds, 7, kind=kind))
    assert kind == 0 or not torch.equal(clip, nonspeech.clip(seconds, 8, kind=kind))


def test_the_share_of_rows_is_what_was_asked_for():
    made, _ = examples(share=0.2)
    counts = [sum(row < 0 for row in made.drawn(epoch)) for epoch in range(200)]
    assert np.mean(counts) == pytest.approx(10.0, abs=0.2) and all(len(made.drawn(e)) == 40 + counts[e] for e in range(200))
    few, _ = examples(n=4, share=0.05)  # a fifth of a row an epoch: one now and then
    assert np.mean([sum(row < 0 for row in few.drawn(epoch)) for epoch in range(400)]) == pytest.approx(4 / 19, abs=0.06)
    assert min(examples(share=0.0)[0].drawn(0)) == 0


def test_its_transcript_is_empty_so_that_the_end_follows_the_prompt():
    made, _ = examples()
    one = made.example(-3, 0)
    assert one.text == "" and one.inputs == tuple(made.prompts[0]) and one.labels == (*[IGNORED] * (len(one.inputs) - 1), made.end)
    again, other = made.example(-3, 0), made.example(-3, 1)
    assert torch.equal(one.features, again.features)
    assert one.features.shape != other.features.shape or not torch.equal(one.features, other.features)
    assert made.frames(0, [-3]) == [one.context]


def test_every_row_of_an_epoch_is_computed_once_and_only_speech_counts_as_utterances():
    made, steps = examples()
    rows = [row for key in steps.epoch(1) for batch in key.batches for row in batch]
    assert sorted(rows) == sorted(made.drawn(1)) and any(row < 0 for row in rows)
    batch, bad = made.batch([0, -1, 5], 0)
    assert not bad and len(batch) == 3 and batch.utterances == 2
    done = finetune(tiny_recognizer(), Data(tones(12), dev=tones(2), check_nonspeech=False), lang="en", training=options(epochs=2, nonspeech_share=0.4))
    assert done.training.rows == 24


@pytest.mark.parametrize("loss", ["ce", "ctc", "ce+ctc"])
def test_the_adapter_learns_to_write_nothing_there(loss):
    """The probability of the end after the prompt rises on clips; for CTC that of the blank."""
    recognizer = tiny_recognizer()
    finetune(
        recognizer,
        Data(tones(8), dev=tones(2), check_nonspeech=False),
        lang="en",
        method=AdapterOptions(name="x"),
        training=options(steps=12, lr=0.02, loss=loss, nonspeech_share=0.5),
    )
    held = Examples(TrainingData(nonspeech.held_out(), recognizer.prompt(lang="en")), recognizer, context="auto")
    batch, _ = held.batch(range(8), None)

    def nothing(name):
        with torch.no_grad():
            output = recognizer(batch.features, batch.frames, batch.tokens, route=name)
            if loss == "ctc":
                adapter = recognizer.adapters["x"]
                states = recognizer(batch.features, batch.frames, None, route=name).encoded.states
                return float(adapter.ctc(states)[..., 0].exp().mean())
            return float(output.logits.softmax(-1)[batch.labels != IGNORED][:, held.end].mean())

    untrained = 1 / (len(recognizer.adapters["x"].ctc.vocabulary) if loss == "ctc" else 60)
    assert nothing("x") > (3 * untrained if loss == "ctc" else 2 * nothing(None))


def test_a_transcript_that_does_not_fit_is_still_told_apart_from_none():
    recognizer, message = tiny_recognizer(), []
    finetune(
        recognizer,
        Data(Corpus([*tones(6), utterance(7, seconds=0.1, text="ab cd ef gh ij kl mn op")]), dev=tones(2), check_nonspeech=False),
        lang="en",
        training=options(epochs=1, loss="ctc", nonspeech_share=0.4),
        progress=message.append,
    )
    assert any(isinstance(e, Message) and e.text.startswith("1 times") for e in message)


@pytest.mark.parametrize("given", [False, True])
def test_a_killed_run_with_such_rows_resumes_to_the_same_weights(tmp_path, given):
    recordings = Corpus([Utterance(f"r{i}", u.audio, "", duration=u.duration) for i, u in enumerate(tones(3))]) if given else None
    expected, _ = run(tmp_path / "whole", nonspeech_share=0.4, nonspeech=recordings)
    stopped(tmp_path / "checkpoint", 4, nonspeech_share=0.4, nonspeech=recordings)
    weights, _ = run(tmp_path / "checkpoint", nonspeech_share=0.4, nonspeech=recordings, resume=True)
    assert all(torch.equal(weights[n], t) for n, t in expected.items())
    if given:
        with pytest.raises(BadInput, match="recordings without speech"):
            run(tmp_path / "checkpoint", nonspeech_share=0.4, resume=True)


def test_half_of_the_rows_come_from_recordings_that_are_given():
    recordings = Corpus([utterance(i, seconds=20.0, text="") for i in range(10)], name="street")
    trained, held = divide(recordings, seed=3)
    assert len(trained) == 8 and len(held) == nonspeech.CLIPS + 2 and held.name == "made non-speech and 2 of street"
    assert not {u.id for u in trained} & {u.id for u in held}
    made, _ = examples(recordings=trained)
    whole = [trained[i].samples() for i in range(8)]
    seconds = made._silent_seconds(-3, 0)
    cut = nonspeech.cut(trained, seconds, made.seed, -3, 0).numpy()
    assert len(cut) == round(16_000 * seconds) and any(cut.tobytes() in one.tobytes() for one in whole)
    with pytest.raises(BadInput, match="--nonspeech-share 0"):
        finetune(tiny_recognizer(), Data(tones(4), nonspeech=recordings), lang="en", training=options())


def test_what_base_and_adapter_write_there_is_told_kept_and_warned_of(tmp_path, monkeypatch):
    def heard(recognizer, clips, *, adapter, **_):
        texts = ["zero" if adapter and i % 4 == 0 else "" for i in range(len(clips))]
        return type("Heard", (), {"texts": texts, "utterances": tuple(clips), "audio_seconds": 72.0})()

    monkeypatch.setattr(job, "transcribe_corpus", heard)
    message, recognizer = [], tiny_recognizer()
    done = finetune(
        recognizer, Data(tones(8), dev=tones(2)), lang="en", out=tmp_path / "a", training=options(steps=1, nonspeech_share=0.1), progress=message.append
    )
    found = done.to_json()["nonspeech"]
    assert (found["before"]["rate"], found["after"]["rate"], found["after"]["clips"], found["more"]) == (0.0, 0.25, 16, True)
    said = [e.text for e in message if isinstance(e, Message) and "nobody speaks" in e.text]
    assert len(said) == 1 and said[0].startswith("WARNING") and "4 of 16 clips, the base in 0 ('zero')" in said[0] and "--nonspeech-share" in said[0]
    assert recognizer.adapters["a"].manifest.scores["nonspeech"] == {"clips": 16, "before": 0.0, "after": 0.25, "share": 0.1}


def test_clips_that_no_training_hears_are_always_the_same_ones():
    first, second = nonspeech.held_out(), nonspeech.held_out()
    assert len(first) == 16 and all(np.array_equal(a.samples(), b.samples()) for a, b in zip(first, second))
    assert sum(u.duration for u in first) == pytest.approx(72.0) and len({u.samples().tobytes() for u in first}) == 16


def test_a_corpus_of_which_nothing_can_be_read_does_not_train_on_silence_alone():
    broken = Corpus([utterance(i, audio=b"RIFF no sound") for i in range(8)])
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en")
    with pytest.raises(BadCorpus, match="none could be read"):
        train(recognizer, "x", TrainingData(broken, recognizer.prompt(lang="en")), options=options(epochs=3, nonspeech_share=0.3))
