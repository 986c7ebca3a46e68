"""`finetune` with guard data: what is reported, what chooses, and what happens where everything is forgotten."""

import json
from dataclasses import replace

import pytest

from asrpeft.corpus import Corpus
from asrpeft.decoding import transcribe_corpus
from asrpeft.errors import BadInput, Failure
from asrpeft.jobs import finetune as job
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.guard import CHOOSING, divide
from asrpeft.options import Data, DecodingOptions, TrainingGuard
from asrpeft.scoring import score
from asrpeft.training import Message
from asrpeft.training.choice import Rates
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones, utterance


def german(n=6, *, first=0, speakers=2, name="german"):
    return Corpus([replace(utterance(first + i, speaker=f"g{i % speakers}"), lang="de") for i in range(n)], name=name)


def test_guard_data_are_reported_before_and_after_and_without_a_limit_choose_nothing(tmp_path):
    recognizer = tiny_recognizer()
    done = finetune(recognizer, Data(tones(8), dev=tones(2), guard=TrainingGuard(german())), lang="sw", out=tmp_path / "sw", training=options(steps=2))
    report = json.loads(json.dumps(done.to_json(), allow_nan=False))["guard"]
    wer = {}
    for name in (None, "sw"):
        heard = transcribe_corpus(recognizer, german(), adapter=name, lang="de", options=DecodingOptions())
        wer[name] = score([u.text for u in heard.utterances], heard.texts, bootstrap=None).wer
    assert (report["before"]["wer"], report["after"]["wer"]) == (wer[None], wer["sw"])
    assert report["loss"] == pytest.approx(wer["sw"] - wer[None]) and report["passed"] == (report["loss"] <= 0.03)
    assert report["before"]["utterances"] == 6 and report["chosen_by"] is None and report["max_loss"] == 0.03
    written = json.loads((tmp_path / "sw" / "adapter.json").read_text())
    assert written["scores"]["guard"]["loss"] == report["loss"] and written["scores"]["guard"]["data"]["name"] == "german"


def test_a_limit_chooses_on_a_part_that_is_not_reported(tmp_path):
    message = []
    done = finetune(
        tiny_recognizer(),
        Data(tones(8), dev=tones(2), guard=TrainingGuard(german(8, speakers=4), max_loss=9.0)),
        lang="sw",
        out=tmp_path / "sw",
        training=options(steps=2),
        progress=message.append,
    )
    guard = done.to_json()["guard"]
    assert guard["chosen_by"]["separate"] and guard["passed"] and guard["max_loss"] == 9.0
    assert guard["data"]["utterances"] + guard["chosen_by"]["data"]["utterances"] == 8
    assert guard["chosen_by"]["evaluations"] and done.training.best is not None
    assert any(isinstance(e, Message) and "choose among weights" in e.text for e in message)
    training = json.loads((tmp_path / "sw" / "adapter.json").read_text())["training"]
    assert training["guard"]["max_loss"] == 9.0 and training["finished"]["guard_evaluations"]


def test_guard_data_that_were_given_to_choose_by_leave_the_others_whole():
    guard = divide(TrainingGuard(german(6), max_loss=0.03, dev=german(4, first=6)), seed=0, progress=lambda event: None)
    assert len(guard.data) == 6 and len(guard.dev) == 4
    guard = divide(TrainingGuard(max_loss=0.03, dev=german(4)), seed=0, progress=lambda event: None)
    assert guard.data is None and len(guard.dev) == 4
    guard = divide(TrainingGuard(german(260, speakers=26), max_loss=0.03), seed=0, progress=lambda event: None)
    assert len(guard.dev) == CHOOSING and not {u.speaker for u in guard.data} & {u.speaker for u in guard.dev}


def test_one_sentence_of_guard_data_is_used_twice_and_that_is_said():
    message = []
    done = finetune(
        tiny_recognizer(),
        Data(tones(6), dev=tones(2), guard=TrainingGuard(german(1), max_loss=9.0)),
        lang="sw",
        training=options(steps=1),
        progress=message.append,
    )
    assert not done.to_json()["guard"]["chosen_by"]["separate"]
    assert any(isinstance(e, Message) and "also what is reported" in e.text for e in message)


def test_where_everything_forgets_too_much_nothing_is_saved(tmp_path, monkeypatch):
    losses = {True: 1.2, False: 0.1}  # the adapter's WER on the guard data, and the base's
    asked = []

    def rates(recognizer, name, corpus, *, speech, **how):
        asked.append((name is not None, speech.lang))
        return Rates(losses[name is not None] if speech.lang == "de" else 0.5, 0.5)

    monkeypatch.setattr(job, "dev_rates", rates)
    recognizer = tiny_recognizer()
    with pytest.raises(Failure, match=r"lost 110\.0 points.*5 are allowed"):
        finetune(
            recognizer,
            Data(tones(6), dev=tones(2), guard=TrainingGuard(german(), lang="de", max_loss=0.05)),
            lang="sw",
            out=tmp_path / "sw",
            training=options(steps=2),
        )
    assert not (tmp_path / "sw").exists() and "sw" not in recognizer.adapters
    assert asked.count((False, "de")) == 1 and asked.count((True, "de")) >= 1  # the base is decoded once, in the guard's language


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_loss": 0.03}, "--guard"),
        ({"dev": german(2)}, "--max-loss"),
        ({"data": german(2), "max_loss": -0.1}, "-10"),
        ({"data": tones(2)}, "--guard-lang"),
        ({"data": tones(2), "lang": "bam"}, "bam"),
    ],
)
def test_guard_data_that_cannot_be_used_are_refused_before_training(given, said):
    recognizer, events = tiny_recognizer(), []
    with pytest.raises(BadInput, match=said):
        data = Data(tones(6), dev=tones(2), guard=TrainingGuard(**given))
        finetune(recognizer, data, lang="sw", training=options(steps=1), progress=events.append)
    assert not events and not len(recognizer.adapters)
