"""Mix-and-match adapters: short prefixes in attention and parallel adapters beside the feed-forward (https://arxiv.org/abs/2110.04366).

    K = [P_k ; K], V = [P_v ; V]  and  y ← y + s · (W_u f(W_d x + b_d) + b_u)      P_k, P_v (heads, tokens, head_dim)   W_d (width, dim)

The paper's finding: attention needs few numbers (a prefix), the feed-forward uses many (a bottleneck beside it, see `parallel`). By
default the prefixes stand in the decoder's self-attention; `--where self_attn,encoder_attn,feedforward` puts them everywhere.
2·tokens·dim numbers train per attention block, 2·dim·width + width + dim per feed-forward. A fresh prefix takes attention away from
the real keys, so it changes the output a little: a declared exception.
"""

from __future__ import annotations

from dataclasses import dataclass

from asrpeft.methods.activation.houlsby import ACTIVATIONS
from asrpeft.methods.activation.parallel import Parallel
from asrpeft.methods.base import LayerAdapter, one_of, positive, register, within
from asrpeft.methods.tokens.prefix import Prefix


@register("mam")
class MAM(LayerAdapter):
    tier = 2
    kinds = ("attention", "feedforward")
    where = "decoder.*.self_attn,feedforward"
    lr = 5e-3
    neutral = False
    mergeable = False
    tries = ({"tokens": 3, "width": 3}, {"tokens": 2, "width": 4, "activation": "relu", "dropout": 0.5})

    @dataclass(frozen=True)
    class Config:
        tokens: int = 8
        width: int = 32
        scale: float = 4.0
        activation: str = "gelu"
        dropout: float = 0.0  # inside the bottleneck, in training

        def __post_init__(self):
            positive("mam", tokens=self.tokens, width=self.width, scale=self.scale)
            one_of("mam", tuple(ACTIVATIONS), activation=self.activation)
            within("mam", 0, 1, dropout=self.dropout)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        cls, own = self.part_of(config, layer)
        self.part = cls(layer, own, pool)
        self.neutral = cls.neutral  # the bottlenecks are

    @staticmethod
    def part_of(config, layer):
        """The method whose piece stands at a layer, and its settings."""
        if layer.kind == "attention":
            return Prefix, Prefix.Config(tokens=config.tokens)
        return Parallel, Parallel.Config(width=config.width, scale=config.scale, activation=config.activation, dropout=config.dropout)

    @classmethod
    def size(cls, config, layer):
        part, own = cls.part_of(config, layer)
        return part.size(own, layer)

    def rows(self):
        return self.part.rows()

    def forward(self, x, y, layer):
        return self.part(x, y, layer)

    def literal_edit(self, x, y, layer):
        return self.part.literal_edit(x, y, layer)
