"""The base model: loading any Whisper checkpoint, length-aware encoding, tokens and languages, the CTC head."""

from asrpeft.recognizer.context import context_frames, speech_frames
from asrpeft.recognizer.encoder import Encoded
from asrpeft.recognizer.load import load
from asrpeft.recognizer.recognizer import IGNORED, BaseInfo, Output, Recognizer

__all__ = ["IGNORED", "BaseInfo", "Encoded", "Output", "Recognizer", "context_frames", "load", "speech_frames"]
