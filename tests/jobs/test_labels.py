"""What a model wrote is trained on by its weight, and is no reference: nothing is scored, chosen or kept by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asrpeft.corpus import Corpus
from asrpeft.corpus.labels import LABELED_BY, by_people, held_out
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.jobs.amounts import amounts
from asrpeft.jobs.compare import compare
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune, weighed
from asrpeft.jobs.speakers import speakers
from asrpeft.options import Checks, Data, GrowingData, Guard, TrainingGuard
from asrpeft.training import Message
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones, utterance

HOW = {"training": options(steps=1), "lang": "en"}
REAL = tones(6)
WRITTEN = Corpus([replace(utterance(i), extra={LABELED_BY: "tiny + a"}, loss_weight=0.5) for i in range(6, 12)], name="written")
DATA = {
    "dev": Data(REAL, WRITTEN),
    "eval": Data(REAL, REAL[:2], WRITTEN, overlap="ignore"),
    "guard": Data(REAL, REAL[:2], guard=TrainingGuard(WRITTEN, lang="en"), overlap="ignore"),
    "choosing guard": Data(REAL, REAL[:2], guard=TrainingGuard(REAL, lang="en", max_loss=1.0, dev=WRITTEN), overlap="ignore"),
}
SAID = "6 of the 6 texts of the {} data 'written' were written by a model .u006: by tiny . a"
JOBS = {
    **{f"finetune: {what}": (lambda out, data=data: finetune(tiny_recognizer(), data, out=out, **HOW), what) for what, data in DATA.items()},
    "compare": (lambda out: compare(tiny_recognizer(), Data(REAL, eval=WRITTEN), methods=["lora"], **HOW), "eval"),
    "amounts": (lambda out: amounts(tiny_recognizer(), GrowingData(REAL, WRITTEN, REAL, fractions=(1.0,)), **HOW), "dev"),
    "evaluate": (lambda out: evaluate(tiny_recognizer(), WRITTEN, lang="en"), "eval"),
    "evaluate: guard": (lambda out: evaluate(tiny_recognizer(), REAL, lang="en", checks=Checks(guard=Guard(WRITTEN, lang="en"))), "guard"),
    "speakers": (lambda out: speakers(tiny_recognizer(), WRITTEN, out=out, **HOW), "speakers'"),
}


@pytest.mark.parametrize("job", JOBS)
def test_what_a_model_wrote_is_no_reference(job, tmp_path):
    run, what = JOBS[job]
    with pytest.raises(BadInput, match=SAID.format({"dev": "development", "eval": "evaluation"}.get(what, what))):
        run(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_dev_data_are_held_out_of_what_people_wrote_alone():
    both = Corpus([*REAL, *WRITTEN], name="both")
    rest, dev = held_out(both, 0.1, 0)
    assert len(dev) and by_people(dev)[:] and len(by_people(dev)) == len(dev) and {u.id for u in WRITTEN} <= {u.id for u in rest} and len(rest) + len(dev) == 12
    with pytest.raises(BadCorpus, match="--dev-data"):
        held_out(WRITTEN, 0.1, 0)


def test_what_a_model_wrote_is_trained_on_by_its_weight():
    told = []
    both = Corpus([*REAL, *WRITTEN, replace(utterance(12), loss_weight=0.0)], name="both")
    found = finetune(tiny_recognizer(), Data(both, REAL[:2], overlap="ignore"), training=options(epochs=1), lang="en", progress=told.append)
    assert found.training.rows == 12
    assert any("6 of 13 rows weigh 0.5 to 0.5" in one.text and "1 of 13 rows weigh nothing" in one.text for one in told if isinstance(one, Message))
    assert weighed(REAL) is None
