"""The data of a run's steps, read ahead by other processes; and by this one where those fail.

What a step holds is a function of its key, so a run goes on alike whoever reads. A process that died (memory ran out, say) or
that gives nothing for minutes (stopped, or held up by a dead disk) is not waited for: it is ended, and reading goes on here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from asrpeft.interruption import ignored

Step = TypeVar("Step")

MOST = 8  # processes, unless more are asked for: each holds decoded audio of its own
PATIENCE_S = 300.0  # a step's audio is read in seconds


def read(examples: Dataset[Step], keys: Callable[[], Iterable[Any]], *, workers: int, pin_memory: bool, tell: Callable[[str], None]) -> Generator[Step]:
    """Close it when done with it: its processes end then.

    Args:
        examples: the data of a step, by its key.
        keys: the steps after the last one that was taken; asked anew where another way of reading takes over.
        workers: processes that read; 0 reads in this one.
        tell: told where that was not to be.
    """
    if workers:
        try:
            with closing(_Workers(examples, keys(), workers, pin_memory)) as loaded:
                while (data := loaded.next()) is not None:
                    yield data
            return
        except _Lost as error:
            tell(f"A process that reads audio was lost ({error}): reading goes on in the one that trains.")
    yield from DataLoader(examples, sampler=keys(), batch_size=None, pin_memory=pin_memory)


def spare(device: torch.device) -> int:
    """How many processes may read: on a GPU one for each core but the one that feeds it, else one for each core that computing leaves;
    at least one, which on a busy machine shares a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST, cores - (torch.get_num_threads() if device.type == "cpu" else 1)))


class _Lost(Exception):
    """Processes that read have ended, or cannot be started."""


class _Workers(Generic[Step]):
    """The processes that read, and what they made."""

    def __init__(self, examples: Dataset[Step], keys: Iterable[Any], count: int, pin_memory: bool):
        others = set(multiprocessing.active_children())
        loader = DataLoader(examples, sampler=keys, batch_size=None, num_workers=count, pin_memory=pin_memory, worker_init_fn=ignored)
        try:
            with _children_unwatched():
                self.loaded = iter(loader)
        except OSError as error:
            raise _Lost(error) from None
        self.processes = [p for p in multiprocessing.active_children() if p not in others and p.daemon]

    def next(self) -> Step | None:
        """The next step's data; None after the last."""
        alarm = threading.Timer(PATIENCE_S, self.kill)
        alarm.daemon = True
        alarm.start()
        try:
            return next(self.loaded, None)
        except (RuntimeError, OSError, EOFError) as error:  # the last line of what may be a traceback from there
            raise _Lost((str(error).strip() or type(error).__name__).splitlines()[-1]) from None
        finally:
            alarm.cancel()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def close(self) -> None:
        del self.loaded  # asks the processes to end
        self.kill()  # what has not is stopped or stuck, and would be waited for when this process ends
        for process in self.processes:
            process.join()


@contextmanager
def _children_unwatched() -> Iterator[None]:
    """torch lets the death of a child raise wherever this process is, amid a step too; `next` tells of it as well."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)
