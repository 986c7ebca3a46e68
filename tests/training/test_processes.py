"""Several processes take the steps of one."""

import os
import subprocess
import sys

import torch
from safetensors.torch import load_file

from tests.training.shared_run import run


def test_two_processes_arrive_at_the_weights_of_one(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.training.shared_run"]
    ended = subprocess.run([*launch, str(tmp_path)], capture_output=True, timeout=300, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    one, first, second = run(), *(load_file(tmp_path / f"{rank}-of-2.safetensors") for rank in (0, 1))
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, rtol=1e-3, atol=1e-4)
