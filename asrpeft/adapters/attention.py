"""The attention function that an adapted base uses: scaled dot-product attention with prefixes and a cross-attention mask.

It is registered with `transformers` under the name `asrpeft` and called after the key-value cache was updated, so a prefix
never enters the cache, is never prepended twice, and takes no positions. `transformers` gives Whisper's cross attention no
mask; encoder frames that are padding are masked here.
"""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, finalize, ref

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from asrpeft.adapters.blocked_attention import blocked_attention, pays
from asrpeft.adapters.routing import Ambient

NAME = "asrpeft"
# By id(module), and forgotten with the module. Not by weak reference: `torch.compile` reads this table as it traces, and fails over a key that the garbage
# collector takes away in that moment, whosever it was.
_AMBIENT: dict[int, Ambient] = {}
# The site by weak reference: it holds its module, which would then be kept alive for good.
_SITES: dict[int, ReferenceType[PrefixSource]] = {}


class PrefixSource:
    """Gives the prefix of each row of a batch; `asrpeft.adapters.sites.AttentionSite` is the one there is."""

    def prefixes(self, n_rows: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Keys and values (rows, heads, tokens, head_dim) and which are real (rows, tokens); None where no row has any."""
        raise NotImplementedError


def watch(attention: nn.Module, ambient: Ambient, site: PrefixSource | None) -> None:
    """Let `attention`, a `WhisperAttention`, read masks from `ambient` and prefixes from `site`."""
    key = id(attention)
    if key not in _AMBIENT:
        finalize(attention, _forget, key).atexit = False
    _AMBIENT[key] = ambient
    if site is None:
        _SITES.pop(key, None)
    else:
        _SITES[key] = ref(site)


def _forget(key: int) -> None:
    _AMBIENT.pop(key, None)
    _SITES.pop(key, None)


def _full_mask(module: nn.Module, query: Tensor, key: Tensor) -> Tensor:
    """The boolean mask that `None` stands for: causal in the decoder's self-attention, else everything."""
    q, k = query.shape[2], key.shape[2]
    mask = torch.ones(q, k, dtype=torch.bool, device=query.device)
    return (mask.tril(k - q) if getattr(module, "is_causal", False) else mask)[None, None]


def attention_forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Any:
    """query (rows, heads, q, head_dim), key and value (rows, heads, k, head_dim) → (rows, q, heads, head_dim), None."""
    ambient, held = _AMBIENT.get(id(module)), _SITES.get(id(module))
    site = None if held is None else held()
    if ambient is not None and attention_mask is None and module.is_decoder and not module.is_causal:
        attention_mask = ambient.call.cross_mask
    found = site.prefixes(len(query), key) if site is not None else None
    if found is not None:
        prefix_key, prefix_value, real = found
        if attention_mask is None:
            attention_mask = _full_mask(module, query, key)
        mask = attention_mask.expand(len(query), 1, query.shape[2], key.shape[2])
        real = real[:, None, None, :].expand(-1, 1, query.shape[2], -1)
        if mask.dtype != torch.bool:
            real = torch.zeros_like(real, dtype=mask.dtype).masked_fill(~real, torch.finfo(mask.dtype).min)
        attention_mask = torch.cat([real, mask], dim=-1)
        key, value = torch.cat([prefix_key, key], dim=2), torch.cat([prefix_value, value], dim=2)
    if pays(query, key, value, dropout=kwargs.get("dropout") or 0.0):
        if attention_mask is None and getattr(module, "is_causal", False):
            attention_mask = _full_mask(module, query, key)
        return blocked_attention(query, key, value, attention_mask, scale=kwargs["scaling"]).transpose(1, 2), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
