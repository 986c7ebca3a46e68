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
from asrpeft.scoring import score
from asrpeft.training import Message
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones, utterance


def german(n=6, *, first=0, speakers=2, name="german"):
    return Corpus([replace(utterance(first + i, speaker=f"g{i % speakers}"), lang="de") for i in range(n)], name=name)


def test_guard_data_are_reported_before_and_after_and_without_a_limit_choose_nothing(tmp_path):
    recognizer = tiny_recognizer()
    done = finetune(recognizer, tones(8), dev=tones(2), options=options(steps=2), lang="sw", guard=german(), out=tmp_path / "sw")
    report = json.loads(json.dumps(done.to_json(), allow_nan=False))["guard"]
    wer = {}
    for name in (None, "sw"):
        heard = transcribe_corpus(recognizer, german(), adapter=name, lang="de", options=job.Options(stop_loops=True))
        wer[name] = score([u.text for u in heard.utterances], heard.texts, resamples=0).wer
    assert (report["before"]["wer"], report["after"]["wer"]) == (wer[None], wer["sw"])
    assert report["loss"] == pytest.approx(wer["sw"] - wer[None]) and report["passed"] == (report["loss"] <= 0.03)
    assert report["before"]["utterances"] == 6 and report["chosen_by"] is None and report["max_loss"] == 0.03
    written = json.loads((tmp_path / "sw" / "adapter.json").read_text())
    assert written["scores"]["guard"]["loss"] == report["loss"] and written["scores"]["guard"]["data"]["name"] == "german"


def test_a_limit_chooses_on_a_part_that_is_not_reported(tmp_path):
    message = []
    done = finetune(tiny_recognizer(), tones(8), dev=tones(2), options=options(steps=2), lang="sw", guard=german(8, speakers=4), max_loss=9.0,
                    out=tmp_path / "sw", progress=message.append)  # fmt: skip
    guard = done.to_json()["guard"]
    assert guard["chosen_by"]["separate"] and guard["passed"] and guard["max_loss"] == 9.0
    assert guard["data"]["utterances"] + guard["chosen_by"]["data"]["utterances"] == 8
    assert guard["chosen_by"]["evaluations"] and done.training.best is not None
    assert any(isinstance(e, Message) and "choose among weights" in e.text for e in message)
    training = json.loads((tmp_path / "sw" / "adapter.json").read_text())["training"]
    assert training["guard"]["max_loss"] == 9.0 and training["finished"]["guard_evaluations"]


def test_guard_data_that_were_given_to_choose_by_leave_the_others_whole():
    reported, choosing = divide(german(6), german(4, first=6), 0.03, seed=0, progress=lambda event: None)
    assert len(reported) == 6 and len(choosing) == 4
    reported, choosing = divide(None, german(4), 0.03, seed=0, progress=lambda event: None)
    assert reported is None and len(choosing) == 4
    many = german(260, speakers=26)
    reported, choosing = divide(many, None, 0.03, seed=0, progress=lambda event: None)
    assert len(choosing) == CHOOSING and not {u.speaker for u in reported} & {u.speaker for u in choosing}


def test_one_sentence_of_guard_data_is_used_twice_and_that_is_said():
    message = []
    done = finetune(tiny_recognizer(), tones(6), dev=tones(2), options=options(steps=1), lang="sw", guard=german(1), max_loss=9.0, progress=message.append)
    assert not done.to_json()["guard"]["chosen_by"]["separate"]
    assert any(isinstance(e, Message) and "also what is reported" in e.text for e in message)


def test_where_everything_forgets_too_much_nothing_is_saved(tmp_path, monkeypatch):
    losses = {True: 1.2, False: 0.1}  # the adapter's WER on the guard data, and the base's
    asked = []

    def wer(recognizer, name, corpus, *, lang, **how):
        asked.append((name is not None, lang))
        return losses[name is not None] if lang == "de" else 0.5

    monkeypatch.setattr(job, "dev_wer", wer)
    recognizer = tiny_recognizer()
    with pytest.raises(Failure, match=r"lost 110\.0 points.*5 are allowed"):
        finetune(recognizer, tones(6), dev=tones(2), options=options(steps=2), lang="sw", guard=german(), guard_lang="de", max_loss=0.05, out=tmp_path / "sw")
    assert not (tmp_path / "sw").exists() and "sw" not in recognizer.adapters
    assert asked.count((False, "de")) == 1 and asked.count((True, "de")) >= 1  # the base is decoded once, in the guard's language


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_loss": 0.03}, "--guard"),
        ({"guard_dev": german(2)}, "--max-loss"),
        ({"guard": german(2), "max_loss": -0.1}, "-10"),
        ({"guard": tones(2)}, "--guard-lang"),
        ({"guard": tones(2), "guard_lang": "bam"}, "bam"),
    ],
)
def test_guard_data_that_cannot_be_used_are_refused_before_training(given, said):
    recognizer, events = tiny_recognizer(), []
    with pytest.raises(BadInput, match=said):
        finetune(recognizer, tones(6), dev=tones(2), options=options(steps=1), lang="sw", progress=events.append, **given)
    assert not events and not len(recognizer.adapters)
