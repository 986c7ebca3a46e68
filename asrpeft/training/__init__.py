"""Losses, the loop, schedules, checkpoints: how an adapter comes to fit its data."""

from asrpeft.training.events import DevScore, Event, GuardScore, Message, Progress, Scoring, Skipped, Step
from asrpeft.training.guard import Guard
from asrpeft.training.loop import Trained, train
from asrpeft.training.options import TrainingOptions

__all__ = [
    "DevScore",
    "Event",
    "Guard",
    "GuardScore",
    "Message",
    "Progress",
    "Scoring",
    "Skipped",
    "Step",
    "Trained",
    "TrainingOptions",
    "train",
]
