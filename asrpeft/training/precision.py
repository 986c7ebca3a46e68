"""Number formats of the forward pass: bfloat16 where the processor multiplies it in hardware, else the base's own.

The adapter, its gradients, its optimizer state and the loss are float32 in either case.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from asrpeft.errors import BadInput

PRECISIONS = ("auto", "bf16", "no")


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware: AMX or AVX512-BF16 on a CPU, Ampere or later on a GPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def uses_autocast(precision: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products are made in bfloat16, on a base whose weights are of `dtype`."""
    return precision == "bf16" or (precision == "auto" and dtype == torch.float32 and has_bf16(device))


def autocast(precision: str, device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context to compute in.

    Args:    dtype: of the base's weights.
    Raises:  BadInput for a float16 base: its gradients underflow.
    """
    if dtype == torch.float16:
        raise BadInput("A float16 base cannot be trained on: small gradients become zero in it. Load it with --dtype float32 or bfloat16.")
    if uses_autocast(precision, device, dtype):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
