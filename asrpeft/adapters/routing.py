"""Which adapter each row of a batch uses, and the state that a forward pass carries besides its tensors.

The route is entered by `with` and read by the hooks on the frozen layers. It lives in a context variable, so threads do not
disturb each other; checkpointed layers capture it in the forward pass, because they are computed again in the backward
pass, perhaps after the `with` block has ended or on another thread.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from asrpeft.errors import BadRoute
from asrpeft.methods.conditioned import AtHand
from asrpeft.methods.inputs import Inputs

P = ParamSpec("P")
T = TypeVar("T")
Rows = Tensor | None  # indices of rows, or None for all of them
Term = tuple[str, float]  # an adapter in a sum, and its weight


def summed(text: str) -> tuple[Term, ...]:
    """`sw+0.5*speaker-12` → (("sw", 1.0), ("speaker-12", 0.5)); ` - ` between spaces takes away (`a - 0.5*b`), since names may hold hyphens.

    Raises: BadRoute for what is no sum of names, with what is wrong.
    """
    signs, parts = [1.0], re.split(r"\+|\s-\s", text)
    signs += [-1.0 if mark.strip() == "-" else 1.0 for mark in re.findall(r"\+|\s-\s", text)]
    terms = [_term(text, part, sign) for part, sign in zip(parts, signs)]
    doubled = [name for name, n in Counter(name for name, _ in terms).items() if n > 1]
    if doubled:
        raise BadRoute(f"{text!r} is no sum of adapters: {doubled[0]!r} is named twice. Add its weights up.")
    return tuple(terms)


def is_sum(text: str) -> bool:
    """Whether a name that nothing is called by is meant as a sum of names."""
    return "+" in text or "*" in text or " - " in text


def _term(text: str, part: str, sign: float) -> Term:
    *weights, name = (piece.strip() for piece in part.split("*"))
    how = "write it as sw+0.5*speaker-12, each name once"
    if not name or len(weights) > 1 or "" in weights:
        raise BadRoute(
            f"{text!r} is no sum of adapters: {part.strip() or 'nothing'!r} is no adapter with a weight; {how}. "
            f"(An adapter whose own name holds + or * can be part of no sum.)"
        )
    try:
        weight = float(weights[0]) if weights else 1.0
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise BadRoute(f"{text!r} is no sum of adapters: the weight {weights[0]!r} is no number; {how}.")
    return name, sign * weight


class Conditioned(str):
    """An adapter's name in a route, with what is known of the row that uses it: `Conditioned("film", speaker="anna")`.

    It is the name (and equal to it) wherever only that matters. A fact that the adapter's conditions do not name is passed over,
    one that is not given is not known.
    """

    facts: Mapping[str, Any]

    def __new__(cls, name: str, facts: Mapping[str, Any] | None = None, /, **more: Any) -> Conditioned:
        made = super().__new__(cls, name)
        made.facts = {**facts_of(name), **(facts or {}), **more}
        return made

    def __reduce__(self) -> tuple[type[Conditioned], tuple[str, dict[str, Any]]]:
        return Conditioned, (str(self), dict(self.facts))


def facts_of(name: str | None) -> Mapping[str, Any]:
    """What a row's name in a route tells of the row."""
    return name.facts if isinstance(name, Conditioned) else {}


