"""Number formats of the forward pass: bfloat16 where the processor multiplies it in hardware, float16 on GPUs that have only that,
else the base's own.

The adapter, its gradients, its optimizer state and the loss are float32 in either case.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from asrpeft.errors import BadInput

PRECISIONS = ("auto", "bf16", "fp16", "no")


def has_fp16(device: torch.device) -> bool:
    """Whether matrix products in float16 run in tensor cores: Volta and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware: AMX or AVX512-BF16 on a CPU, Ampere or later on a GPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def forward_dtype(precision: str, device: torch.device, dtype: torch.dtype) -> torch.dtype | None:
    """The format to compute the forward pass in; None for the base's own.

    Args:    dtype: of the base's weights.
    Raises:  BadInput for a float16 base: its gradients underflow.
    """
    if dtype == torch.float16:
        raise BadInput("A float16 base cannot be trained on: small gradients become zero in it. Load it with --dtype float32 or bfloat16.")
    if precision in ("bf16", "fp16"):
        return torch.bfloat16 if precision == "bf16" else torch.float16
    if precision == "no" or dtype != torch.float32:
        return None
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" and has_fp16(device) else None  # GPUs before Ampere: V100, T4


def autocast(precision: str, device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context to compute in; arguments and errors as for `forward_dtype`."""
    chosen = forward_dtype(precision, device, dtype)
    return nullcontext() if chosen is None else torch.autocast(device.type, chosen)
