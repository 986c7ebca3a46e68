"""Unlikelihood of the mistakes that would be made.

    ul     Σ_rows mean over the mistaken tokens t of all wrong hypotheses:  −log(1 − p(t | tokens before it in its hypothesis, speech))

Cross-entropy lifts the right tokens; this presses down those of wrong answers, as T-Few does (https://arxiv.org/abs/2205.05638, equation 2).
There the wrong answers are given with the task; here they are what a beam search writes (`asrpeft.training.candidates`). A wrong transcript
is mostly right, and its right tokens are none to press down: only those are counted that the alignment with the transcript exchanges, puts
in, or has where something was left out. `rival` is the like without a search. As a part: `--loss ce+ul`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asrpeft.adapters import Adapter
from asrpeft.recognizer import Output
from asrpeft.training.batch import Batch
from asrpeft.training.candidates import of
from asrpeft.training.losses import Term, register, unlikelihood


@register("ul")
class Unlikelihood(Term):
    needs_decoder = needs_candidates = True

    def count(self, batch: Batch, adapter: Adapter) -> int:
        return len(batch)

    def total(self, output: Output, batch: Batch, adapter: Adapter) -> Tensor:
        found = of(batch)
        kept = found.mistaken & found.wrong[:, None]
        logits, tokens = found.output.logits_at(kept), found.labels[kept][:, None]
        pressed = unlikelihood(logits, tokens)
        rows = found.owners[kept.nonzero()[:, 0]]
        sums, counts = (logits.new_zeros(len(batch)).index_add(0, rows, one) for one in (pressed, torch.ones_like(pressed)))
        return (sums / counts.clamp(min=1)).sum()
