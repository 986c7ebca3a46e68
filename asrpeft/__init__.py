"""Adapt Whisper-style speech recognisers with a few hundred kilobytes of trained parameters."""

__version__ = "0.1.0"
