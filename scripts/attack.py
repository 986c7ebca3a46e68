#!/usr/bin/env python
"""Attack asrpeft with hostile input: spoilt adapters, recordings, corpora and texts, odd command lines, full disks, kills.

    python scripts/attack.py                        10,000 cases over all surfaces, a table; status 1 if anything was violated
    python scripts/attack.py --cases 500 --only adapters,flags --seed 3
    python scripts/attack.py --only recordings --case 417      one case again, to look into it

What a case may do and what it may not is said in `tests/attack/runner.py`; each surface is a file in `tests/attack`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ASRPEFT_CACHE"] = "off"  # no case writes outside its folder
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from asrpeft.report.table import Table, markdown  # noqa: E402
from tests.attack.runner import Outcome, attack  # noqa: E402
from tests.attack.surfaces import SURFACES  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="over all surfaces, by their weights")
    parser.add_argument("--only", default=",".join(SURFACES), help=f"surfaces: {', '.join(SURFACES)}")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)  # children are forked: a pool of threads would not follow them
    chosen = [SURFACES[name] for name in given.only.split(",")]
    total, violated, rows = sum(surface.weight for surface in chosen), 0, []
    for surface in chosen:
        numbers = [given.case] if given.case is not None else range(round(given.cases * surface.weight / total))
        found = attack(surface, given.seed, numbers)
        violated += len(found.violations)
        rows.append(found)
        print(f"{found.surface}: {found.cases:,} cases, {found.slowest_s:.1f} s the slowest", file=sys.stderr, flush=True)
        for number, kind, what in found.violations[:20]:
            print(f"  {surface.name} --case {number} ({kind}): {what}", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps([vars(found) for found in rows]))
    else:
        print(table(rows))
    return 1 if violated else 0


def table(rows: list[Outcome]) -> str:
    """What was found, as Markdown."""
    cells = [
        (
            one.surface,
            f"{one.cases:,}",
            f"{one.accepted:,}",
            f"{one.refused:,}",
            ", ".join(f"{n} {kind}" for kind, n in one.kinds().items()) or "0",
            f"{one.slowest_s:.1f} s",
            f"{one.most_mb:.0f} MB",
        )
        for one in rows
    ]
    return markdown(Table.of("", ("surface", "cases", "accepted", "refused in words", "violations", "slowest", "most memory"), cells))


if __name__ == "__main__":
    sys.exit(main())
