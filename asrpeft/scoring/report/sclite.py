"""Files as NIST's sclite reads and writes them: `.trn` texts, `.pra` alignments, `.sys` summary by speaker.

The trn pair can be given to sclite itself (`sclite -r X.ref.trn trn -h X.trn trn -i spu_id`), whose counts equal
ours under `Counting(alignment="sclite")`. The `.pra` and `.sys` files have sclite's layout and our alignment, whichever it is.

Source: NIST SCTK, doc/infmts.htm and doc/outputs.htm.
"""

from __future__ import annotations

import re
from pathlib import Path

from asrpeft.scoring.alignment import Edit
from asrpeft.scoring.errors import Counts, Score, UtteranceScore


def trn(score: Score, *, side: str = "hypothesis") -> str:
    """One line per utterance, `words … (speaker-id)`; `side` is "reference" or "hypothesis"."""
    rows = zip(score.rows, trn_ids(score), strict=True)
    return "".join(f"{getattr(row, side)} ({one})\n".lstrip() for row, one in rows)


def trn_ids(score: Score) -> list[str]:
    """Ids as trn can hold them, all different: the speaker first, where sclite reads it; no brackets, no spaces."""
    made: dict[str, None] = {}
    for row in score.rows:
        named = row.speaker is None or row.id == row.speaker or row.id.startswith((f"{row.speaker}-", f"{row.speaker}_"))
        one = row.id if named else f"{row.speaker}-{row.id}"
        plain = candidate = re.sub(r"[()\s]+", "_", one)
        again = 1
        while candidate in made:
            again += 1
            candidate = f"{plain}.{again}"
        made[candidate] = None
    return list(made)


def pra(score: Score) -> str:
    """Alignments as in sclite's .pra: REF over HYP, wrong words in capitals, stars where a word is missing."""
    parts = ["\n\n\t\tDUMP OF SYSTEM ALIGNMENT STRUCTURE\n", f"System name:   {score.name}\n", "Speakers: "]
    groups, ids = _groups(score), dict(zip((row.id for row in score.rows), trn_ids(score), strict=True))
    parts += [f"{place:5d}:  {speaker}" for place, speaker in enumerate(groups)]
    for place, (speaker, rows) in enumerate(groups.items()):
        parts.append(f"\nSpeaker sentences{place:4d}:  {speaker}   #utts: {len(rows)}")
        for row in rows:
            counts = row.counts
            reference, hypothesis, marks = _columns(row.edits)
            parts += [
                f"id: ({ids[row.id]})",
                f"Scores: (#C #S #D #I) {counts.hits} {counts.substitutions} {counts.deletions} {counts.insertions}",
                f"REF:  {reference}",
                f"HYP:  {hypothesis}",
                f"Eval: {marks}\n",
            ]
    return "\n".join(parts) + "\n"


def summary(score: Score) -> str:
    """The table by speaker of sclite's .sys: per cent correct, substituted, deleted, inserted, wrong, sentences
    wrong."""
    groups = _groups(score)
    width = max(7, *(len(name) for name in groups))
    bar = f"|{'-' * (width + 2)}+-------------+{'-' * 41}|"
    inner = len(bar) - 2
    lines = [
        "",
        "",
        "SYSTEM SUMMARY PERCENTAGES by SPEAKER".center(inner + 2),
        "",
        f",{'-' * inner}.",
        f"|{score.name:^{inner}}|",
        f"|{'-' * inner}|",
        f"| {'SPKR':<{width}} | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |",
        bar,
    ]
    for name, rows in groups.items():
        lines += [_summary_row(name, rows, width), bar]
    lines[-1] = bar.replace("-", "=")
    lines += [_summary_row("Sum/Avg", score.rows, width), f"`{'-' * inner}'", ""]
    return "\n".join(lines)


def write(score: Score, prefix: str | Path) -> list[Path]:
    """Write PREFIX.ref.trn, PREFIX.trn, PREFIX.pra and PREFIX.sys; returns their paths."""
    made = []
    for ending, text in (
        ("ref.trn", trn(score, side="reference")),
        ("trn", trn(score)),
        ("pra", pra(score)),
        ("sys", summary(score)),
    ):
        path = Path(f"{prefix}.{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        made.append(path)
    return made


def _groups(score: Score) -> dict[str, list[UtteranceScore]]:
    groups: dict[str, list[UtteranceScore]] = {}
    for row in score.rows:
        groups.setdefault(row.speaker or "all", []).append(row)
    return groups


def _columns(edits: list[Edit]) -> tuple[str, str, str]:
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    for kind, wanted, heard in edits:
        if kind == "hit":
            cells = (wanted or "", heard or "", "")
        else:
            above, below = (wanted or "").upper(), (heard or "").upper()
            stars = "*" * max(len(above), len(below))
            cells = (above or stars, below or stars, kind[0].upper())
        size = max(map(len, cells))
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell.ljust(size))
    return " ".join(columns[0]), " ".join(columns[1]), " ".join(columns[2])


def _summary_row(name: str, rows: list[UtteranceScore] | tuple[UtteranceScore, ...], width: int) -> str:
    counts = sum((row.counts for row in rows), Counts())
    parts = (counts.hits, counts.substitutions, counts.deletions, counts.insertions, counts.errors)
    shares = [100 * part / counts.words if counts.words else 0.0 for part in parts]
    shares.append(100 * sum(row.counts.errors > 0 for row in rows) / len(rows))
    return f"| {name:<{width}} |{len(rows):5d} {counts.words:6d} |" + "".join(f"{share:6.1f} " for share in shares)[:-1] + " |"
