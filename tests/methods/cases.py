"""What the tests of methods share: layers of every kind on a bench, and tiny recognizers with every method on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asrpeft.adapters.attention import NAME as ATTENTION
from asrpeft.adapters.places import site_for
from asrpeft.adapters.routing import Ambient, Route
from asrpeft.adapters.sites import DecoderSite, Site
from asrpeft.methods import Inputs, LayerAdapter, Pool, configure, method, names
from asrpeft.methods.layers import Layer, layer_of
from asrpeft.recognizer.encoder import encode
from tests.bases import Template, draw_from, tiny_base, tiny_config, tiny_recognizer

ROWS, TOKENS, FRAMES, DIM = 3, 4, 6, 8  # 8 inputs can be halved three times: methods that work by blocks have second and third ones
SMALL = {"rank": 2, "tokens": 3}  # settings that keep everything tiny, where a method has them


def _tied() -> tuple[nn.Module, nn.Linear]:
    table, head = nn.Embedding(11, DIM), nn.Linear(DIM, 11, bias=False)
    head.weight = table.weight
    return table, head


def _part(path: str) -> nn.Module:
    """A module of a tiny base, with the attention that adapted bases have."""
    part, drawn = _adapted(torch.randint(1 << 30, ()).item(), path)
    torch.set_rng_state(drawn)
    return part.copy()


@functools.lru_cache(maxsize=64)
def _adapted(seed: int, path: str) -> tuple[Template, Tensor]:
    base = tiny_base(seed, width=DIM, source=FRAMES)
    base.set_attn_implementation(ATTENTION)
    return Template(base.model.get_submodule(path)), torch.get_rng_state()


def _hidden() -> Tensor:
    return torch.randn(ROWS, TOKENS, DIM)


def _features() -> Tensor:
    return torch.randn(ROWS, 8, 2 * FRAMES)


def _tokens() -> Tensor:
    """Text among special tokens of every kind."""
    special = _first_special() + 1
    return torch.tensor([[special, special + 2, special + 6, 7], [3, special + 10, special, 9], [special + 1, 5, 6, special + 8]])


@functools.cache
def _first_special() -> int:
    """The end of the transcript; the start follows it."""
    return tiny_config().eos_token_id


def _heard(like: Tensor) -> Tensor:
    """Encoder states for the cross attention of some rows: the same for all of them."""
    heard = torch.randn(1, 5, DIM, generator=torch.Generator().manual_seed(5)).expand(len(like), -1, -1)
    return heard.to(like.dtype) if like.is_floating_point() else heard


def _encoded(encoder: nn.Module, x: Tensor) -> Tensor:
    return encode(encoder, x, torch.full((len(x),), FRAMES)).states


def _decoded(decoder: nn.Module, x: Tensor) -> Tensor:
    weight = decoder.layer_norm.weight
    return decoder(input_ids=x, encoder_hidden_states=_heard(x).to(weight.dtype)).last_hidden_state


# name -> (path, what makes the module, what it reads, how it is called if not with that alone)
PLACES = {
    "self-attention": ("encoder.layers.0.self_attn", "encoder.layers.0.self_attn", _hidden, lambda m, x: m(x)[0]),
    "causal attention": ("decoder.layers.0.self_attn", "decoder.layers.0.self_attn", _hidden, lambda m, x: m(x)[0]),
    "cross-attention": ("decoder.layers.0.encoder_attn", "decoder.layers.0.encoder_attn", _hidden, lambda m, x: m(x, key_value_states=_heard(x))[0]),
    "encoder block": ("encoder.layers.0", "encoder.layers.0", _hidden, lambda m, x: m(x, None)),
    "decoder block": ("decoder.layers.0", "decoder.layers.0", _hidden, lambda m, x: m(x, encoder_hidden_states=_heard(x))),
    "encoder feed-forward": ("encoder.layers.0.feedforward", "encoder.layers.0", _hidden, lambda m, x: m(x, None)),
    "decoder feed-forward": ("decoder.layers.1.feedforward", "decoder.layers.1", _hidden, lambda m, x: m(x, encoder_hidden_states=_heard(x))),
    "frames": ("encoder", "encoder", _features, _encoded),
    "text": ("decoder", "decoder", _tokens, _decoded),
    "encoder stack": ("encoder.layers", "encoder", _features, _encoded),
    "decoder stack": ("decoder.layers", "decoder", _tokens, _decoded),
}
LAYERS = {
    "linear": ("layers.0.q_proj", lambda: nn.Linear(DIM, 5), lambda: torch.randn(ROWS, TOKENS, DIM)),
    "linear without bias": ("layers.0.k_proj", lambda: nn.Linear(DIM, DIM, bias=False), lambda: torch.randn(ROWS, TOKENS, DIM)),
    "second feed-forward": ("layers.0.fc2", lambda: nn.Linear(DIM, 5), lambda: torch.randn(ROWS, TOKENS, DIM)),
    "strided conv1d": ("encoder.conv2", lambda: nn.Conv1d(DIM, 8, 3, stride=2, padding=1), lambda: torch.randn(ROWS, DIM, 9)),
    "grouped conv1d": ("encoder.conv1", lambda: nn.Conv1d(DIM, 8, 3, padding=2, dilation=2, groups=2), lambda: torch.randn(ROWS, DIM, 9)),
    "embedding": ("decoder.embed_tokens", _tied, lambda: torch.randint(0, 11, (ROWS, TOKENS))),
    "norm": ("encoder.layer_norm", lambda: nn.LayerNorm(DIM), lambda: torch.randn(ROWS, TOKENS, DIM)),
} | {kind: (path, functools.partial(_part, module), reads) for kind, (path, module, reads, _) in PLACES.items()}


def small(name: str, **more) -> dict:
    """Tiny settings for a method: the first that it wants tried, or of the usual ones those that it has."""
    return _small(method(name)) | more


@functools.cache
def _small(cls: type[LayerAdapter]) -> dict:
    has = vars(configure(cls, {}))
    return {key: value for key, value in SMALL.items() if key in has} | cls.tries[0]


def pairs() -> list[tuple[str, str, dict]]:
    """Every method with every kind of layer that it acts on, under each of the settings that it wants tried."""
    found = []
    for name in names():
        for tried in method(name).tries:
            config = configure(method(name), small(name, **tried))
            found += [(name, kind, tried) for kind in LAYERS if method(name).fits(_sample(kind), config)]
    return found


@functools.cache
def _sample(kind: str) -> Layer:
    """A layer to look at."""
    return make_layer(kind)


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
    layer = layer_of(path, module, head=head)
    layer.count, layer.first_special = 2, _first_special()  # as in the base that the places are taken from
    return layer


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
    call: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x)

    def run(self, route: str | tuple | None = None, *, rows: list[int] | None = None) -> list[Tensor]:
        """What the layer (and the head tied to it) gives; `route` has a letter a row, `-` for none."""
        names = tuple(None if letter == "-" else letter for letter in route) if isinstance(route, str) else route
        x, h = (self.x, self.h) if rows is None else (self.x[rows], self.h[rows])
        text = Inputs(torch.arange(TOKENS).expand(len(x), TOKENS), None, _tokens() if rows is None else _tokens()[rows])
        with self.site.ambient.set(route=Route(names), text=text, frames=Inputs.plain(len(x), FRAMES, x.device)):
            head = getattr(self.layer, "head", None)
            return [self.call(self.layer.module, x)] + ([] if head is None else [head(h)])

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
    draw_from(seed)
    layer = make_layer(kind, dtype)
    site = site_for(layer, Ambient())
    cls = method(name)
    config = _configured(cls, tuple(small(name, **tried).items()))
    pools = {letter: Pool([layer]) for letter in "pq"}
    pieces = {letter: cls(layer, config, pools[letter]).eval() for letter in "pq"}
    for letter, piece in pieces.items():
        site.add(letter, piece)
    if isinstance(site, DecoderSite):
        site.ask(cls.reads_inputs)
    x = LAYERS[kind][2]()
    call = PLACES[kind][3] if kind in PLACES else Bench.call
    return Bench(layer, site, pieces, pools, x.to(dtype) if x.is_floating_point() else x, torch.randn(ROWS, TOKENS, DIM).to(dtype), call)


@functools.cache
def _configured(cls: type[LayerAdapter], settings: tuple):
    return configure(cls, dict(settings))


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
