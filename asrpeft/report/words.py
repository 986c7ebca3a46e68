"""Numbers as text: one wording for every table and sentence. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence

UNKNOWN = "–"


def percent(value: float | None, *, digits: int = 2) -> str:
    """0.1234 → "12.34"; "n/a" for NaN and None. The head of the column says that it is per cent."""
    return "n/a" if value is None or value != value else f"{100 * value:.{digits}f}"


def points(value: float) -> str:
    """A difference of rates in percentage points, always with its sign: -0.0312 → "-3.12"."""
    return f"{100 * value:+.2f}"


def per_cent(value: float | None, digits: int = 1) -> str:
    """0.253 → "25.3 %", for a sentence."""
    return UNKNOWN if value is None or value != value else f"{100 * value:.{digits}f} %"


def interval(bounds: Sequence[float | None] | None) -> str:
    """[0.21, 0.29] → "21.0–29.0"; a dash where it is not known, as of a single utterance."""
    if bounds is None or any(one is None or one != one for one in bounds):
        return UNKNOWN
    low, high = (100 * one for one in bounds if one is not None)
    return f"{low:.1f}–{high:.1f}"


def count(n: int) -> str:
    """1234567 → "1,234,567"."""
    return f"{n:,}"


def counted(n: int, one: str, several: str | None = None) -> str:
    """(1, "system") → "1 system", (2, "system") → "2 systems"."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def size(n_bytes: float) -> str:
    """2_400_000 → "2.4 MB"."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} GB"


def duration(seconds: float | None) -> str:
    """97.3 → "1:37"."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """["a", "b", "c"] → "a, b and c"."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else "".join(names)
