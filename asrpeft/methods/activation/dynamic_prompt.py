"""Dynamic prompts: trained queries gather from an utterance what its frames then read (DVPT, https://arxiv.org/abs/2307.09787).

    z = D h,   p = softmax(Q zᵀ / √width) z,   h ← h + U softmax(z pᵀ / √width) p      D (width, dim)   Q (tokens, width)   U (dim, width)

h (frames, dim) is what a layer of the encoder gives. The prompts p (tokens, width) are the utterance's own: each of the queries Q has looked
over all its real frames. All layers share D, Q and U, (2·dim + tokens)·width numbers; U starts at zero, so the adapted model starts as the
base. How the paper adds its prompts back to features of another number could not be checked: here frames attend to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from asrpeft.methods.base import LayerAdapter, positive, register


@register("dynamic_prompt")
class DynamicPrompt(LayerAdapter):
    tier = 3
    kinds = ("block",)
    where = "encoder.layers.*"
    lr = 3e-3
    mergeable = False
    reads_inputs = True
    tries = ({"tokens": 2, "width": 3},)

    @dataclass(frozen=True)
    class Config:
        tokens: int = 16
        width: int = 32

        def __post_init__(self):
            positive("dynamic_prompt", tokens=self.tokens, width=self.width)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        dim, width = layer.shape[0], config.width
        pool.share("down", lambda: torch.randn(width, dim) * dim**-0.5)
        pool.share("queries", lambda: torch.randn(config.tokens, width))
        pool.share("up", lambda: torch.zeros(dim, width))

    @classmethod
    def fits(cls, layer, config):
        """In the decoder a token must not see those that follow it."""
        return super().fits(layer, config) and layer.side == "encoder"

    @classmethod
    def size(cls, config, layer):
        return 0

    @classmethod
    def shared_size(cls, config, layers):
        return (2 * layers[0].shape[0] + config.tokens) * config.width

    def forward(self, x, y, layer):
        z, mask = F.linear(y, self.pool["down"].to(y.dtype)), self.inputs.mask
        queries = self.pool["queries"].to(z.dtype).expand(len(z), -1, -1)
        prompts = F.scaled_dot_product_attention(queries, z, z, None if mask is None else mask[:, None])
        return y + F.linear(F.scaled_dot_product_attention(z, prompts, prompts), self.pool["up"].to(z.dtype)).to(y.dtype)

    def literal_edit(self, x, y, layer):
        out, root = y.clone(), self.config.width**0.5
        for row, length in enumerate(self.inputs.lengths.tolist()):
            z = y[row] @ self.pool["down"].T
            real = z[:length]
            prompts = torch.stack([(real @ q / root).softmax(0) @ real for q in self.pool["queries"]])
            out[row] = y[row] + torch.stack([(prompts @ frame / root).softmax(0) @ prompts for frame in z]) @ self.pool["up"].T
        return out
