"""What the digests that travel with an adapter weigh, and how surely they find what was trained on.

    python scripts/bench/digests.py [--utterances 1000,8192,100000] [--adapter DIR …]

For corpora of so many recordings, each with an id of its own and by a speaker of its own (the most that can be to keep): the bytes that
the record of one part of the data (training or development) takes in the manifest, as it is written there; and, by trials with other
digests, how often a test that shares so many recordings with the corpus passes unseen. With --adapter also what the record
of a trained adapter takes, beside its whole manifest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from asrpeft.adapters.adapter import MANIFEST
from asrpeft.corpus.traces import BYTES, MOST, Record, Trace
from asrpeft.jobs.leakage import RECORD


def record(utterances: int, rng: np.random.Generator) -> Record:
    """The record of a corpus whose recordings, ids and speakers are all different."""
    kinds = {kind: rng.integers(0, 1 << 8 * BYTES, utterances).tolist() for kind in MOST}
    return Record(**{kind: Trace.of(digests, MOST[kind]) for kind, digests in kinds.items()})


def written(content: Any) -> int:
    """Bytes that it takes in a manifest, inside two other objects."""
    inside = json.dumps({"training": {RECORD: content}}, indent=1, ensure_ascii=False)
    return len(inside.encode()) - len(json.dumps({"training": {RECORD: None}}, indent=1).encode())


def unseen(utterances: int, shared: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which none of `shared` of the corpus's recordings is among the digests that were kept."""
    kept = min(utterances, MOST["recordings"])
    places = np.stack([rng.choice(utterances, shared, replace=False) for _ in range(trials)])  # in the order of the digests
    return float((places >= kept).all(1).mean())


def measure(utterances: int, *, shared: int = 50, trials: int = 10_000, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found = {"utterances": utterances, "bytes": written(record(utterances, rng).to_json())}
    return found | ({"unseen": unseen(utterances, shared, trials, rng)} if utterances >= shared else {})


def of_adapter(folder: Path) -> dict[str, Any]:
    manifest = folder / MANIFEST
    own = json.loads(manifest.read_text(encoding="utf-8")).get("training", {}).get(RECORD, {})
    return {"adapter": folder.name, "manifest_bytes": manifest.stat().st_size} | {f"{part}_bytes": written(one) for part, one in own.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", default="100,1000,8192,100000")
    parser.add_argument("--adapter", nargs="*", type=Path, default=[])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for size in map(int, given.utterances.split(",")):
        print(json.dumps(measure(size, seed=given.seed)))
    for folder in given.adapter:
        print(json.dumps(of_adapter(folder)))


if __name__ == "__main__":
    main()
