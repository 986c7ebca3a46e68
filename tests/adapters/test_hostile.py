"""Adapter folders of strangers: a seeded sample of every kind of damage ends in an adapter or in a message, never in anything else."""

from __future__ import annotations

import json
import random
import time
from functools import partial

import pytest

from asrpeft.adapters.adapter import MANIFEST, TENSORS
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.peft_format import CARRIED, CONFIG, read_peft, write_peft
from asrpeft.adapters.peft_format import TENSORS as PEFT
from asrpeft.cli.options import Base, Printing
from asrpeft.cli.verbs.adapter import Looking
from asrpeft.cli.verbs.adapter import inspect as show
from asrpeft.errors import AsrpeftError
from asrpeft.methods import configure, method
from tests.adapters import hostile
from tests.methods.cases import perturb, recognizer, small

METHODS = ("lora", "s2lora", "prefix", "ia3", "full", "loha")
FIELDS = dict.fromkeys(["digest", "format", "ctc_vocabulary", "language_slot", "scores", "training", "config", "where", "sites", "base_fingerprint", "color"])
SETTINGS = dict.fromkeys(["alpha_pattern", "lora_alpha", "alpha", "use_rslora", "lora_dropout", "init_lora_weights", "bias", "modules_to_save", "peft_type"])


@pytest.fixture(scope="module")
def model():
    return recognizer().float()


def outcome(call) -> None:
    """Raises: whatever is not one of our own errors, and is then a traceback; and what takes long, or talks for pages."""
    started = time.monotonic()
    try:
        call()
    except AsrpeftError as error:
        assert len(str(error)) < 3000
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", METHODS)
def test_a_damaged_adapter_loads_or_is_refused_and_is_shown_or_is_refused(name, model, tmp_path, capsys):
    adapter = perturb(model.adapt(name, name="a", lang="Klingon", **small(name)))
    adapter.ctc = CTCHead.for_texts(16, ["ab"])
    folder, rng = adapter.save(tmp_path / "a", scores={"before": {"wer": 0.5}, "after": {"wer": 0.25}}), random.Random(name)
    model.adapters.detach("a")
    good, data = json.loads((folder / MANIFEST).read_text()), (folder / TENSORS).read_bytes()
    unbound = {key: value for key, value in good.items() if key != "digest"}
    settings = list(vars(configure(method(name), {})))
    for number in range(60):
        report, body = good if number % 8 == 0 else unbound, data
        match number % 4:
            case 0:
                report = hostile.changed(report, rng, FIELDS)
            case 1:
                body = hostile.header(data, rng)
            case 2:
                report = report | {"config": report["config"] | {rng.choice(settings): rng.choice(hostile.VALUES) for _ in range(2)}}
            case 3:
                body = hostile.damaged(data, rng)
        hostile.write_json(folder / MANIFEST, report, rng)
        (folder / TENSORS).write_bytes(body)
        outcome(lambda: model.adapters.load(folder, name="b", force=True))
        outcome(lambda: show(folder, base=Base, looking=Looking, printing=Printing))
        outcome(lambda: show(folder, base=Base, looking=Looking, printing=partial(Printing, json=True)))
        if "b" in model.adapters:
            model.adapters.detach("b")
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", ["lora", "loha", "ia3"])
def test_a_damaged_peft_folder_is_read_or_refused(name, model, tmp_path):
    adapter = perturb(model.adapt(name, name="a", where="k_proj,v_proj,fc2", **small(name)))
    adapter.ctc = CTCHead.for_texts(16, ["ab"])
    folder, rng = write_peft(adapter, tmp_path / "a"), random.Random(name)
    model.adapters.detach("a")
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    for number in range(60):
        files = dict(good)
        if number % 3 == 0:
            files[CONFIG] = json.dumps(hostile.changed(json.loads(good[CONFIG]), rng, SETTINGS)).encode()
        elif number % 3 == 1:
            files[CARRIED] = json.dumps(hostile.changed(json.loads(good[CARRIED]), rng, FIELDS)).encode()
        else:
            files[PEFT] = hostile.header(good[PEFT], rng)
        for path, data in files.items():
            (folder / path).write_bytes(data)
        outcome(lambda: read_peft(model.adapters, folder, name="b", force=True))
        if "b" in model.adapters:
            model.adapters.detach("b")


def test_settings_that_only_training_knows_are_refused_in_a_saved_adapter(model, tmp_path):
    adapter = model.adapt("prefix", name="a", tokens=3)
    adapter.ctc = CTCHead.for_texts(16, ["abcdefghijk"])  # so that the file holds numbers enough
    folder = adapter.save(tmp_path / "a")
    model.adapters.detach("a")
    report = {key: value for key, value in json.loads((folder / MANIFEST).read_text()).items() if key != "digest"}
    (folder / MANIFEST).write_text(json.dumps(report | {"config": report["config"] | {"mlp": True}}))
    with pytest.raises(AsrpeftError, match="ask for sites.*, which no saved adapter has"):
        model.adapters.load(folder, name="b")
