"""Scores that can be believed: normalisers, WER and CER with intervals, paired tests, breakdowns and reports.

    from asrpeft.scoring import score, compare
    base = score(references, base_texts, speakers=speakers, name="base")
    tuned = score(references, tuned_texts, speakers=speakers, name="lora")
    tuned.wer, tuned.wer_interval.low, compare(base, tuned).verdict

Nothing here imports torch or runs a model.
"""

from asrpeft.scoring.alignment import Edit, Run, align
from asrpeft.scoring.errors import Counts, DamagingNormaliser, Raw, Score, UtteranceScore, score
from asrpeft.scoring.intervals import Interval, ratio_interval
from asrpeft.scoring.normalise import Normaliser, normaliser, normalisers
from asrpeft.scoring.significance import (
    Comparison,
    Gate,
    Test,
    compare,
    compare_all,
    gate,
    mapsswe,
    paired_bootstrap,
    signed_rank,
)

__all__ = [
    "Comparison",
    "Counts",
    "DamagingNormaliser",
    "Edit",
    "Gate",
    "Interval",
    "Normaliser",
    "Raw",
    "Run",
    "Score",
    "Test",
    "UtteranceScore",
    "align",
    "compare",
    "compare_all",
    "gate",
    "mapsswe",
    "normaliser",
    "normalisers",
    "paired_bootstrap",
    "ratio_interval",
    "score",
    "signed_rank",
]
