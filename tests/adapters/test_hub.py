"""Adapters on the hub: one commit with all that is needed, a card that is true, refusals before anything is trained."""

import pytest
from huggingface_hub import constants

from asrpeft.adapters import hub
from asrpeft.adapters.adapter import read
from asrpeft.errors import BadAdapter, BadInput, Failure
from tests.bases import tiny_recognizer


class Hub:
    """A hub that remembers what it was asked."""

    def __init__(self, *, card=False, refuses=None):
        self.card, self.refuses, self.repos, self.commits = card, refuses, [], []

    def create_repo(self, repo_id, *, private, exist_ok):
        if self.refuses:
            raise self.refuses
        self.repos.append((repo_id, private, exist_ok))

    def file_exists(self, repo_id, filename):
        return self.card and filename == "README.md"

    def create_commit(self, repo_id, operations, *, commit_message):
        self.commits.append((repo_id, {one.path_in_repo: one.path_or_fileobj for one in operations}, commit_message))


@pytest.fixture
def folder(tmp_path):
    recognizer = tiny_recognizer()
    adapter = recognizer.adapt("lora", name="sw", lang="sw")
    recognizer.adapters.describe("sw", scores={"before": {"wer": 0.5}, "after": {"wer": 0.25}})
    return adapter.save(tmp_path / "sw")


def test_an_adapter_goes_up_whole_in_one_commit(folder, tmp_path):
    asked = Hub()
    assert hub.push(folder, "me/whisper-sw", private=True, api=asked) == "https://huggingface.co/me/whisper-sw"
    ((repo, files, message),) = asked.commits
    assert asked.repos == [("me/whisper-sw", True, True)] and repo == "me/whisper-sw" and message.startswith("lora adapter for ")
    assert set(files) == {"adapter.json", "adapter.safetensors", "README.md"}
    again = tmp_path / "again"
    again.mkdir()
    for name, content in files.items():
        (again / name).write_bytes(content)
    assert read(again)[0] == read(folder)[0]  # what was pushed is what can be loaded


def test_the_card_says_what_it_is_and_what_it_was_measured_at(folder):
    asked = Hub()
    hub.push(folder, "me/whisper-sw", api=asked)
    card = asked.commits[0][1]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: asrpeft\npipeline_tag: automatic-speech-recognition\n") and 'language: "sw"' in card
    assert "| WER of the base | 50.0 % |" in card and "| WER with the adapter | 25.0 % |" in card
    assert "asrpeft adapter pull me/whisper-sw --out adapter" in card and "| method | lora (" in card


@pytest.mark.parametrize("base, named", [("openai/whisper-small", 'base_model: "openai/whisper-small"'), ("/home/ann/secret/base", None)])
def test_the_card_names_a_base_of_the_hub_and_no_folder_of_the_machine(folder, base, named):
    manifest = read(folder)[0]
    card = hub.card(type(manifest)(**(vars(manifest) | {"base_id": base})), "me/x")
    assert (named in card) if named else ("base_model" not in card and "secret" not in card and "`base`" in card)


def test_a_card_that_somebody_wrote_stays(folder):
    asked = Hub(card=True)
    hub.push(folder, "me/x", api=asked)
    assert "README.md" not in asked.commits[0][1]


def test_a_damaged_adapter_is_not_pushed(folder):
    damaged = bytearray((folder / "adapter.safetensors").read_bytes())
    damaged[-3] ^= 1
    (folder / "adapter.safetensors").write_bytes(damaged)
    asked = Hub()
    with pytest.raises(BadAdapter):
        hub.push(folder, "me/x", api=asked)
    assert asked.repos == asked.commits == []


def served(folder):
    """A hub that has the files of a folder."""

    def fetch(repo, name, revision):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"404: {repo} has no {name}")
        return folder / name

    return fetch


def test_what_was_pushed_comes_down_as_it_was_and_can_be_loaded(folder, tmp_path):
    place = hub.pull("me/x", tmp_path / "down" / "sw", fetch=served(folder))
    assert all((place / name).read_bytes() == (folder / name).read_bytes() for name in ("adapter.json", "adapter.safetensors"))
    with pytest.raises(BadInput, match="--overwrite"):
        hub.pull("me/x", place, fetch=served(folder))
    assert hub.pull("me/x", place, overwrite=True, fetch=served(folder)) == place


def test_what_is_no_adapter_or_damaged_does_not_come_down(folder, tmp_path):
    with pytest.raises(Failure, match="404.*adapter.json.*asrpeft adapter import"):
        hub.pull("me/x", tmp_path / "down", fetch=served(tmp_path))
    (folder / "adapter.safetensors").write_bytes((folder / "adapter.safetensors").read_bytes()[:-4])
    with pytest.raises(BadAdapter):
        hub.pull("me/x", tmp_path / "down", fetch=served(folder))
    assert not (tmp_path / "down").exists()


def test_where_the_hub_refuses_the_reason_is_told_and_how_to_try_again(folder):
    with pytest.raises(Failure, match=r"403 Forbidden.*as before; try again with `asrpeft adapter push .* me/x`"):
        hub.push(folder, "me/x", api=Hub(refuses=OSError("403 Forbidden\nand much more")))


@pytest.mark.parametrize("name, told", [("x", "names no owner"), ("me/a b", "no repository's"), ("a/b/c", "no repository's"), ("", "no repository's")])
def test_a_name_that_is_no_repositorys_is_refused_before_anything_is_trained(name, told):
    with pytest.raises(BadInput, match=told):
        hub.check(name, api=Hub())


def test_without_a_token_or_the_network_pushing_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE"):
        hub.check("me/x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(BadInput, match="hf auth login"):
        hub.check("me/x")
