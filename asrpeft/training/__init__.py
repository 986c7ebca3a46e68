"""Losses, the loop, schedules, checkpoints: how an adapter comes to fit its data."""

from asrpeft.options import TrainingOptions
from asrpeft.training.choice import Choice
from asrpeft.training.events import DevScore, Event, GuardScore, Interim, Message, Progress, Scoring, Skipped, Step
from asrpeft.training.examples import TrainingData
from asrpeft.training.guard import Guard
from asrpeft.training.loop import train
from asrpeft.training.record import Trained

__all__ = [
    "Choice",
    "DevScore",
    "Event",
    "Guard",
    "GuardScore",
    "Interim",
    "Message",
    "Progress",
    "Scoring",
    "Skipped",
    "Step",
    "Trained",
    "TrainingData",
    "TrainingOptions",
    "train",
]
