"""A base that is not there is called neither a folder nor a model of the hub where it is not one."""

from __future__ import annotations

import sys

import pytest

from asrpeft.errors import BadInput
from asrpeft.recognizer.load import load
from asrpeft.recognizer.named import check_name, not_loaded


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("models/whisper-sw/config.json", "home/base/config.json", "adapters/sw/adapter.json", "peft/sw/adapter_config.json", "empty/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "weights.safetensors").touch()
    return tmp_path


@pytest.mark.parametrize(
    "model, said",
    [
        ("./models/whisper-sv", "There is no folder './models/whisper-sv'. Did you mean 'models/whisper-sw'?"),
        ("/nowhere/at/all", "There is no folder '/nowhere/at/all'. A model of the Hugging Face hub is named OWNER/NAME"),
        ("models/whisper-sw/last", "There is no folder"),
        ("C:\\models\\sw", "There is no folder"),
        ("models/", "has no config.json"),
        ("gone/", "There is no folder"),
        ("~/bas", "home/bas'. Did you mean"),
        ("whisper-small", "Did you mean openai/whisper-small?"),
        ("small", "There is no folder 'small' here. .*Did you mean openai/whisper-small"),
        ("a b/c", "There is no folder 'a b/c' here"),
        ("x" * 9_000, "There is no folder"),
        ("nul\0/x", "There is no folder"),
        ("adapters/sw", "is an adapter.*--adapter"),
        ("peft/sw", "is an adapter.*--adapter"),
        ("empty", "has no config.json"),
        ("weights.safetensors", "is a file; --model takes the folder"),
    ],
)
def test_what_is_no_base_is_called_what_it_is_before_anything_is_asked_of_the_hub(here, monkeypatch, model, said):
    monkeypatch.setattr(sys.modules["asrpeft.recognizer.load"], "_pretrained", pytest.fail)
    with pytest.raises(BadInput, match=said):
        load(model)


def test_folders_and_names_of_the_hub_pass(here):
    assert check_name("models/whisper-sw") == "models/whisper-sw" and check_name("~/base") == str(here / "home" / "base")
    assert check_name("openai/whisper-small") == "openai/whisper-small"


def test_a_name_that_may_be_either_is_called_both(here):
    said = not_loaded("models/whisper-sv", "no connection")
    assert said.startswith("There is no folder 'models/whisper-sv' here. Did you mean 'models/whisper-sw'? As a model of the Hugging Face hub it cannot")
    assert not_loaded("models/whisper-sw", "no weights") == "'models/whisper-sw' cannot be loaded as a Whisper model: no weights"
