"""Length-aware encoding: only the frames that each row needs, through the base's own modules.

`transformers`' encoder refuses anything but 30 s. Here its convolutions, a prefix of its positional table, its layers and
its final norm are called directly. Rows of different contexts share a batch: what lies beyond a row's context is zeroed
after each convolution (where it would leak through the kernel) and masked as attention keys, so a row never depends on its
neighbors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asrpeft.errors import BadInput

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder


@dataclass(frozen=True)
class Encoded:
    """Encoder states of a batch.

    Attributes:
        states: (rows, frames, dim); rows' frames beyond their context hold nothing of meaning.
        frames: (rows,) the context of each row, in encoder frames.
        mask: (rows, frames) true where a frame is inside the row's context; None where every frame is.
        speech: (rows,) how many frames of each row hold sound, for the CTC head; None: all of its context.
    """

    states: Tensor
    frames: Tensor
    mask: Tensor | None
    speech: Tensor | None = None

    @property
    def cross_mask(self) -> Tensor | None:
        """(rows, 1, 1, frames) for the decoder's cross attention."""
        return None if self.mask is None else self.mask[:, None, None, :]

    def take(self, rows: Tensor) -> Encoded:
        mask, speech = (None if part is None else part[rows] for part in (self.mask, self.speech))
        return Encoded(self.states[rows], self.frames[rows], mask, speech)


def _positions(table: nn.Embedding, n_rows: int, n: int) -> Tensor:
    """(n, dim), or (rows, n, dim) where an adapter may change the table for some rows only."""
    if not table._forward_hooks:
        return table.weight[:n]
    return table(torch.arange(n, device=table.weight.device).expand(n_rows, n))


def encode(encoder: WhisperEncoder, features: Tensor, frames: Tensor) -> Encoded:
    """Encode `features` (rows, mels, 2·T) with contexts `frames` (rows,), the largest of which is T ≤ 1,500.

    Raises: BadInput if the shapes do not fit.
    """
    longest = features.shape[-1] // 2
    if features.dim() != 3 or features.shape[1] != encoder.num_mel_bins or features.shape[-1] % 2:
        raise BadInput(f"Features are (rows, {encoder.num_mel_bins}, an even number of frames); got {tuple(features.shape)}.")
    if len(frames) != len(features) or not len(frames) or int(frames.min()) < 1 or int(frames.max()) > longest or longest > encoder.max_source_positions:
        raise BadInput(f"Contexts of {frames.tolist()[:4]} encoder frames do not fit {longest} computed (at most {encoder.max_source_positions}).")
    mask = None
    if bool((frames != longest).any()):
        mask = torch.arange(longest, device=features.device) < frames.to(features.device)[:, None]
    features = features.to(encoder.conv1.weight.dtype)
    if mask is not None:
        wide = mask.repeat_interleave(2, dim=1)[:, None]
        features = features * wide
    x = F.gelu(encoder.conv1(features))
    if mask is not None:
        x = x * wide
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    if mask is not None:
        x = x * mask[..., None]
    if not torch.is_grad_enabled():
        # The sum that runs through all layers keeps the precision of the weights where autocast rounds what is added to it;
        # not in training, where it would be kept for every layer.
        x = x.to(encoder.conv1.weight.dtype)
    x = x + _positions(encoder.embed_positions, len(x), longest).to(x.dtype)
    x = F.dropout(x, p=encoder.dropout, training=encoder.training)
    keys = None if mask is None else mask[:, None, None, :]
    for layer in encoder.layers:
        if encoder.training and encoder.layerdrop > 0 and float(torch.rand([])) < encoder.layerdrop:
            continue
        x = layer(x, keys)
    return Encoded(encoder.layer_norm(x), frames.to(x.device), mask)
