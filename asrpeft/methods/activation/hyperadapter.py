"""HyperFormer, bottlenecks that one network makes for all places (https://arxiv.org/abs/2106.04489).

    W_d, b_d, W_u, b_u = G e,   e = V f(U [t; l; p])      t, l, p (embed,)   G (2·dim·width + width + dim, embed)
    h ← h + W_u f(W_d h + b_d) + b_u                      W_d (width, dim)   W_u (dim, width)

The generator G, the projection (U (hidden, 3·embed), V (embed, hidden)) and the task's embedding t are the adapter's; a place brings only
its layer's embedding l and its own p (after attention, after cross-attention, after feed-forward), each of which other places use
too. That is the paper's HyperFormer++ with one task: the adapter is the task. Encoder and decoder have networks of their own. The rows of
G that make W_u and b_u start at zero, so the adapted model starts as the base.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from asrpeft.methods.activation.houlsby import by_vector
from asrpeft.methods.base import LayerAdapter, positive, register


def _position(layer) -> str:
    """Which of a layer's places it is: `self_attn_out_proj`, `fc2`."""
    return "_".join(part for part in layer.path.split(".")[1:] if part != "layers" and not part.isdigit())


@register("hyperadapter")
class HyperAdapter(LayerAdapter):
    tier = 2
    kinds = ("linear",)
    where = "out_proj,fc2"
    lr = 2e-3
    mergeable = False
    tries = ({"width": 3, "embed": 4, "hidden": 5},)

    @dataclass(frozen=True)
    class Config:
        width: int = 16  # of the bottleneck
        embed: int = 16  # dimensions of an embedding
        hidden: int = 64  # of the network that joins them

        def __post_init__(self):
            positive("hyperadapter", width=self.width, embed=self.embed, hidden=self.hidden)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        dim, e, width = layer.shape[0], config.embed, config.width
        self.split = (width * dim, width, width * dim, dim)
        self.own = (f"{layer.side}_{dim}", f"{layer.side}_layer_{layer.number}", f"{layer.side}_{_position(layer)}")
        pool.share("task", lambda: torch.randn(e))
        for key in self.own[1:]:
            pool.share(key, lambda: torch.randn(e))
        pool.share(f"{self.own[0]}_u", lambda: torch.randn(config.hidden, 3 * e) * (3 * e) ** -0.5)
        pool.share(f"{self.own[0]}_v", lambda: torch.randn(e, config.hidden) * config.hidden**-0.5)

        def generator():
            g = torch.randn(sum(self.split), e) * (e * dim) ** -0.5
            g[self.split[0] :] = 0.0
            return g

        pool.share(f"{self.own[0]}_g", generator)

    @classmethod
    def size(cls, config, layer):
        return 0

    @classmethod
    def shared_size(cls, config, layers):
        e, nets = config.embed, {(layer.side, layer.shape[0]) for layer in layers}
        embeddings = {(layer.side, layer.number) for layer in layers} | {(layer.side, _position(layer)) for layer in layers}
        return e * (1 + len(embeddings)) + sum(4 * e * config.hidden + e * (2 * dim * config.width + config.width + dim) for _, dim in nets)

    def made(self):
        """W_d (width, dim), b_d (width,), W_u (dim, width), b_u (dim,)."""
        net, place, pool = self.own[0], self.own[1:], self.pool
        e = pool[f"{net}_v"] @ F.gelu(pool[f"{net}_u"] @ torch.cat([pool["task"], *(pool[key] for key in place)]))
        down, b_down, up, b_up = (pool[f"{net}_g"] @ e).split(self.split)
        return down.view(self.config.width, -1), b_down, up.view(-1, self.config.width), b_up

    def forward(self, x, y, layer):
        down, b_down, up, b_up = (part.to(y.dtype) for part in self.made())
        return y + F.linear(F.gelu(F.linear(y, down, b_down)), up, b_up)

    def literal_edit(self, x, y, layer):
        net, (_, number, place) = self.own[0], self.own
        joined = torch.cat([self.pool["task"], self.pool[number], self.pool[place]])
        e = self.pool[f"{net}_v"] @ F.gelu(self.pool[f"{net}_u"] @ joined)
        flat, dim, width = self.pool[f"{net}_g"] @ e, y.shape[-1], self.config.width
        n = width * dim
        down, up = flat[:n].view(width, dim), flat[n + width : 2 * n + width].view(dim, width)
        return by_vector(y, lambda h: h + up @ F.gelu(down @ h + flat[n : n + width]) + flat[2 * n + width :])