@dataclass(frozen=True)
class Route:
    """`names`: one adapter name (or None, the base) for each row; or a single one for however many rows there are."""

    names: tuple[str | None, ...] | str | None
    sums: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)  # names that stand for several adapters
    _groups: dict[torch.device, list[tuple[str, Rows]]] = field(default_factory=dict, repr=False, compare=False)
    _facts: dict[int | None, AtHand] = field(default_factory=dict, repr=False, compare=False)

    def groups(self, n_rows: int, device: torch.device) -> list[tuple[str, Rows]]:
        """The adapters of a batch of `n_rows` with the rows of each; rows without an adapter are left out.

        Raises: BadRoute when the route was made for another number of rows.
        """
        if self.names is None:
            return []
        if isinstance(self.names, str):
            return [(self.names, None)]
        if len(self.names) != n_rows:
            raise BadRoute(
                f"The route names {len(self.names)} rows but the batch has {n_rows}. Give one name a row, or one "
                f"name for all rows (beams and `generate` need that)."
            )
        if device not in self._groups:
            distinct = dict.fromkeys(name for name in self.names if name is not None)
            if len(distinct) == 1 and None not in self.names:
                found: list[tuple[str, Rows]] = [(next(iter(distinct)), None)]
            else:
                found = [(name, torch.tensor([i for i, n in enumerate(self.names) if n == name], device=device)) for name in distinct]
            self._groups[device] = found
        return self._groups[device]

    @functools.cached_property
    def runs(self) -> list[int]:
        """How many rows each adapter has, where those of each lie side by side and none has none; [] where they do not. In the order of `groups`."""
        if not isinstance(self.names, tuple) or None in self.names:
            return []
        found = [(name, len(list(same))) for name, same in itertools.groupby(self.names)]
        return [n for _, n in found] if len({name for name, _ in found}) == len(found) else []

    def take(self, rows: Sequence[int]) -> Route:
        """The route of a batch made of these rows of this one (rows may repeat, as beams do)."""
        return self if self.names is None or isinstance(self.names, str) else Route(tuple(self.names[i] for i in rows), self.sums)

    def at_hand(self, rows: Rows) -> AtHand:
        """What is known of these rows; one for all where all have one name."""
        key = None if rows is None else id(rows)  # of a group of this route, which it keeps
        found = self._facts.get(key)
        if found is None:
            if isinstance(self.names, tuple):
                places = range(len(self.names)) if rows is None else rows.tolist()
                found = AtHand(tuple(facts_of(self.names[i]) for i in places))
            else:
                found = AtHand((facts_of(self.names),))
            self._facts[key] = found
        return found

    def terms(self, name: str) -> tuple[Term, ...]:
        """The adapters that a row's name stands for, with their weights: itself, unless it is a sum."""
        return self.sums.get(name, ((name, 1.0),))

    @property
    def distinct(self) -> list[str]:
        return [name for name in self.wanted if name is not None]

    @property
    def wanted(self) -> list[str | None]:
        """What the rows use, each once; None among them where a row uses the base alone."""
        names = (self.names,) if self.names is None or isinstance(self.names, str) else self.names
        return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Call:
    """What one forward pass carries besides its tensors."""

    route: Route = Route(None)
    cross_mask: Tensor | None = None  # (rows, 1, 1, encoder frames), true where a frame may be attended
    frames: Inputs | None = None  # of the encoder's pass
    text: Inputs | None = None  # of the decoder's, where a piece asks
    recomputing: bool = False  # a checkpointed layer is computed again in the backward pass


class _Seen(threading.local):
    """The call that this thread saw last, where a compiler can see it too: it traces no context variable."""

    def __init__(self) -> None:  # once in every thread
        self.call = Call()


class Ambient:
    """The `Call` in force in this thread of control. A copy of it starts with no route.

    A compiled layer reads the copy that its thread has, which is renewed whenever the call is set, or read by code that is not
    compiled (`Recognizer.encode` and `decode` read it first). `torch.compile` of a routed layer so gives one graph, without a
    break, and another one for each route that it meets.
    """

    def __init__(self) -> None:
        self._call: ContextVar[Call] = ContextVar("asrpeft_call", default=Call())  # noqa: B039 - a `Call` is frozen
        self._seen = _Seen()

    def __reduce__(self) -> tuple[type[Ambient], tuple[()]]:
        return Ambient, ()

    @property
    def call(self) -> Call:
        if torch.compiler.is_compiling():
            return self._seen.call
        call = self._seen.call = self._call.get()
        return call

    def _enter(self, call: Call) -> Token[Call]:
        self._seen.call = call
        return self._call.set(call)

    def _leave(self, token: Token[Call]) -> None:
        self._call.reset(token)
        self._seen.call = self._call.get()

    def update(self, **changes: Any) -> None:
        """Change parts of the call until the `with` block that it is made in ends."""
        self._enter(replace(self.call, **changes))

    @contextmanager
    def set(self, **changes: Any) -> Iterator[None]:
        """Change parts of the call within a `with` block."""
        token = self._enter(replace(self.call, **changes))
        try:
            yield
        finally:
            self._leave(token)

    def bound(self, function: Callable[P, T]) -> Callable[P, T]:
        """`function`, to be run under the call that is in force now, whenever and wherever it runs; when again, as a recomputation."""
        calls = itertools.chain([self.call], itertools.repeat(replace(self.call, recomputing=True)))

        @functools.wraps(function, assigned=(), updated=())
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            token = self._enter(next(calls))
            try:
                return function(*args, **kwargs)
            finally:
                self._leave(token)

        return run

    def capture_in_checkpoints(self, base: nn.Module) -> None:
        """Let checkpointed layers of `base` recompute under the call of their forward pass.

        Works whichever way checkpointing was switched on. It is always the non-reentrant kind, which also reaches
        parameters when no input of the layer needs a gradient (a frozen stem).
        """
        for module in base.modules():
            function = module.__dict__.get("_gradient_checkpointing_func")
            if function is not None and getattr(function, "ambient", None) is not self:
                module.__dict__["_gradient_checkpointing_func"] = Checkpoint(self)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Calls a layer so that its activations are computed again in the backward pass, under the call of its forward pass."""

    ambient: Ambient

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(self.ambient.bound(function), *args, use_reentrant=False)
