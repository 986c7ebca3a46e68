"""`compare`: a contest of methods in which one that fails costs the others nothing."""

import pytest
import torch

from asrpeft.errors import BadInput
from asrpeft.jobs import compare as job
from asrpeft.jobs.compare import contest
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


def test_what_cannot_run_is_told_before_anything_trains(tmp_path):
    given = {"methods": ["lora", "ia3"], "options": options(steps=1), "lang": "en", "out": tmp_path}
    (tmp_path / "ia3").mkdir()
    for changes, why in (({}, "ia3.*exists already"), ({"settings": {"ia3": {"nope": 1}}}, "nope")):
        with pytest.raises(BadInput, match=why):
            contest(tiny_recognizer(), tones(6), tones(2), **given, **changes)
    assert not (tmp_path / "lora").exists()


def test_a_method_that_fails_is_reported_and_the_others_are_scored(monkeypatch):
    real = job.finetune

    def finetune(recognizer, data, **told):
        if told["method"] == "ia3":
            recognizer.adapt("ia3", name="ia3", lang="en")
            raise torch.OutOfMemoryError("no memory is left")
        return real(recognizer, data, **told)

    monkeypatch.setattr(job, "finetune", finetune)
    recognizer = tiny_recognizer()
    found = contest(recognizer, tones(8), tones(2), methods=["lora", "ia3", "bitfit"], options=options(steps=1), lang="en")
    assert [entry.trained.method for entry in found.entries] == ["lora", "bitfit"] and found.failed == {"ia3": "no memory is left"}
    assert len(recognizer.adapters) == 0
