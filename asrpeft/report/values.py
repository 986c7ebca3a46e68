"""Values as JSON and CSV have them. What cannot be known (NaN, an infinite rate) is `null`, and an empty cell.

JSON has no NaN: Python writes one all the same, and what other languages read then ends with an error.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

Row = dict[str, Any]


def plain(value: Any) -> Any:
    """The same of dictionaries, lists, texts, numbers, truth values and None alone; keys are texts.

    A path becomes its text, a set a sorted list, a number of NumPy or a tensor of one number the number.
    Raises: TypeError for anything else: whoever puts an object into a report has to say what it means.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value))
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(one) for one in value]
    if getattr(value, "ndim", None) == 0:
        return plain(value.item())
    raise TypeError(f"JSON has nothing for {value!r}, a {type(value).__name__}.")


def known(value: Any) -> Any:
    """A number that was read from such a file, or a list of them: NaN where it is `null`. Other values are returned as they are."""
    if isinstance(value, list | tuple):
        return type(value)(map(known, value))
    return math.nan if value is None else value


def as_json(value: Any, *, indent: int | None = 1) -> str:
    """The text of a JSON file, with a newline at its end."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated, with a head; columns are the keys of all rows in the order they come up in."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
