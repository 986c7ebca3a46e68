"""A sample of the attack of `scripts/attack.py`: hostile input is accepted or refused in words, and nothing is lost by it."""

import sys

import pytest

from tests.attack.runner import Surface, Wrong, attack
from tests.attack.surfaces import SURFACES

SAMPLE = {"adapters": 60, "recordings": 120, "corpora": 80, "texts": 60, "flags": 25, "disks": 12, "kills": 2}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked and their memory is read from /proc")


@pytest.mark.parametrize("name", SURFACES)
def test_no_case_ends_in_a_traceback_a_hang_a_loss_or_a_write_outside_its_folder(name):
    found = attack(SURFACES[name], seed=0, numbers=range(SAMPLE[name]))
    assert not found.violations, found.violations
    assert found.cases == found.accepted + found.refused == SAMPLE[name]


def test_the_attack_sees_what_it_looks_for():
    def case(rng, shared, own):
        import os
        import socket

        number = rng.number
        if number == "crash":
            raise KeyError(1)
        if number == "die":
            os._exit(3)
        if number == "outside":
            (own.parent / "beside" / "new").write_text("x")
        if number == "network":
            socket.create_connection(("127.0.0.1", 9))
        if number == "lost":
            raise Wrong("lost")
        if number == "memory":
            held = bytearray(900 << 20)
            held[::4096] = b"x" * len(held[::4096])

    kinds = iter(["crash", "die", "outside", "network", "lost", "memory", "fine"])

    def one(name):
        def planted(rng, shared, own):
            rng.number = name
            case(rng, shared, own)

        found = attack(Surface("planted", lambda folder: None, planted), 0, [0])
        return [kind for _, kind, _ in found.violations]

    assert [one(name) for name in kinds] == [["traceback"], ["traceback"], ["outside"], ["network"], ["wrong"], ["memory"], []]
