"""`split`: every letter-with-its-marks of a script without spaces becomes a word, so that WER means something there.

On Mandarin with English words in it this is the "mixed error rate"; on Thai or Khmer it counts orthographic clusters.
Use it after `marks`: `marks+split`.
"""

from __future__ import annotations

from asrpeft.scoring.normalize import Step, register
from asrpeft.scoring.writing import split_clusters


@register("split")
class Split(Step):
    about = "one word per character cluster in scripts without spaces (Chinese, Thai, …); use as marks+split"

    def __call__(self, text: str) -> str:
        return split_clusters(text)
