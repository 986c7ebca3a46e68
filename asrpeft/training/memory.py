"""How much memory a run takes at most, how much a computation takes, and how much there is."""

from __future__ import annotations

import os
import re
import resource
import sys
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux
_MEMINFO, _CGROUPS = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


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


class _Counting(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it, and forgets those that are gone: what is held at most.

    It sees what every operation gives, on the CPU those of the backward pass too; what a kernel needs within itself it does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = func(*args, **(kwargs or {}))
        inputs = {one.untyped_storage().data_ptr() for one in tree_iter((args, kwargs)) if isinstance(one, Tensor)}
        for one in tree_iter(given):
            if isinstance(one, Tensor) and one.untyped_storage().data_ptr() not in inputs:
                self._hold(one.untyped_storage())
        return given

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        if not size or key in self._known:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        if self._known.pop(key, None) is not None:
            self.now -= size


def taken_by(compute: Callable[[], object], device: torch.device) -> int:
    """The bytes that `compute` holds at most beside what was held before: by the GPU's own count, on a CPU those of its tensors."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        compute()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _Counting() as counting:
        compute()
    return counting.peak


def available(device: torch.device) -> int:
    """Bytes that could be taken now: what is free on the GPU; on a CPU what the system can give without swapping, or what this
    process's group has left of its limit, where that is less."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what the allocator keeps is ours, too
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read(_MEMINFO), re.MULTILINE)
    system = 1024 * int(found[1]) if found else physical() // 2
    return min([system, *_left_of_groups()])


def physical() -> int:
    """The bytes of memory that the machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # Windows
        return 8 << 30


def _left_of_groups() -> list[int]:
    """What limits of containers leave: cgroups, version 2 and 1."""
    pairs = [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")]
    told = [(_read(_CGROUPS / limit).strip(), _read(_CGROUPS / used).strip()) for limit, used in pairs]
    return [max(0, int(limit) - int(used)) for limit, used in told if limit.isdigit() and used.isdigit()]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
