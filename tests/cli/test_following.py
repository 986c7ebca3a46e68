"""Who follows a run and where its adapter goes, on the command line: told what happens, refused before anything is read."""

import json

import huggingface_hub
import pytest
from huggingface_hub import constants

from asrpeft.cli import main
from asrpeft.cli import options as o
from asrpeft.cli.following import Following
from asrpeft.corpus import Corpus
from asrpeft.errors import BadInput
from asrpeft.training import Message, Step
from tests.adapters.test_hub import Hub
from tests.bases import tiny_recognizer
from tests.training.tones import utterance

STEP = Step(1, 2, 3.5, 0.1, 9.0, 1.0)


class Reached(BaseException):
    """The job was asked. (An Exception would be told as an internal error.)"""


@pytest.fixture
def job(monkeypatch):
    """Jobs that tell of a step and are then reached."""

    def tell(*given, progress, **keywords):
        progress(STEP)
        raise Reached

    for verb in ("finetune", "speakers"):
        monkeypatch.setattr(f"asrpeft.jobs.{verb}.{verb}", tell)
    monkeypatch.setattr(o, "load_model", lambda *given, **keywords: None)
    monkeypatch.setattr(o, "read_corpus", lambda *given, **keywords: Corpus([utterance(0)], name="tones"))


@pytest.mark.parametrize("verb", ["finetune", "speakers"])
def test_a_run_is_told_to_the_log_that_was_asked_for(job, tmp_path, verb):
    with pytest.raises(Reached):
        main.run([verb, "--data", "x", "--out", str(tmp_path / "a"), "--quiet", "--log-file", str(tmp_path / "run.jsonl")])
    (line,) = (tmp_path / "run.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "step" and json.loads(line)["loss"] == 3.5


def test_whoever_watches_the_terminal_is_told_all_the_same(tmp_path):
    seen = []
    with Following(tmp_path / "run.jsonl").told(seen.append, folder=tmp_path / "a", config={}) as progress:
        progress(STEP)
        progress(Message("and"))
    assert seen == [STEP, Message("and")] and len((tmp_path / "run.jsonl").read_text().splitlines()) == 2
    with Following().told(seen.append, folder=tmp_path / "a", config={}) as progress:
        assert progress == seen.append


def test_a_tracker_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(BadInput, match="Did you mean 'tensorboard'"), Following(tracker="tensorbard").told(print, folder=tmp_path / "a", config={}):
        pass


def test_where_an_adapter_cannot_be_pushed_is_told_before_anything_is_read(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(o, "read_corpus", lambda *given, **keywords: pytest.fail("the corpus was read"))
    with pytest.raises(SystemExit) as ended:
        main.run(["finetune", "--data", "x", "--out", str(tmp_path / "a"), "--push", "no owner"])
    assert ended.value.code == 2 and "OWNER/NAME" in capsys.readouterr().err


@pytest.fixture
def hub(monkeypatch):
    made = Hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    return made


def test_an_adapter_is_put_on_the_hub(hub, tmp_path, capsys):
    folder = tiny_recognizer().adapt("lora", name="a", lang="en").save(tmp_path / "a")
    main.run(["adapter", "push", str(folder), "me/a", "--private", "--message", "first", "--json"])
    assert json.loads(capsys.readouterr().out) == {"pushed": "https://huggingface.co/me/a"}
    assert hub.repos == [("me/a", True, True)] and hub.commits[0][2] == "first"
