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

    for verb in ("finetune", "speakers"):
        monkeypatch.setattr(f"asrpeft.jobs.{verb}.{verb}", job)
    monkeypatch.setattr(o, "load_model", lambda *given, **keywords: None)
    monkeypatch.setattr(o, "read_corpus", lambda *given, **keywords: Corpus([utterance(0)], name="tones"))

    def of(verb, *flags):
        with pytest.raises(Reached):
            main.run([verb, "--data", "x", "--out", "never-made", *flags])
        return heard

    return of


@pytest.mark.parametrize("verb", ["finetune", "speakers"])
def test_checkpoints_come_as_often_as_asked(asked, verb):
    assert asked(verb)["options"].checkpoint_s == 60.0
    assert asked(verb, "--checkpoint-minutes", "0.25", "--workers", "0")["options"].checkpoint_s == 15.0
    assert asked(verb, "--checkpoint-minutes", "0", "--workers", "0")["options"].workers == 0


def test_sound_without_speech_is_trained_on_as_much_as_asked_and_from_recordings_that_are_given(asked, monkeypatch):
    street = Corpus([utterance(1, text="")], name="street")
    monkeypatch.setattr(o, "read_recordings", lambda place: street if place == "street" else None)
    result = asked("finetune")
    assert result["options"].nonspeech_share == 0.05 and result["nonspeech"] is None
    result = asked("finetune", "--nonspeech", "street", "--nonspeech-share", "0.2")
    assert result["options"].nonspeech_share == 0.2 and result["nonspeech"] is street
    assert asked("speakers", "--nonspeech-share", "0")["options"].nonspeech_share == 0.0


def test_the_optimizer_is_told_by_name_with_its_settings(asked):
    assert asked("finetune")["options"].optimizer == "adamw"
    assert asked("finetune", "--optimizer", "galore,rank=16", "--schedule", "onecycle")["options"].optimizer == "galore,rank=16"
