"""Events for those who are not watching: a log of JSON lines, and trackers through accelerate; neither ends a run."""

import json
import math

import pytest
from accelerate.tracking import GeneralTracker

from asrpeft.corpus import Skipped
from asrpeft.errors import BadInput
from asrpeft.training import DevScore, GuardScore, Message, Scoring, Step
from asrpeft.training.events import Interim
from asrpeft.training.log import KINDS, EventLog, Trackers, both


class Found:
    """What a job of several runs has found so far."""

    def to_json(self):
        return {"wer": math.inf, "speakers": ["s1"]}


EVENTS = [
    Message("Training 1 of 2."),
    Step(1, 10, 2.5, 1e-3, 40.0, 9.0),
    Step(2, None, math.nan, 1e-3, 40.0, 8.0),
    Skipped("u1", "no sound"),
    DevScore(2, 0.5, "wer", True, cer=0.2, by="wer"),
    DevScore(2, 1.5, "loss", False),
    GuardScore(2, 0.01, 0.03, True),
    Scoring(3, 9, "base"),
    Interim(Found()),
]


def test_every_event_is_a_line_of_json_with_its_time(tmp_path):
    log = EventLog(tmp_path / "deep" / "run.jsonl")
    for event in EVENTS:
        log(event)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in log.path.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["message", "step", "step", "skipped", "evaluation", "evaluation", "guard", "scoring", "interim"]
    assert {type(event) for event in EVENTS} == set(KINDS)
    assert lines[1] | {"time": ""} == {
        "time": "",
        "event": "step",
        "step": 1,
        "total": 10,
        "loss": 2.5,
        "lr": 1e-3,
        "utterances_per_second": 40.0,
        "remaining_s": 9.0,
    }
    assert lines[-1]["found"] == {"wer": None, "speakers": ["s1"]} and lines[2]["loss"] is None and lines[4]["cer"] == 0.2
    assert all(line["time"].startswith("20") and line["time"].endswith("+00:00") for line in lines)


def test_a_resumed_run_goes_on_in_the_same_log(tmp_path):
    for _ in range(2):
        EventLog(tmp_path / "run.jsonl")(EVENTS[0])
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2


def test_a_log_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--log-file"):
        EventLog(tmp_path / "file" / "run.jsonl")


def test_a_log_that_can_no_longer_be_written_is_told_once_and_the_run_goes_on(tmp_path):
    told = []
    log = EventLog(tmp_path / "logs" / "run.jsonl", tell=told.append)
    log.path.unlink()
    log.path.parent.rmdir()
    for event in EVENTS:
        log(event)
    assert len(told) == 1 and "goes on without it" in told[0].text


def test_several_are_told_of_every_event():
    first, second = [], []
    both(first.append, None, second.append)(EVENTS[0])
    assert first == second == EVENTS[:1]


class Tracker(GeneralTracker):
    """A tracker that remembers."""

    name, requires_logging_directory = "remembering", False

    def __init__(self, *, broken=False):
        super().__init__()
        self.broken, self.config, self.logged, self.finished = broken, None, [], False

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **kwargs):
        if self.broken:
            raise ConnectionError("no route to host")
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


def test_steps_and_evaluations_go_to_a_tracker_by_step(tmp_path):
    kept = Tracker()
    trackers = Trackers(kept, tmp_path, config={"lr": None, "steps": 10, "augment": "none"})
    for event in EVENTS:
        trackers(event)
    trackers.close()
    assert kept.config == {"lr": "None", "steps": 10, "augment": "none"} and kept.finished
    assert [step for step, _ in kept.logged] == [1, 2, 2, 2, 2]
    assert kept.logged[0][1] == {"loss": 2.5, "lr": 1e-3, "utterances_per_second": 40.0}
    assert [values for _, values in kept.logged[2:]] == [{"dev/wer": 0.5, "dev/cer": 0.2}, {"dev/loss": 1.5}, {"guard/loss": 0.01}]


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(tmp_path):
    told, kept = [], Tracker(broken=True)
    trackers = Trackers(kept, tmp_path, config={}, tell=told.append)
    for event in EVENTS:
        trackers(event)
    trackers.close()
    assert len(told) == 1 and "no route to host" in told[0].text and kept.finished


def test_a_tracker_that_there_is_not_or_that_is_not_installed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(BadInput, match="Did you mean 'tensorboard'"):
        Trackers("tensorbord", tmp_path, config={})
    with pytest.raises(BadInput, match="pip install tensorboard.*--log-file"):
        Trackers("tensorboard", tmp_path, config={})
    with pytest.raises(BadInput, match="no tracker is installed"):
        Trackers("all", tmp_path, config={})
