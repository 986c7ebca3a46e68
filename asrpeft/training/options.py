"""What must be the same for a run to be gone on with."""

from __future__ import annotations

from typing import Any

from asrpeft.options import TrainingOptions

# What may differ between a run and its resumption without changing the weights it arrives at.
FREE = ("checkpoint_s", "workers", "cache_mb", "budget_seconds", "memory_gb")


def differences(stored: dict[str, Any], options: TrainingOptions) -> list[str]:
    """The options in which a resumed run was asked to differ from the one that was interrupted."""
    now = options.to_json()
    return [f"{name} was {stored.get(name)!r} and is {value!r}" for name, value in now.items() if name not in FREE and stored.get(name) != value]
