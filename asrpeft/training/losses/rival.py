"""Unlikelihood of the nearest wrong token.

    rival    Σ −log(1 − p(rival | tokens before, speech))      rival: of all tokens but the right one the most probable; on text and end tokens

Cross-entropy lifts the right token; this presses down the one that competes with it, and costs next to nothing where none does. T-Few
(https://arxiv.org/abs/2205.05638) does so for the tokens of wrong answers, as `ul` does here with those that a beam search finds; this one
takes the decoder's own next best, token by token, and needs no search. As a part: `--loss ce+rival`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from asrpeft.adapters import Adapter
from asrpeft.recognizer import IGNORED, Output
from asrpeft.training.batch import Batch
from asrpeft.training.losses import Term, register, unlikelihood


@register("rival")
class Rival(Term):
    weight = 0.3
    needs_decoder = True

    def count(self, batch: Batch, adapter: Adapter) -> int:
        return int((batch.labels != IGNORED).sum())

    def total(self, output: Output, batch: Batch, adapter: Adapter) -> Tensor:
        kept = batch.labels != IGNORED
        logits = cast(Tensor, output.logits)[kept].float()
        rival = logits.detach().scatter(1, batch.labels[kept][:, None], -torch.inf).argmax(dim=1, keepdim=True)
        return unlikelihood(logits, rival).sum()
