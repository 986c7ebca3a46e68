"""Several processes take the steps of one, and what a method's plan decides they decide alike."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.training.shared_run import EXACT, RUNS, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The weights that every run arrives at in two processes, by name and process."""
    into = tmp_path_factory.mktemp("processes")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.training.shared_run"]
    ended = subprocess.run([*launch, str(into)], capture_output=True, timeout=300, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    return into


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
