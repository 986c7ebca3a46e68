"""Audio as it comes → text as it becomes certain: policies, the session, its events."""

from asrpeft.streaming.events import Event, transcript
from asrpeft.streaming.policies import Policy, names, policy
from asrpeft.streaming.session import Session, ear, stream

__all__ = ["Event", "Policy", "Session", "ear", "names", "policy", "stream", "transcript"]
