"""Attention while training in bfloat16 on a processor that multiplies bfloat16 itself: block by block, as plain matrix products.

    P = softmax(s · Q Kᵀ + mask)      O = P V      for a few heads of a few rows at a time, whose P stays in the processor's cache

The kernel that PyTorch 2.11 takes on a CPU is no faster for bfloat16 than for float32, forward and backward; with matrix products of bfloat16
attention is two to four times as fast (`scripts/bench/attention.py` measures both). P is rounded to bfloat16, as all that
surrounds it is, and so are the products before the softmax. It is kept for the backward pass where it is small, else computed again: long speech
takes no more memory than with the other kernel, and what is computed again is the same to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

BLOCK = 768 * 1024  # bytes of P at a time and thread: what a core's own cache holds beside Q, K and V
QUICK = torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
LOG2_E = math.log2(math.e)
LEAST, MOST = 1e-30, 1e37  # sums of powers between which float32 keeps what bfloat16 will: the least it holds well is 1e-38
SHORT = 400  # keys up to which powers in float32 are quicker: further on what they read and write costs more than the largest of a row
KEPT = 16 * 2**20  # bytes of P of a layer up to which it is kept for the backward pass


def pays(query: Tensor, key: Tensor, value: Tensor, *, dropout: float) -> bool:
    """Whether attention from here on is faster so: in training, in bfloat16, on a processor with products of bfloat16.

    A rule, not a trial at the start of a run: what is chosen by a clock makes a run that nobody can repeat. Processors with tile units (AMX) keep PyTorch's
    kernel, which uses them.
    """
    if query.dtype != torch.bfloat16 or query.device.type != "cpu" or dropout or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False  # a compiler could not follow what depends on the sums
    return (query.requires_grad or key.requires_grad or value.requires_grad) and QUICK


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: (rows, heads, q, dim). key, value: (rows, heads, k, dim).
        mask: which keys are seen, bool, or what is added to the products, that broadcasts to (rows, heads, q, k); None: all are.
    Returns: (rows, heads, q, dim)
    """
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
        mask = mask.to(query.dtype).expand(*query.shape[:2], -1, -1)
    found: Tensor = _Blocked.apply(query, key, value, mask, scale)
    return found


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        q, k, v = (one.reshape(-1, *one.shape[2:]) for one in (query, key, value))  # (rows · heads, …)
        m = None if mask is None else mask.reshape(-1, *mask.shape[2:])
        out = torch.empty_like(q)
        size = q.shape[1] * k.shape[1] * q.element_size()
        n = max(1, torch.get_num_threads() * BLOCK // max(1, size))
        kept = []
        with torch.autocast("cpu", enabled=False):
            for i in range(0, len(q), n):
                at = slice(i, i + n)
                p = _weights(q[at], k[at], None if m is None else m[at], scale)
                out[at] = torch.bmm(p, v[at])
                if size * len(q) <= KEPT:
                    kept.append(p)
        ctx.save_for_backward(q, k, v, m, *kept)
        ctx.n, ctx.scale, ctx.shapes = n, scale, (query.shape, key.shape, value.shape)
        return out.view(query.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, m, *kept = ctx.saved_tensors
        g = gradient.reshape(q.shape[0], -1, v.shape[2]).to(q.dtype)
        of_q, of_k, of_v, *_ = ctx.needs_input_grad  # a projection that nothing trained lies before has none
        dq, dk, dv = (torch.empty_like(one) if wanted else None for one, wanted in ((q, of_q), (k, of_k), (v, of_v)))
        with torch.autocast("cpu", enabled=False):
            for block, i in enumerate(range(0, len(q), ctx.n)):
                at = slice(i, i + ctx.n)
                p = kept[block] if kept else _weights(q[at], k[at], None if m is None else m[at], ctx.scale)
                if dv is not None:
                    dv[at] = torch.bmm(p.mT, g[at])
                if dq is None and dk is None:
                    continue
                ds = torch._softmax_backward_data(torch.bmm(g[at], v[at].mT), p, -1, p.dtype)
                if ctx.scale != 1.0:
                    ds.mul_(ctx.scale)
                if dq is not None:
                    dq[at] = torch.bmm(ds, k[at])
                if dk is not None:
                    dk[at] = torch.bmm(ds.mT, q[at])
        return *(None if one is None else one.view(shape) for one, shape in zip((dq, dk, dv), ctx.shapes)), None, None


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    products = torch.bmm(q, k.mT)
    if scale != 1.0:
        products.mul_(scale)
    return _softmax(products if mask is None else products.add_(mask))


def _softmax(products: Tensor) -> Tensor:
    """Over the last dimension, as powers of two in float32: torch.softmax is slower where rows are no multiple of 32 long, as seconds are not.

    Powers of the products themselves, not of what they are below the largest of their row, which is dear to find. Where a row's sum leaves
    what float32 holds well, or nothing of it is seen, and for long rows, it is torch.softmax after all.
    """
    if products.shape[-1] > SHORT:
        return torch.softmax(products, -1)
    powers = products.float().mul_(LOG2_E).exp2_()
    total = powers.sum(-1, keepdim=True)
    least, most = total.aminmax()
    if LEAST <= float(least) and float(most) <= MOST:
        return powers.div_(total).to(products.dtype)
    return torch.softmax(products, -1)
