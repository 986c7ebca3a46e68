"""What the tests of methods share: layers of every kind on a bench, and tiny recognizers with every method on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asrpeft.adapters.routing import Ambient, Route
from asrpeft.adapters.sites import Site, site_for
from asrpeft.methods import LayerAdapter, Pool, configure, method, names
from asrpeft.methods.layers import Layer, layer_of
from tests.bases import tiny_recognizer

ROWS, TOKENS, DIM = 3, 4, 8  # 8 inputs can be halved three times: methods that work by blocks have second and third ones
SMALL = {"rank": 2, "tokens": 3}  # settings that keep everything tiny, where a method has them


def _tied() -> tuple[nn.Module, nn.Linear]:
    table, head = nn.Embedding(11, DIM), nn.Linear(DIM, 11, bias=False)
    head.weight = table.weight
    return table, head


# name -> (path, what makes the module, what it reads)
LAYERS = {
    "linear": ("layers.0.q_proj", lambda: nn.Linear(DIM, 5), lambda: torch.randn(ROWS, TOKENS, DIM)),
    "linear without bias": ("layers.0.k_proj", lambda: nn.Linear(DIM, DIM, bias=False), lambda: torch.randn(ROWS, TOKENS, DIM)),
    "second feed-forward": ("layers.0.fc2", lambda: nn.Linear(DIM, 5), lambda: torch.randn(ROWS, TOKENS, DIM)),
    "strided conv1d": ("encoder.conv2", lambda: nn.Conv1d(DIM, 8, 3, stride=2, padding=1), lambda: torch.randn(ROWS, DIM, 9)),
    "grouped conv1d": ("encoder.conv1", lambda: nn.Conv1d(DIM, 8, 3, padding=2, dilation=2, groups=2), lambda: torch.randn(ROWS, DIM, 9)),
    "embedding": ("decoder.embed_tokens", _tied, lambda: torch.randint(0, 11, (ROWS, TOKENS))),
    "norm": ("encoder.layer_norm", lambda: nn.LayerNorm(DIM), lambda: torch.randn(ROWS, TOKENS, DIM)),
}


def small(name: str, **more) -> dict:
    """Tiny settings for a method: the first that it wants tried, or of the usual ones those that it has."""
    cls = method(name)
    has = vars(configure(cls, {}))
    return {key: value for key, value in SMALL.items() if key in has} | cls.tries[0] | more


def pairs() -> list[tuple[str, str, dict]]:
    """Every method with every kind of layer that it acts on, under each of the settings that it wants tried."""
    found = []
    for name in names():
        for tried in method(name).tries:
            config = configure(method(name), small(name, **tried))
            found += [(name, kind, tried) for kind in LAYERS if method(name).fits(make_layer(kind), config)]
    return found


def shown(value) -> str:
    """An id of a test case."""
    return ",".join(f"{k}={v}" for k, v in value.items()) or "default" if isinstance(value, dict) else str(value).replace(" ", "_")


def make_layer(kind: str, dtype: torch.dtype = torch.float32) -> Layer:
    path, make, _ = LAYERS[kind]
    made = make()
    module, head = made if isinstance(made, tuple) else (made, None)
    if isinstance(module, nn.LayerNorm):
        nn.init.normal_(module.weight, 1.0, 0.3)
        nn.init.normal_(module.bias)
    module.to(dtype).requires_grad_(False)
    return layer_of(path, module, head=head)


def perturb(module: nn.Module, seed: int = 1, by: float = 0.3) -> nn.Module:
    """Move every trained parameter, as training would."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=noise).to(parameter) * by)
    return module


@dataclass
class Bench:
    """One frozen layer with adapters p and q of one method on it."""

    layer: Layer
    site: Site
    pieces: dict[str, LayerAdapter]
    pools: dict[str, Pool]
    x: Tensor
    h: Tensor  # what the tied head reads

    def run(self, route: str | tuple | None = None, *, rows: list[int] | None = None) -> list[Tensor]:
        """What the layer (and the head tied to it) gives; `route` has a letter a row, `-` for none."""
        names = tuple(None if letter == "-" else letter for letter in route) if isinstance(route, str) else route
        x, h = (self.x, self.h) if rows is None else (self.x[rows], self.h[rows])
        with self.site.ambient.set(route=Route(names)):
            head = getattr(self.layer, "head", None)
            return [self.layer.module(x)] + ([] if head is None else [head(h)])

    def trained(self) -> list[nn.Parameter]:
        return [p for name in self.pieces for part in (self.pieces[name], self.pools[name]) for p in part.parameters() if p.requires_grad]

    def train(self) -> Bench:
        for part in (*self.pieces.values(), *self.pools.values()):
            part.train()
        return self

    def perturb(self) -> Bench:
        for seed, name in enumerate(self.pieces):
            perturb(self.pieces[name], seed + 1)
            perturb(self.pools[name], seed + 11)
        return self


def bench(name: str, kind: str, tried: dict, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Bench:
    """In evaluation mode, as attached adapters are outside training."""
    torch.manual_seed(seed)
    layer = make_layer(kind, dtype)
    site = site_for(layer, Ambient())
    cls = method(name)
    config = configure(cls, small(name, **tried))
    pools = {letter: Pool([layer]) for letter in "pq"}
    pieces = {letter: cls(layer, config, pools[letter]).eval() for letter in "pq"}
    for letter, piece in pieces.items():
        site.add(letter, piece)
    x = LAYERS[kind][2]()
    return Bench(layer, site, pieces, pools, x.to(dtype) if x.is_floating_point() else x, torch.randn(ROWS, TOKENS, DIM).to(dtype))


# -- on a whole recognizer ---------------------------------------------------------------------------------------------
def recognizer(seed: int = 0):
    """A tiny recognizer of 40 encoder frames, as cheap as one can be, in double precision: random layers amplify rounding, and
    what is compared here is the arithmetic."""
    return tiny_recognizer(seed, source=40).double()


def batch(rows: int = 4, *, frames: tuple[int, ...] = (40, 25, 31, 12), tokens: int = 5, seed: int = 3):
    """(features (rows, mels, 2·T), contexts (rows,), tokens (rows, n)); beyond a row's context there is noise, which nothing may read."""
    noise = torch.Generator().manual_seed(seed)
    contexts = torch.tensor(frames[:rows])
    features = torch.randn(rows, 8, 2 * int(contexts.max()), generator=noise, dtype=torch.float64)
    return features, contexts, torch.randint(0, 60, (rows, tokens), generator=noise)


def places(name: str) -> list[str | None]:
    """The `where` to try a method at: its default, and everywhere it can act."""
    kinds = method(name).kinds
    everywhere = {"attention": "self_attn,encoder_attn"} if kinds == ("attention",) else {}
    return [None, everywhere.get("attention", "all")]


def placed() -> list[tuple[str, str | None]]:
    return [(name, where) for name in names() for where in places(name)]


def pass_through(model, route, features, frames, tokens) -> tuple[Tensor, Tensor]:
    """(encoder states inside the context, logits) under a route."""
    out = model(features, frames, tokens, route=route)
    states = out.encoded.states
    return states if out.encoded.mask is None else states * out.encoded.mask[..., None], out.logits
