"""How much memory a run took at most."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux


def reset_peak(device: torch.device) -> None:
    """Let `peak` count from here. (Where the system cannot, it goes on counting from the start of the process.)"""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text("5")
    except OSError:
        pass


def peak(device: torch.device) -> int:
    """The most bytes held since `reset_peak`: on the GPU where it computes there, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        if found := re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE):
            return 1024 * int(found[1])
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
