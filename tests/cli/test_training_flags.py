"""What the flags of `finetune` and `speakers` ask of the jobs, without a model."""

import pytest

from asrpeft.cli import main
from asrpeft.cli import options as o
from asrpeft.corpus import Corpus
from tests.training.tones import utterance


class Reached(BaseException):
    """The job was asked. (An Exception would be told as an internal error.)"""


@pytest.fixture
def asked(monkeypatch):
    """A function from a verb and flags to the arguments of its job."""
    heard = {}

    def job(*given, **keywords):
        heard.update(keywords, given=given)
        raise Reached

    for verb in ("finetune", "speakers", "compare"):
        monkeypatch.setattr(f"asrpeft.jobs.{verb}.{verb}", job)
    monkeypatch.setattr(o, "load_model", lambda *given, **keywords: None)
    monkeypatch.setattr("asrpeft.jobs.provenance.run_of", lambda *given, **keywords: {})
    monkeypatch.setattr(o, "read_corpus", lambda *given, **keywords: Corpus([utterance(0)], name="tones"))

    def of(verb, *flags):
        needed = ["--eval-data", "y"] if verb == "compare" else []
        with pytest.raises(Reached):
            main.run([verb, "--data", "x", "--out", "never-made", *needed, *flags])
        return heard

    return of


@pytest.mark.parametrize("verb", ["finetune", "speakers", "compare"])
def test_checkpoints_come_as_often_as_asked(asked, verb):
    assert asked(verb)["training"].checkpoint_s == 60.0
    assert asked(verb, "--checkpoint-minutes", "0.25", "--workers", "0")["training"].checkpoint_s == 15.0
    assert asked(verb, "--checkpoint-minutes", "0", "--workers", "0")["training"].workers == 0


def test_sound_without_speech_is_trained_on_as_much_as_asked_and_from_recordings_that_are_given(asked, monkeypatch):
    street = Corpus([utterance(1, text="")], name="street")
    monkeypatch.setattr(o, "read_recordings", lambda place: street if place == "street" else None)
    result = asked("finetune")
    assert result["training"].nonspeech_share == 0.05 and result["given"][1].nonspeech is None
    result = asked("finetune", "--nonspeech", "street", "--nonspeech-share", "0.2")
    assert result["training"].nonspeech_share == 0.2 and result["given"][1].nonspeech is street
    assert asked("speakers", "--nonspeech-share", "0")["training"].nonspeech_share == 0.0


@pytest.mark.parametrize("verb", ["finetune", "speakers", "compare"])
def test_the_job_is_asked_for_what_was_typed(asked, verb):
    flags = ["--proxy-lang", "de", "--lang", "xx", "--head-lr", "0.5", "--label-smoothing", "0.1", "--weight-decay", "0", "--dev-every", "3", "--no-record"]
    result = asked(verb, *flags, "--beams", "2", "--seed", "5", "--allow-overlap")
    training = result["training"]
    assert (training.head_lr, training.label_smoothing, training.weight_decay, training.dev_every, training.seed) == (0.5, 0.1, 0.0, 3, 5)
    assert (result["lang"].lang, result["lang"].proxy_lang) == ("xx", "de") and (result["decoding"].beams, result["decoding"].seed) == (2, 5)
    assert result["out"].record is False and result["given"][1].overlap == "tell"
    assert asked(verb)["given"][1].overlap == "refuse"


def test_the_optimizer_is_told_by_name_with_its_settings(asked):
    assert asked("finetune")["training"].optimizer == "adamw"
    assert asked("finetune", "--optimizer", "galore,rank=16", "--schedule", "onecycle")["training"].optimizer == "galore,rank=16"
