"""A base's fingerprint: which checkpoint an adapter belongs to, whatever dtype the checkpoint was loaded in.

`names:sample`, where `names` is a hash of the tensors' names and shapes and `sample` holds a few rounded numbers of every
tensor (layers repeat: taking each n-th would miss whole kinds of weight in all of them). Two fingerprints agree when the names
do and the samples do to half precision: a bfloat16 keeps 8 bits, so a number moves by at most 2^-9 of itself, and fine-tuning
that moves none of them by more than twice that is too slight to matter to an adapter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import numpy as np
import torch
from torch import nn

_NUMBERS = 256  # in all, or one a tensor: from half a kilobyte to two and a half (large)


def fingerprint(base: nn.Module) -> str:
    """The fingerprint of a `WhisperForConditionalGeneration`, unmerged."""
    tensors = dict(sorted((n, p) for n, p in base.named_parameters() if n != "proj_out.weight"))
    names = hashlib.sha256("".join(f"{n}{tuple(p.shape)}" for n, p in tensors.items()).encode()).hexdigest()[:16]
    chosen = list(tensors.values())
    each = max(1, _NUMBERS // len(chosen))
    # Inner elements: the ends of a table are often padding or equal in sibling checkpoints.
    places = [[(i + 1) * p.numel() // (each + 1) for i in range(each)] for p in chosen]
    sample = torch.cat([p.detach().flatten()[torch.tensor(at, device=p.device)].float() for p, at in zip(chosen, places)]).cpu()
    return f"{names}:{base64.b64encode(sample.numpy().astype(np.float16).tobytes()).decode()}"


def _sample(of: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(of.split(":")[1], validate=True), np.float16).astype(np.float32)


def readable(text: object) -> bool:
    """Whether `text` has the form of a fingerprint."""
    try:
        return isinstance(text, str) and text.count(":") == 1 and len(_sample(text)) > 0
    except (ValueError, binascii.Error):
        return False


def same(a: str, b: str) -> bool:
    """Whether two fingerprints are of one checkpoint, perhaps in different dtypes."""
    if not same_shape(a, b):
        return False
    left, right = _sample(a), _sample(b)
    return left.shape == right.shape and np.allclose(left, right, rtol=2**-8 + 2**-10, atol=1e-6, equal_nan=True)


def same_shape(a: str, b: str) -> bool:
    """Whether two fingerprints are of checkpoints with the same tensors by name and shape."""
    return a.split(":")[0] == b.split(":")[0]
