"""scripts/bench/kills.py at a size for every day: a seeded few kills, and that it would notice if they cost anything."""

import random
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asrpeft.training import Step
from scripts.bench.kills import attempt, kill_again_and_again
from tests.training.interrupted_run import run as finetune


def train(out: Path, resume: bool, progress) -> None:
    """A run of a second with an average of the weights, a checkpoint after every step, evaluations among them."""
    finetune(out, resume=resume, progress=progress, steps=8, dev_every=3, checkpoint_s=0.0, dropout=0.1, average="ema=0.9")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_any_moment_cost_nothing(tmp_path, seed):
    found = kill_again_and_again(train, tmp_path, kills=2, seed=seed)
    assert found.wrong == [] and found.kills == 2 and found.moments.total() == 2 and max(found.steps_lost) <= 1


def forgetful(out: Path, resume: bool, progress) -> None:
    """A run that goes on with other weights than it had: what the script is there to find."""
    place, steps = out.with_name(f"{out.name}.count"), 6
    done = int(place.read_text() or 0) if place.exists() else 0
    for step in range(done, steps):
        place.write_text(str(step + 1))
        time.sleep(0.03)
        progress(Step(step + 1, steps, 1.0, 1.0, 1.0, 1.0))
    time.sleep(0.2)
    out.mkdir(exist_ok=True)
    save_file({"w": torch.tensor([float(done)])}, out / "adapter.safetensors")
    place.unlink()


def test_a_run_that_loses_something_is_noticed(tmp_path):
    seeds = [seed for seed in range(20) if 0 < random.Random(seed).randint(0, 6) < 5]
    found = kill_again_and_again(forgetful, tmp_path, kills=2, seed=seeds[0])
    assert any("other tensors" in one or "cannot be" in one or "adapter" in one for one in found.wrong)


def test_a_run_that_fails_of_itself_is_no_kill(tmp_path):
    def failing(out, resume, progress):
        raise OSError("no")

    with pytest.raises(RuntimeError, match="status 1"):
        attempt(failing, tmp_path / "a", resume=False, kill=None)
