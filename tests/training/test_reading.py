"""Who reads: as many processes as the machine has cores to spare, unless told."""

import os

import pytest
import torch

from asrpeft.errors import BadInput
from asrpeft.training import reading
from tests.training.tones import options


@pytest.mark.parametrize(
    "cores, threads, device, wanted",
    [(2, 2, "cpu", 1), (2, 1, "cpu", 1), (8, 4, "cpu", 4), (64, 4, "cpu", 8), (16, 16, "cpu", 1), (4, 4, "cuda", 3), (64, 64, "cuda", 8), (1, 1, "cuda", 1)],
)
def test_as_many_processes_read_as_there_are_cores_to_spare(monkeypatch, cores, threads, device, wanted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert reading.spare(torch.device(device)) == wanted


def test_the_number_can_be_said_and_is_bounded():
    assert options(workers=3).workers == 3 and options(workers=None).workers is None
    with pytest.raises(BadInput, match="--workers 65"):
        options(workers=65)
