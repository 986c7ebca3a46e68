"""A base's fingerprint: which checkpoint an adapter belongs to, whatever dtype the checkpoint was loaded in.

`names:sample`, where `names` is a hash of the tensors' names and shapes and `sample` holds one rounded number of each of
(at most) 128 tensors. Two fingerprints agree when the names do and the samples do to half precision.
"""

from __future__ import annotations

import base64
import hashlib

import numpy as np
import torch
from torch import nn

_TENSORS = 128


def fingerprint(base: nn.Module) -> str:
    """The fingerprint of a `WhisperForConditionalGeneration`, unmerged."""
    tensors = dict(sorted((n, p) for n, p in base.named_parameters() if n != "proj_out.weight"))
    names = hashlib.sha256("".join(f"{n}{tuple(p.shape)}" for n, p in tensors.items()).encode()).hexdigest()[:16]
    chosen = list(tensors.values())[:: max(1, len(tensors) // _TENSORS)]
    # The middle element: the ends of a table are often padding or equal in sibling checkpoints.
    sample = torch.stack([p.detach().flatten()[p.numel() // 2].float().cpu() for p in chosen]).numpy().astype(np.float16)
    return f"{names}:{base64.b64encode(sample.tobytes()).decode()}"


def same(a: str, b: str) -> bool:
    """Whether two fingerprints are of one checkpoint, perhaps in different dtypes."""
    return same_shape(a, b) and np.allclose(*(np.frombuffer(base64.b64decode(f.split(":")[1]), np.float16).astype(np.float32) for f in (a, b)), rtol=2e-2, atol=1e-4)


def same_shape(a: str, b: str) -> bool:
    """Whether two fingerprints are of checkpoints with the same tensors by name and shape."""
    return a.split(":")[0] == b.split(":")[0]
