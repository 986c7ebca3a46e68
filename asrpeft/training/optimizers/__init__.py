"""Optimizers, one file each: `--optimizer galore,rank=64`."""

from asrpeft.training.optimizers.base import OPTIMIZERS, Kind, parse

__all__ = ["OPTIMIZERS", "Kind", "parse"]
