"""Every error `asrpeft` raises on purpose. A message says what was given, what would work and what to do."""

from __future__ import annotations


class AsrpeftError(Exception):
    """A user's mistake: the command line prints the message without a traceback and exits with status 2."""


class BadInput(AsrpeftError):
    """An argument, option or configuration value that cannot be used."""


class BadAudio(AsrpeftError):
    """Audio that is missing, empty, truncated, too long or of an unknown format."""


class BadCorpus(AsrpeftError):
    """A corpus that cannot be read, has no usable utterance, or lacks a column."""


class CannotAttach(AsrpeftError):
    """A method that does not fit the layers it was asked to act on."""


class CannotMerge(AsrpeftError):
    """An adapter that cannot be folded into the base's weights."""


class BadRoute(AsrpeftError):
    """A route that names an unknown adapter, or whose row count is not the batch's."""


class WrongBase(AsrpeftError):
    """An adapter that was trained on another base."""


class BadAdapter(AsrpeftError):
    """An adapter folder that is incomplete, corrupt or of a newer format."""


class UnexpectedTraining(AsrpeftError):
    """Something other than the adapter would train, or nothing would."""


class Failure(Exception):
    """Something that went wrong although the user did nothing wrong: exit status 1."""
