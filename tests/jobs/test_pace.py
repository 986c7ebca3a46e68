"""How long a job of several runs still takes."""

import pytest

from asrpeft.jobs import pace
from asrpeft.jobs.compare import compare
from asrpeft.options import Data
from asrpeft.training import Message
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 50.0

    monkeypatch.setattr(pace.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_rest_is_reckoned_from_the_work_that_took_time(clock):
    events = pace.Pace([1.0, 2.0, 4.0, 3.0])
    said = []
    for seconds, counts in ((0.0, False), (40.0, True), (80.0, True), (60.0, True)):
        said.append(events.step(counts=counts))
        clock.now += seconds
    assert said == ["", "", ", about 2 minutes to go", ", about 60 seconds to go"]


def test_what_was_done_before_counts_for_nothing_and_no_work_for_no_division(clock):
    result = pace.Pace([0.0, 0.0])
    assert result.step() == "" == result.step()


@pytest.mark.parametrize(("seconds", "words"), [(0.1, "1 second"), (89, "89 seconds"), (95, "2 minutes"), (5_000, "83 minutes"), (9_000, "2 hours")])
def test_times_are_no_finer_than_anybody_can_know(seconds, words):
    assert pace.about(seconds) == f"about {words}"


def test_a_comparison_says_where_it_is_and_how_long_the_rest_takes():
    message = []
    compare(tiny_recognizer(), Data(tones(8), eval=tones(2)), methods=["lora", "ia3"], lang="en", training=options(steps=1), progress=message.append)
    first, second = (event.text for event in message if isinstance(event, Message) and event.text.startswith("-- "))
    assert first == "-- lora (1 of 2) --" and second.startswith("-- ia3 (2 of 2, about ") and second.endswith(" to go) --")
