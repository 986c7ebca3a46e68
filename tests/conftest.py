"""What holds for all tests, wherever they are started from."""

import gc
import os
import signal

import pytest


def pytest_configure() -> None:
    """Nothing is kept in the cache of whoever runs the tests, nor found there; those of the cache name one of their own.

    Ctrl-C interrupts. A shell that starts something in the background, as some runners of tests do, has it ignored, and
    every process started from there inherits that: tests of interruption would wait for what never comes.

    No test pulls the plug, so none waits until the disk has what is written: of every adapter saved that was a tenth of a second."""
    os.environ["ASRPEFT_CACHE"] = "off"
    os.fsync = lambda opened: None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What stays until the end, a million objects of libraries and of tests to be run, is not searched for garbage again and again:
    a collection of all took a second, at whatever test it fell, and the search for a batch size asks for one at every size."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one `xdist_group` are run by one worker: pytest-xdist 3.8 writes the group into a name that pytest 9.2 no longer reads."""
    for item in items:
        named = vars(item).get("_nodeid", item.nodeid)
        if named != item.nodeid:
            item._id = type(item.id).parse(named)
