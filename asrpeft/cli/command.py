"""The command line that is running, for reports to tell."""

from __future__ import annotations

import shlex

typed: list[str] = []  # what followed the command's name; `asrpeft.cli.main.run` notes it


def line() -> str:
    """As it can be typed again."""
    return shlex.join(["asrpeft", *typed])
