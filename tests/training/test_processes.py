"""Several processes take the steps of one, and what a method's plan decides they decide alike; they divide what is scored, and speakers."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from asrpeft import processes
from asrpeft.adapters.adapter import read
from asrpeft.cli.options import Printing
from asrpeft.cli.verbs import transcribe as verb
from asrpeft.errors import BadAudio, BadInput
from asrpeft.jobs.speakers import shared
from asrpeft.options import SubtitleOptions
from tests.jobs.shared_jobs import JOBS
from tests.training.shared_run import EXACT, RUNS, run

launched = pytest.mark.xdist_group("launch")  # by one worker, once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The weights that every run arrives at in two processes, by name and process."""
    into = tmp_path_factory.mktemp("processes")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.training.shared_run"]
    ended = subprocess.run([*launch, str(into)], capture_output=True, timeout=300, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    return into


@launched
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_arrive_at_the_weights_of_one(name, folder):
    one, first, second = run(name), *(load_file(folder / f"{name}-{rank}-of-2.safetensors") for rank in (0, 1))
    assert one.keys() == first.keys() == second.keys()
    for key, tensor in one.items():
        assert torch.equal(first[key], second[key])
        if key.endswith(EXACT) or not tensor.is_floating_point():
            assert torch.equal(first[key], tensor), f"two processes decided otherwise than one: {key}"
        else:  # of numbers whose gradient is next to nothing Adam's step has the sign of its rounding
            torch.testing.assert_close(first[key], tensor, rtol=1e-3, atol=2e-3)
            assert float((first[key] - tensor).double().abs().mean()) < 1e-4


@launched
@pytest.mark.parametrize("name", JOBS)
def test_two_processes_find_what_one_finds(name, folder, tmp_path):
    one = json.loads(json.dumps(JOBS[name](tmp_path)))
    first, second = (json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    if name == "scores":  # numbers beside the words have the rounding of their batches
        for key in ("texts", "skipped", "languages"):
            assert first[key] == one[key]
        assert [system["wer_interval"] for system in first["systems"]] == [system["wer_interval"] for system in one["systems"]]
        return
    assert first == one
    for speaker in ("s0", "s1", "s2", "_pooled"):
        theirs, ours = read(folder / "voices" / speaker)[1], read(tmp_path / "voices" / speaker)[1]
        for key in ours:
            torch.testing.assert_close(theirs[key], ours[key], rtol=2e-3, atol=2e-3)
    assert json.loads((folder / "voices" / "speakers.json").read_text())["overall"] == one["overall"]


def test_each_of_several_processes_has_its_share_and_alone_it_has_all(monkeypatch):
    assert processes.here() == processes.Here(0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert processes.here().share("abcdefg") == ["b", "e"] and not processes.here().first
    with processes.alone():
        assert processes.here().share("abc") == ["a", "b", "c"] and processes.gathered(lambda: 7) == [7]
    assert processes.here().several


def test_what_fails_in_one_process_fails_in_all(monkeypatch):
    monkeypatch.setattr(processes, "here", lambda: processes.Here(0, 2))
    monkeypatch.setattr(processes, "start", lambda: None)
    monkeypatch.setattr(processes, "_exchanged", lambda own: [own, (None, BadAudio("b.wav: it ends"))])
    with pytest.raises(BadAudio, match="b.wav"):
        processes.gathered(lambda: 1)
    monkeypatch.setattr(processes, "_exchanged", lambda own: [own, (2, None)])
    assert processes.gathered(lambda: 1) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        processes.gathered(lambda: 1 // 0)


def test_speakers_are_divided_by_how_much_each_is_trained_on():
    assert shared({"a": 9, "b": 1, "c": 4, "d": 5}, 2) == [["a", "b"], ["c", "d"]]
    assert shared({"a": 1}, 3) == [["a"], [], []]


def test_recordings_are_divided_by_length_and_the_first_process_knows_of_all(monkeypatch):
    names = ["long.wav", "a.wav", "b.wav", "broken.wav"]
    monkeypatch.setattr(verb, "length", lambda name: 60.0 if name == "long.wav" else 1.0)
    monkeypatch.setattr(verb._Transcripts, "_write", lambda self, source, segments: self.told.append({"audio": source}))

    def transcribed(source, advance):
        if source == "broken.wav":
            raise BadAudio("broken.wav: no sound")
        return []

    def job(rank):
        monkeypatch.setattr(processes, "here", lambda: processes.Here(rank, 2))
        return verb._Transcripts(verb.TranscriptOptions(), SubtitleOptions(), Printing(json=True, quiet=True), audio=list(names))

    found = []
    monkeypatch.setattr(processes, "gathered", lambda compute: found.append(compute()) or found)
    for rank in (1, 0):
        one = job(rank)
        one.each(transcribed, strict=False)
    assert [{row["audio"] for row in told} for told, _ in found] == [{"b.wav", "long.wav"}, {"a.wav"}]
    assert [row["audio"] for row in one.told] == ["long.wav", "a.wav", "b.wav"]
    assert one.skipped == [{"audio": "broken.wav", "reason": "broken.wav: no sound"}]
    with pytest.raises(BadInput, match="--out"):
        verb._Transcripts(verb.TranscriptOptions(), SubtitleOptions(), Printing())


@pytest.mark.parametrize(
    "told, what",
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron"),
        ({"PARALLELISM_CONFIG_TP_SIZE": "2"}, "Tensor parallel"),
        ({"PARALLELISM_CONFIG_DP_SHARD_SIZE": "4"}, "Sharded data parallel"),
    ],
)
def test_a_launch_that_divides_the_model_is_refused_with_what_to_do(told, what):
    with pytest.raises(BadInput, match=rf"(?s){what}.*data parallelism.*--base-precision"):
        processes.check_launch({"LOCAL_RANK": "0"} | told)
    processes.check_launch(told)  # set, but nothing was launched
    processes.check_launch({"LOCAL_RANK": "0", "ACCELERATE_USE_FSDP": "false", "PARALLELISM_CONFIG_TP_SIZE": "1"})
