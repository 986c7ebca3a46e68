"""Progress off a terminal: a line every ten seconds, with a remaining time that belongs to what is being done."""

import pytest

from asrpeft.cli import progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    return Clock


def test_the_remaining_time_is_that_of_the_phase_at_its_own_pace(clock, capsys):
    with progress.bar("training") as advance:
        for step in range(0, 101, 10):  # 100 steps in 1,000 s, whose own estimate is believed
            advance(step, 100, "loss", remaining_s=7.0)
            clock.now += 100
        for done in (20, 40, 60, 80):  # then 80 utterances are scored in 80 s
            advance(done, 80, "scoring a")
            clock.now += 20
        for done in (20, 40):  # and again, by another system
            advance(done, 80, "scoring b")
            clock.now += 40
    lines = [line for line in capsys.readouterr().err.splitlines() if "scoring" in line]
    assert lines == [
        "training: 20/80 scoring a",
        "training: 40/80 scoring a (0:40 remaining)",
        "training: 60/80 scoring a (0:20 remaining)",
        "training: 80/80 scoring a (0:00 remaining)",
        "training: 20/80 scoring b",
        "training: 40/80 scoring b (1:20 remaining)",
    ]


def test_lines_are_ten_seconds_apart_and_quiet_prints_none(clock, capsys):
    for quiet in (False, True):
        with progress.bar("work", quiet=quiet) as advance:
            for done in range(30):
                clock.now += 1
                advance(done, None)
    assert capsys.readouterr().err.splitlines() == ["work: 9 ", "work: 19 ", "work: 29 "]


def test_work_that_tells_nothing_for_long_is_seen_to_be_alive(monkeypatch, capsys):
    import time

    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(progress, "_SILENT_S", 0.02)
    monkeypatch.setattr(progress, "_LOOK_EVERY_S", 0.01)
    with progress.bar("evaluating") as advance:
        advance(3, 8, "base, noise")
        time.sleep(0.3)
    said = capsys.readouterr().err
    assert "evaluating: still at work, 0:00 since it began; 3/8 base, noise" in said
    time.sleep(0.05)
    assert capsys.readouterr().err == ""  # and ends with the work
