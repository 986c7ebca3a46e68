"""Losses, the loop, schedules, checkpoints: how an adapter comes to fit its data."""

from asrpeft.training.events import DevScore, Event, Message, Progress, Scoring, Skipped, Step
from asrpeft.training.loop import Trained, train
from asrpeft.training.options import TrainingOptions

__all__ = [
    "DevScore",
    "Event",
    "Message",
    "Progress",
    "Scoring",
    "Skipped",
    "Step",
    "Trained",
    "TrainingOptions",
    "train",
]
