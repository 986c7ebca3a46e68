"""A site: one place of the base and, by name, what the adapters have there. Only here do names, rows and hooks meet.

The base's module tree is left as it is: a site puts forward hooks on the frozen layer and takes them away again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from asrpeft.adapters.attention import PrefixSource, watch
from asrpeft.adapters.routing import Ambient, Route
from asrpeft.errors import BadInput, BadRoute, CannotMerge
from asrpeft.methods.base import LayerAdapter
from asrpeft.methods.layers import Layer


class Site:
    """One place. `pieces[name]` are the pieces that adapter `name` has here, applied in order."""

    def __init__(self, layer: Layer, ambient: Ambient):
        self.layer, self.ambient = layer, ambient
        self.pieces: dict[str, list[LayerAdapter]] = {}
        self.merged: tuple[str, ...] = ()
        self._backup: list[Tensor] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def add(self, name: str, piece: LayerAdapter) -> None:
        self.pieces.setdefault(name, []).append(piece)
        self._unhook()
        self._hook()

    def remove(self, name: str) -> None:
        self.pieces.pop(name, None)
        self._unhook()
        if self.pieces:
            self._hook()

    def _hook(self) -> None:
        raise NotImplementedError

    def _unhook(self) -> None:
        for handle in self._hooks:
            handle.remove()
        self._hooks = []

    def _here(self, route: Route, n_rows: int, device: torch.device) -> Iterable[tuple[list[LayerAdapter], Tensor | None]]:
        for name, rows in route.groups(n_rows, device):
            if name in self.merged:
                continue
            if self.merged:
                raise BadRoute(f"Adapter {', '.join(self.merged)!r} is merged into the base, so rows cannot be routed to {name!r}. Call unmerge() first.")
            if name in self.pieces:
                yield self.pieces[name], rows

    def merge(self, name: str) -> None:
        raise CannotMerge(f"{self.pieces[name][0].name} at {self.layer.path} cannot be merged into a weight: serve it routed.")

    def unmerge(self) -> None:
        """Restore every bit of the frozen layer."""


class WeightSite(Site):
    """A layer with a weight: `Linear`, `Conv1d`, `Embedding`, `LayerNorm`."""

    def _hook(self) -> None:
        self._hooks = [self.layer.module.register_forward_hook(self._after)]
        if any(piece.edits_input for pieces in self.pieces.values() for piece in pieces):
            self._hooks.append(self.layer.module.register_forward_pre_hook(self._before))
        if getattr(self.layer, "head", None) is not None:
            self._hooks.append(self.layer.head.register_forward_hook(self._after_head))

    def _before(self, module: nn.Module, args: tuple) -> tuple:
        x = args[0]
        for pieces, rows in self._here(self.ambient.call.route, len(x), x.device):
            edited = x if rows is None else x[rows]
            for piece in pieces:
                edited = piece.edit_input(edited, self.layer)
            x = edited if rows is None else x.index_copy(0, rows, edited)
        return (x, *args[1:])

    def _after(self, module: nn.Module, args: tuple, y: Tensor) -> Tensor:
        return self._apply(args[0], y, "forward")

    def _after_head(self, module: nn.Module, args: tuple, logits: Tensor) -> Tensor:
        return self._apply(args[0], logits, "head")

    def _apply(self, x: Tensor, y: Tensor, how: str) -> Tensor:
        for pieces, rows in self._here(self.ambient.call.route, len(x), x.device):
            own_x, own_y = (x, y) if rows is None else (x[rows], y[rows])
            for piece in pieces:
                own_y = (piece if how == "forward" else piece.head)(own_x, own_y, self.layer)
            # Under autocast a float32 embedding gives a float32 sum where the frozen output is float32 too; in a
            # half-precision base the sum must not widen what follows.
            own_y = own_y.to(y.dtype)
            y = own_y if rows is None else y.index_copy(0, rows, own_y)
        return y

    @torch.no_grad()
    def merge(self, name: str) -> None:
        if not self._backup:
            self._backup = [tensor.clone() for tensor in self.layer.tensors()]
        # In float32, then one rounding to the base's dtype.
        w = self.layer.matrix.float()
        b = None if self.layer.bias is None else self.layer.bias.float()
        for piece in self.pieces[name]:
            w, b = piece.merged(w, b)
        self.layer.write(w, b)
        self.merged = (*self.merged, name)

    @torch.no_grad()
    def unmerge(self) -> None:
        for tensor, kept in zip(self.layer.tensors(), self._backup):
            tensor.copy_(kept)
        self._backup, self.merged = [], ()


class AttentionSite(Site, PrefixSource):
    """An attention block: extra keys and values."""

    def _hook(self) -> None:
        watch(self.layer.module, self.ambient, self)

    def _unhook(self) -> None:
        watch(self.layer.module, self.ambient, None)

    def prefixes(self, n_rows, like):
        found = [(torch.cat([k for k, _ in kv], dim=1), torch.cat([v for _, v in kv], dim=1), rows)
                 for pieces, rows in self._here(self.ambient.call.route, n_rows, like.device)
                 for kv in [[piece.rows() for piece in pieces]]]  # fmt: skip
        if not found:
            return None
        length = max(k.shape[1] for k, _, _ in found)
        heads, dim = found[0][0].shape[0], found[0][0].shape[2]
        keys, values = (like.new_zeros(n_rows, heads, length, dim) for _ in range(2))
        real = torch.zeros(n_rows, length, dtype=torch.bool, device=like.device)
        for k, v, rows in found:
            index = torch.arange(n_rows, device=like.device) if rows is None else rows
            pad = (0, 0, 0, length - k.shape[1])
            keys = keys.index_copy(0, index, nn.functional.pad(k, pad).to(like.dtype).expand(len(index), -1, -1, -1))
            values = values.index_copy(0, index, nn.functional.pad(v, pad).to(like.dtype).expand(len(index), -1, -1, -1))
            real[index, : k.shape[1]] = True
        return keys, values, real


_FRONT = "_asrpeft_front"  # on a cache: how many positions before the first token hold prompts and their padding


class DecoderSite(Site):
    """The decoder's input: extra rows before the first token, at positions 0 … n−1. Rows without any are padded on the
    left with masked rows, so every row's own tokens keep the positions they would have alone."""

    def _hook(self) -> None:
        self._stripping = threading.local()  # how many rows the call in progress must take off its output
        self._hooks = [
            self.layer.module.register_forward_pre_hook(self._before, with_kwargs=True),
            self.layer.module.register_forward_hook(self._after),
        ]

    def _lengths(self, n_rows: int, device: torch.device) -> Tensor:
        lengths = torch.zeros(n_rows, dtype=torch.long, device=device)
        for pieces, rows in self._here(self.ambient.call.route, n_rows, device):
            lengths[slice(None) if rows is None else rows] = sum(len(piece.rows()[0]) for piece in pieces)
        return lengths

    def _before(self, decoder: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            raise BadInput("Call the decoder with keyword arguments: a prompt must find its input by name.")
        ids, embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
        given = ids if ids is not None else embeds
        n_rows, n_tokens, device = given.shape[0], given.shape[1], given.device
        lengths = self._lengths(n_rows, device)
        cache = kwargs.get("past_key_values")
        cached = cache.get_seq_length() if cache is not None else 0
        # Once the prompt is in the cache, its width is the cache's: the row with the longest prompt may have left the batch.
        longest = getattr(cache, _FRONT, int(lengths.max())) if cached else int(lengths.max())
        if cache is not None and not cached:
            setattr(cache, _FRONT, longest)
        self._stripping.rows = 0
        if not longest:
            return args, kwargs
        pads = longest - lengths  # masked rows at the left, (rows,)
        if cached + n_tokens > decoder.max_target_positions:
            raise BadInput(f"{longest} prompt rows and {cached - longest + n_tokens} tokens exceed the decoder's {decoder.max_target_positions} "
                           f"positions. Ask for fewer new tokens.")  # fmt: skip
        kwargs = dict(kwargs)
        if not cached:
            if longest + n_tokens > decoder.max_target_positions:
                raise BadInput(f"{longest} prompt rows and {n_tokens} tokens exceed the decoder's {decoder.max_target_positions} positions.")
            embeds = decoder.embed_tokens(ids) if embeds is None else embeds
            front = embeds.new_zeros(n_rows, longest, embeds.shape[2])
            for pieces, rows in self._here(self.ambient.call.route, n_rows, device):
                own = torch.cat([piece.rows()[0] for piece in pieces]).to(embeds.dtype)
                index = torch.arange(n_rows, device=device) if rows is None else rows
                own = nn.functional.pad(own, (0, 0, longest - len(own), 0)).expand(len(index), -1, -1)
                front = front.index_copy(0, index, own)
            kwargs["input_ids"], kwargs["inputs_embeds"] = None, torch.cat([front, embeds], dim=1)
            self._stripping.rows = longest
        mask = kwargs.get("attention_mask")
        total = (cached or longest) + n_tokens
        if mask is not None or bool(pads.any()):
            if mask is None:
                mask = torch.ones(n_rows, total - longest, dtype=torch.long, device=device)
            real = (torch.arange(longest, device=device) >= pads[:, None]).to(mask.dtype)
            kwargs["attention_mask"] = torch.cat([real, mask], dim=1)
        kwargs["position_ids"] = self._positions(kwargs.get("position_ids"), lengths, longest, pads, cached, n_tokens)
        return args, kwargs

    @staticmethod
    def _positions(given: Tensor | None, lengths: Tensor, longest: int, pads: Tensor, cached: int, n_tokens: int) -> Tensor:
        """(rows, inputs): a row's own tokens follow its own prompt, whatever was padded before it."""
        if given is None:
            first = cached - longest if cached else 0  # tokens already in the cache
            given = (first + torch.arange(n_tokens, device=lengths.device)).expand(len(lengths), -1)
        tokens = given + lengths[:, None]
        if cached:
            return tokens
        front = (torch.arange(longest, device=lengths.device) - pads[:, None]).clamp(min=0)
        return torch.cat([front, tokens], dim=1)

    def _after(self, decoder: nn.Module, args: tuple, output):
        extra = self._stripping.rows
        if not extra:
            return output
        if isinstance(output, BaseModelOutputWithPastAndCrossAttentions):
            output["last_hidden_state"] = output.last_hidden_state[:, extra:]
            return output
        return (output[0][:, extra:], *output[1:])


def site_for(layer: Layer, ambient: Ambient) -> Site:
    return {"attention": AttentionSite, "decoder": DecoderSite}.get(layer.kind, WeightSite)(layer, ambient)
