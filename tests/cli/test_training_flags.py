"""What the flags of `finetune` and `speakers` ask of the jobs, without a model."""

import pytest

from asrpeft.cli import main
from asrpeft.cli import options as o
from asrpeft.corpus import Corpus
from tests.training.tones import utterance


class Reached(Exception):
    """The job was asked."""


@pytest.fixture
def asked(monkeypatch):
    """A function from a verb and flags to the arguments of its job."""
    heard = {}

    def job(*given, **told):
        heard.update(told, given=given)
        raise Reached

    for verb in ("finetune", "speakers"):
        monkeypatch.setattr(f"asrpeft.jobs.{verb}.{verb}", job)
    monkeypatch.setattr(o, "load_model", lambda *given, **told: None)
    monkeypatch.setattr(o, "read_corpus", lambda *given, **told: Corpus([utterance(0)], name="tones"))

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
