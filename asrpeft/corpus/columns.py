"""Which column of a table is the audio, the text, the speaker: guessed by common names, or told by `--columns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from asrpeft.column_names import NAMES
from asrpeft.errors import BadCorpus, BadInput

LISTED = 30  # columns that a message lists
REQUIRED = ("audio", "text")


def match(columns: Sequence[str], given: Mapping[str, str] | None = None, *, where: str, need_text: bool = True) -> dict[str, str]:
    """Role → column, for every role that this table fills.

    Args:    told: what the user says, role → column; it wins over guessing, and "" says that no column has the role.
    Raises:  BadInput for a role that does not exist; BadCorpus for a told column that does not, and when no column holds
             the audio or (unless not `need_text`) the text.
    """
    given = given or {}
    found: dict[str, str] = {}
    lower = {column.strip().lower(): column for column in reversed(columns)}
    for role, column in given.items():
        if role not in NAMES:
            raise BadInput(f"--columns {role}={column}: there is no role {role!r}; the roles are {', '.join(NAMES)}.")
        if not column:
            continue
        if column not in columns:
            near = get_close_matches(column, columns, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BadCorpus(f"{where} has no column {column!r}; it has {_listed(columns)}.{hint}")
        found[role] = column
    for role, names in NAMES.items():
        if role in given:
            continue
        taken = set(found.values())
        named = next((lower[n] for n in names if n in lower and lower[n] not in taken), None)
        if named is not None:
            found[role] = named
    for role in REQUIRED:
        if role not in found and (role != "text" or need_text):
            raise BadCorpus(f"{where} has no column for the {role} that I can recognize; it has {_listed(columns)}. Say which one with --columns {role}=NAME.")
    return found


def parse(text: str) -> dict[str, str]:
    """The value of `--columns`: "text=sentence,speaker=client_id" → {"text": "sentence", "speaker": "client_id"}."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if bad := [role for role, sign, column in pairs if not (sign and role.strip() and column.strip())]:
        raise BadInput(f"--columns {text!r}: {bad[0]!r} is not ROLE=COLUMN; write for instance text=sentence,speaker=client_id.")
    return {role.strip(): column.strip() for role, _, column in pairs}


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - LISTED} more" if len(columns) > LISTED else ""
    return ", ".join(f"{column!r:.60}" for column in columns[:LISTED]) + more or "no columns"
