"""A site: one place of the base and, by name, what the adapters have there. Only here do names, rows and hooks meet.

The base's module tree is left as it is: a site puts forward hooks on the frozen layer and takes them away again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from asrpeft.adapters.attention import PrefixSource, watch
from asrpeft.adapters.routing import Ambient, Route, Term
from asrpeft.errors import BadInput, BadRoute, CannotMerge
from asrpeft.methods.base import LayerAdapter
from asrpeft.methods.change_cache import CHANGES, tensors_of
from asrpeft.methods.conditioned import at_hand
from asrpeft.methods.inputs import Inputs, current
from asrpeft.methods.layers import DecoderInput, Layer

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperDecoder


def _plain(*args: Any, **kwargs: Any) -> None:
    """What a hook becomes in a copy of the base: a copy of the base is the base, without adapters."""


class Hook:
    """A hook on a frozen layer, which copies and pickles of that layer leave behind."""

    def __init__(self, run: Callable[..., Any]):
        self.run = run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _left_behind, ()


def _left_behind() -> Callable[..., None]:
    return _plain


def sweep(base: nn.Module) -> None:
    """Take away what hooks became in a copy of an adapted base."""
    for module in base.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook is _plain]:
                del hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
                module._forward_pre_hooks_with_kwargs.pop(key, None)


Pieces = tuple[list[LayerAdapter], float]  # what one adapter of a sum has at a place, and its weight
Read = Tensor | tuple[Tensor, ...]  # what a place reads; a stack of layers several
Edit = Callable[[Any, Tensor, Any], Tensor]  # of what a place reads (each kind of place its own), what it gives so far, and its layer


class Site:
    """One place. `pieces[name]` are the pieces that adapter `name` has here, applied in order."""

    def __init__(self, layer: Layer, ambient: Ambient):
        self.layer, self.ambient = layer, ambient
        self.pieces: dict[str, list[LayerAdapter]] = {}
        self.merged: tuple[str, ...] = ()
        self.backup: list[Tensor] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def add(self, name: str, piece: LayerAdapter) -> None:
        self.pieces.setdefault(name, []).append(piece)
        self._unhook()
        self._hook()

    def remove(self, name: str) -> None:
        self.pieces.pop(name, None)
        self._unhook()
        if self.needed():
            self._hook()

    def needed(self) -> bool:
        """Whether it has anything to do."""
        return bool(self.pieces)

    def _hook(self) -> None:
        raise NotImplementedError

    def _unhook(self) -> None:
        for handle in self._hooks:
            handle.remove()
        self._hooks = []

    def _here(self, route: Route, n_rows: int, device: torch.device) -> Iterable[tuple[list[Pieces], Tensor | None]]:
        for name, rows in route.groups(n_rows, device):
            if name in self.merged:
                continue
            if self.merged:
                raise BadRoute(f"Adapter {', '.join(self.merged)!r} is merged into the base, so rows cannot be routed to {name!r}. Call unmerge() first.")
            terms = self.of(route.terms(name))
            if terms:
                yield terms, rows

    def of(self, terms: Sequence[Term]) -> list[Pieces]:
        """What the adapters of a sum have here: (pieces, weight) of each."""
        return [(self.pieces[name], weight) for name, weight in terms if name in self.pieces]

    def mergeable(self, name: str) -> None:
        """Refuse to merge: what acts here is no weight.

        Raises: CannotMerge if what `name` has here cannot be folded into a weight.
        """
        raise CannotMerge(f"{self.pieces[name][0].name} at {self.layer.path} cannot be merged into a weight: serve it routed.")

    def merge(self, name: str, terms: Sequence[Term] = ()) -> None:
        """Fold what `name` (an adapter, or the sum of `terms`) has here into the frozen layer."""
        for each, _ in terms or ((name, 1.0),):
            if each in self.pieces:
                self.mergeable(each)

    def unmerge(self) -> None:
        """Restore every bit of the frozen layer."""


class EditSite(Site):
    """A place where pieces change what is given, row by row."""

    def _knowing(self, terms: list[Pieces], given: Tensor, rows: Tensor | None) -> AbstractContextManager[object]:
        """Within it pieces that ask (`reads_inputs`) know what frames or tokens are at hand; `given` has all rows."""
        own = [piece for pieces, _ in terms for piece in pieces]
        reads, conditioned = any(piece.reads_inputs for piece in own), any(piece.conditioned for piece in own)
        if not (reads or conditioned):
            return nullcontext()
        call, n, stack = self.ambient.call, given.shape[1], ExitStack()
        if conditioned:
            stack.enter_context(at_hand(call.route.at_hand(rows)))
        if reads:
            known = call.frames if self.layer.reads_frames else call.text
            if known is None:
                known = Inputs.plain(len(given), n, given.device)
            elif self.layer.kind != "conv1d":  # those read columns of features; frames are what is known of them
                known = known.up_to(n)
            stack.enter_context(current(known.take(rows)))
        return stack

    def _edited(self, pieces: list[LayerAdapter], x: Tensor) -> Tensor:
        edited = x
        for piece in pieces:
            edited = piece.edit_input(edited, self.layer)
        return edited.to(x.dtype)  # as in `_apply`: nothing that follows may widen

    def _apply(self, x: Read, y: Tensor, how: Callable[[LayerAdapter], Edit], *, on_layer: bool = False) -> Tensor:
        route, made = self.ambient.call.route, y
        here = list(self._here(route, len(y), y.device))
        if len(here) > 1 and torch.is_grad_enabled() and isinstance(x, Tensor) and len(here) == len(runs := route.runs):
            # Rows that are picked by their numbers leave, for each adapter, a gradient of the size of all; those of a split are put together once.
            split = zip(here, x.split(runs), y.split(runs))
            return torch.cat([self._one(terms, rows, own_x, own_y, y, how, on_layer=on_layer) for (terms, rows), own_x, own_y in split])
        for terms, rows in here:
            if rows is None:
                return self._one(terms, rows, x, y, y, how, on_layer=on_layer)
            own = self._one(terms, rows, _rows_of(x, rows), y[rows], y, how, on_layer=on_layer)
            made = y.clone() if made is y else made  # one copy, however many adapters the rows are spread over
            made.index_copy_(0, rows, own)
        return made

    def _one(
        self, terms: list[Pieces], rows: Tensor | None, x: Read, y: Tensor, given: Tensor, how: Callable[[LayerAdapter], Edit], *, on_layer: bool
    ) -> Tensor:
        """What the rows of one adapter, or of one sum of them, give; `given` has all rows."""
        with self._knowing(terms, given, rows):
            if on_layer and isinstance(x, Tensor) and self._rounds(terms, x):
                made = self.layer.replaced(x, *self._whole(terms, x))
            elif _single(terms):
                made = y
                for piece in terms[0][0]:
                    made = how(piece)(x, made, self.layer)
            else:
                made = self._sum(terms, x, y, how)
        # Under autocast a float32 embedding gives a float32 sum where the frozen output is float32 too; in a
        # half-precision base the sum must not widen what follows.
        return made.to(given.dtype)

    def _rounds(self, terms: list[Pieces], x: Tensor) -> bool:
        """Whether rows get a weight of their own, `_whole`, in place of what the frozen one and the pieces give."""
        return False

    def _whole(self, terms: list[Pieces], x: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def _sum(self, terms: list[Pieces], x: Read, y: Tensor, how: Callable[[LayerAdapter], Edit]) -> Tensor:
        """y + Σ weight · (what the adapter makes of the frozen layer alone − y): no adapter sees another's change, so their
        order does not matter, and merging adds their changes of the weight in the same way."""
        total = y
        for pieces, weight in terms:
            own_x, own_y = x, y
            if (
                isinstance(x, Tensor)
                and x.shape[:-1] == y.shape[:-1]
                and self.layer.shape[1]
                and any(piece.edits_input for piece in pieces)
                and how(pieces[0]) is pieces[0]
            ):
                w, b = self.layer.matrix, self.layer.bias
                own_x = self._edited(pieces, x)
                own_y = self.layer.run(own_x, w) if b is None else self.layer.run(own_x, w) + self.layer.channels(b).to(y.dtype)
            for piece in pieces:
                own_y = how(piece)(own_x, own_y, self.layer)
            total = total + weight * (own_y - y)
        return total


class WeightSite(EditSite):
    """A layer with a weight: `Linear`, `Conv1d`, `Embedding`, `LayerNorm`."""

    def _hook(self) -> None:
        module = self.layer.module
        self._hooks = [module.register_forward_hook(Hook(self._after), with_kwargs=True)]
        if any(piece.edits_input for piece in self._all()):
            self._hooks.append(module.register_forward_pre_hook(Hook(self._before)))
        head: nn.Linear | None = getattr(self.layer, "head", None)
        if head is not None and any(map(_on_head, self._all())):
            self._hooks.append(head.register_forward_hook(Hook(self._after_head)))

    def _all(self) -> Iterator[LayerAdapter]:
        return (piece for pieces in self.pieces.values() for piece in pieces)

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        for terms, rows in self._here(self.ambient.call.route, len(x), x.device):
            if not _single(terms) or self._rounds(terms, x):
                continue  # the input that one adapter of a sum edits is not the others': see `_sum`; a whole weight has all in it
            with self._knowing(terms, x, rows):
                edited = self._edited(terms[0][0], x if rows is None else x[rows])
            x = edited if rows is None else x.index_copy(0, rows, edited)
        return (x, *args[1:])

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor) -> Tensor:
        return self._apply(self.layer.input(args, kwargs), y, lambda piece: piece, on_layer=True)

    def _after_head(self, module: nn.Module, args: tuple[Any, ...], logits: Tensor) -> Tensor:
        return self._apply(args[0], logits, lambda piece: piece.head if _on_head(piece) else _unchanged)

    # -- half precision ----------------------------------------------------------------------------------------------
    def _rounds(self, terms: list[Pieces], x: Tensor) -> bool:
        """In half precision, where no gradient is wanted, rows get W' = W + ΔW made in float32 and rounded once, as merging does it,
        in place of the sum of what W and ΔW give, each rounded by itself. It depends on nothing but the row's own adapters, so a row
        is what it is alone; and routed is merged to the last bit."""
        weight = getattr(self.layer.module, "weight", None)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or self.layer.kind not in _ROUNDED or _computed_in(self.layer, x) not in _HALF:
            return False
        plain = type(weight) in (Tensor, nn.Parameter)  # a quantized one is merged into by nobody, and would be as large as it was
        return plain and all(
            piece.mergeable and piece.changes_weights() and not (piece.training or piece.conditioned) for pieces, _ in terms for piece in pieces
        )

    def _whole(self, terms: list[Pieces], x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(W', b') in the precision that the layer computes in."""
        pieces = [piece for own, _ in terms for piece in own]
        of = [tensor for piece in pieces for tensor in (*tensors_of(piece), *tensors_of(piece.pool))] + self.layer.tensors()
        dtype = _computed_in(self.layer, x)

        def make() -> tuple[Tensor, Tensor | None]:
            w, b = self._folded(terms)
            own = self.layer.matrix.dtype  # merging writes it so; autocast rounds what was written
            return w.to(own).to(dtype), None if b is None else b.to(own).to(dtype)

        return CHANGES.get(pieces, of, dtype, make, what=("whole", tuple(weight for own, weight in terms for _ in own)))

    def _folded(self, terms: list[Pieces]) -> tuple[Tensor, Tensor | None]:
        """The weight and bias with what these adapters do in them, in float32 or wider, whatever autocast is."""
        w, b = self.layer.wide()
        with torch.autocast(w.device.type, enabled=False):
            if _single(terms):
                return self._merged(terms[0][0], w, b)
            own = [(*self._merged(pieces, w, b), weight) for pieces, weight in terms]
        whole = w + sum(weight * (new - w) for new, _, weight in own)
        if b is None:
            return whole, None
        return whole, b + sum(weight * (new - b) for _, new, weight in own if new is not None)  # no method takes a bias away

    def mergeable(self, name: str) -> None:
        if not self.layer.writable:
            raise CannotMerge(
                f"{self.layer.path} is quantized, and a sum rounded to its few values would lose {name!r}. Serve it routed, or load the "
                f"base in full precision to merge."
            )
        if getattr(self.layer, "head", None) is not None and not all(map(_on_head, self.pieces[name])):
            raise CannotMerge(
                f"{name!r} changes {self.layer.path} but, with head=False, not the output head that has the same weight. "
                f"Serve it routed, or train it with head=True."
            )

    @torch.no_grad()
    def merge(self, name: str, terms: Sequence[Term] = ()) -> None:
        super().merge(name, terms)
        if not self.backup:
            self.backup = [tensor.clone() for tensor in self.layer.tensors()]
        w, b = self._folded(self.of(terms or ((name, 1.0),)))  # in float32 at least, then one rounding to the base's dtype
        self.layer.write(w, b)
        self.merged = (*self.merged, name)

    @staticmethod
    def _merged(pieces: list[LayerAdapter], w: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for piece in pieces:
            w, b = piece.merged(w, b)
        return w, b

    @torch.no_grad()
    def unmerge(self) -> None:
        for tensor, kept in zip(self.layer.tensors(), self.backup):
            tensor.copy_(kept)
        self.backup, self.merged = [], ()


_HALF = (torch.bfloat16, torch.float16)
_CAST = ("linear", "conv1d")  # kinds of layer whose products autocast rounds
_ROUNDED = (*_CAST, "norm")  # not tables of tokens, of which an adapter would need one as large: each of its rows is looked up, not summed


def _computed_in(layer: Layer, x: Tensor) -> torch.dtype:
    """The precision in which the frozen layer computes."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) if layer.kind in _CAST else torch.float32
    return layer.weight.dtype


def _single(terms: list[Pieces]) -> bool:
    """Whether it is one adapter as it is, and no sum."""
    return len(terms) == 1 and terms[0][1] == 1.0


def _on_head(piece: LayerAdapter) -> bool:
    """Whether a piece on an embedding acts on the tied head as well: where it changes the weight that both use. An edit of
    what an embedding gives is no change of the head."""
    acts = piece.changes_weights() or type(piece).head is not LayerAdapter.head
    return acts and getattr(piece.config, "head", True)


def _unchanged(x: Read, y: Tensor, layer: Layer) -> Tensor:
    return y


def edit(piece: LayerAdapter) -> Edit:
    """A piece's `forward`, where it gives one."""
    return piece if type(piece).forward is not LayerAdapter.forward else _unchanged


def _rows_of(x: Read, rows: Tensor) -> Read:
    return x[rows] if isinstance(x, Tensor) else tuple(one[rows] for one in x)


class AttentionSite(Site, PrefixSource):
    """An attention block: extra keys and values."""

    def _hook(self) -> None:
        watch(self.layer.module, self.ambient, self)

    def _unhook(self) -> None:
        watch(self.layer.module, self.ambient, None)

    def prefixes(self, n_rows: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        found = [
            (torch.cat([k for k, _ in kv], dim=1), torch.cat([v for _, v in kv], dim=1), rows)
            for terms, rows in self._here(self.ambient.call.route, n_rows, like.device)
            for kv in [[piece.rows() for pieces, _ in terms for piece in pieces]]
        ]
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


class DecoderSite(EditSite):
    """The decoder's input: embeddings, and extra rows before the first token, at positions 0 … n−1. Rows without any are padded on
    the left with masked rows, so every row's own tokens keep the positions they would have alone.

    Where a piece anywhere asks, it tells which tokens are decoded, and where they stand."""

    layer: DecoderInput
    asked = False

    def ask(self, asked: bool) -> None:
        """Tell what is decoded, or no longer."""
        self.asked = asked
        self._unhook()
        if self.needed():
            self._hook()

    def needed(self) -> bool:
        return self.asked or bool(self.pieces)

    def _hook(self) -> None:
        self._stripping = threading.local()  # how many rows the call in progress must take off its output
        self._hooks = [
            self.layer.module.register_forward_pre_hook(Hook(self._before), with_kwargs=True),
            self.layer.module.register_forward_hook(Hook(self._after)),
        ]

    def _lengths(self, n_rows: int, device: torch.device) -> Tensor:
        lengths = torch.zeros(n_rows, dtype=torch.long, device=device)
        for terms, rows in self._here(self.ambient.call.route, n_rows, device):
            lengths[slice(None) if rows is None else rows] = sum(piece.n_rows for pieces, _ in terms for piece in pieces)
        return lengths

    def _before(self, decoder: WhisperDecoder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            raise BadInput("Call the decoder with keyword arguments: a prompt must find its input by name.")
        ids, embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
        given: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
        n_rows, n_tokens, device = given.shape[0], given.shape[1], given.device
        lengths = self._lengths(n_rows, device)
        cache = kwargs.get("past_key_values")
        cached = cache.get_seq_length() if cache is not None else 0
        # Once the prompt is in the cache, its width is the cache's: the row with the longest prompt may have left the batch.
        longest = getattr(cache, _FRONT, int(lengths.max())) if cached else int(lengths.max())
        if cache is not None and not cached:
            setattr(cache, _FRONT, longest)
        self._stripping.rows = 0
        kwargs = self._edited_input(dict(kwargs), cached - longest if cached else 0)
        embeds = kwargs.get("inputs_embeds")
        if not longest:
            return args, kwargs
        pads = longest - lengths  # masked rows at the left, (rows,)
        if cached + n_tokens > decoder.max_target_positions:
            raise BadInput(
                f"{longest} prompt rows and {cached - longest + n_tokens} tokens exceed the decoder's {decoder.max_target_positions} "
                f"positions. Ask for fewer new tokens."
            )
        if not cached:
            if longest + n_tokens > decoder.max_target_positions:
                raise BadInput(f"{longest} prompt rows and {n_tokens} tokens exceed the decoder's {decoder.max_target_positions} positions.")
            embeds = decoder.embed_tokens(ids) if embeds is None else embeds
            front = embeds.new_zeros(n_rows, longest, embeds.shape[2])
            for terms, rows in self._here(self.ambient.call.route, n_rows, device):
                if not any(piece.n_rows for pieces, _ in terms for piece in pieces):
                    continue
                own = self._rows(terms, rows, kwargs.get("encoder_hidden_states")).to(embeds.dtype)
                index = torch.arange(n_rows, device=device) if rows is None else rows
                own = nn.functional.pad(own, (0, 0, longest - own.shape[1], 0)).expand(len(index), -1, -1)
                front = front.index_copy(0, index, own)
            kwargs["input_ids"], kwargs["inputs_embeds"] = None, torch.cat([front, embeds], dim=1)
            self._stripping.rows = longest
            text = self.ambient.call.text
            if self.asked and text is not None:
                self.ambient.update(text=text.after(longest, torch.arange(longest, device=device) >= pads[:, None]))
        mask = kwargs.get("attention_mask")
        total = (cached or longest) + n_tokens
        if mask is not None or bool(pads.any()):
            if mask is None:
                mask = torch.ones(n_rows, total - longest, dtype=torch.long, device=device)
            real = (torch.arange(longest, device=device) >= pads[:, None]).to(mask.dtype)
            kwargs["attention_mask"] = torch.cat([real, mask], dim=1)
        kwargs["position_ids"] = self._positions(kwargs.get("position_ids"), lengths, longest, pads, cached, n_tokens)
        return args, kwargs

    def _rows(self, terms: list[Pieces], rows: Tensor | None, heard: Tensor | None) -> Tensor:
        """(rows or 1, virtual tokens, dim) of what these rows are routed to, one piece's after another's; `heard` has all rows."""
        made = []
        for piece in (piece for pieces, _ in terms for piece in pieces if piece.n_rows):
            if type(piece).rows_for is LayerAdapter.rows_for:
                own = piece.rows()[0]
            elif heard is None:
                raise BadInput(f"{piece.name} makes its virtual tokens of what the encoder heard; call the decoder with encoder_hidden_states.")
            else:
                known = self.ambient.call.frames or Inputs.plain(len(heard), heard.shape[1], heard.device)
                known = known.up_to(heard.shape[1]).take(rows)
                real = torch.ones_like(known.positions, dtype=torch.bool) if known.mask is None else known.mask
                own = piece.rows_for(heard if rows is None else heard[rows], real)
            made.append(own if own.dim() == 3 else own[None])
        most = max(len(own) for own in made)
        return torch.cat([own.expand(most, -1, -1) for own in made], dim=1)

    def _edited_input(self, kwargs: dict[str, Any], first: int) -> dict[str, Any]:
        """The decoder's arguments, with embeddings in place of tokens where pieces edit them; `first` tokens are in the cache."""
        ids, embeds, route = kwargs.get("input_ids"), kwargs.get("inputs_embeds"), self.ambient.call.route
        given: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
        n_rows, n = given.shape[:2]
        if self.asked and route.names is not None:
            positions, mask = kwargs.get("position_ids"), kwargs.get("attention_mask")
            if positions is None:
                positions = first + torch.arange(n, device=given.device)
            own = None if mask is None or mask.dim() != 2 else mask[:, -n:].bool()
            self.ambient.update(text=Inputs(positions.expand(n_rows, n), own, ids))
        if any(edit(piece) is piece for terms, _ in self._here(route, n_rows, given.device) for pieces, _ in terms for piece in pieces):
            embeds = self.layer.module.embed_tokens(ids) if embeds is None else embeds
            kwargs |= {"input_ids": None, "inputs_embeds": self._apply(given, embeds, edit)}
        return kwargs

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

    def _after(self, decoder: WhisperDecoder, args: tuple[Any, ...], output: Any) -> Any:
        extra = self._stripping.rows
        if not extra:
            return output
        if isinstance(output, BaseModelOutputWithPastAndCrossAttentions):
            output["last_hidden_state"] = output.last_hidden_state[:, extra:]
            return output
        return (output[0][:, extra:], *output[1:])
