"""Audio as it comes → text as it becomes certain: policies, the session, its events."""

from asrpeft.streaming.events import Event, transcript
from asrpeft.streaming.policies import Policy, names, policy
from asrpeft.streaming.session import Session, stream, stream_decoder

__all__ = ["Event", "Policy", "Session", "stream_decoder", "names", "policy", "stream", "transcript"]
