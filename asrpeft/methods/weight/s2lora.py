"""S2-LoRA, shared and sparse low-rank adaptation (Liu et al., 2023, https://arxiv.org/abs/2309.11756).

    ΔWₗ = scale · B diag(sₗ) A      A (rank, in·k), B (out, rank) shared by all layers of one shape   sₗ (rank,) private

The shared pair trains once per shape; each layer owns only its coefficients, pushed to zero by an L1 penalty:
Σ_shapes rank·(out + in·k) + Σ_layers rank numbers train. s starts at zero (so the adapted model starts as the base) while
A and B start Gaussian: with both sides at zero no gradient would flow.

The abstract gives the form; the penalty's weight, the start and the pruning rule are this project's choice. L1 with Adam
never reaches an exact zero, so the penalty is applied as its proximal step (soft threshold by lr·sparsity) after every
optimizer step: as Adam moves by lr·m/√v, a coefficient survives while its gradient's mean exceeds about `sparsity` of its
root mean square. What is left of the others at the end, below `prune` of the largest contribution |s|·‖b‖·‖a‖, is dropped.
Zeroed coefficients are zero in the file, and cost nothing when merged. On a toy whose layers use 2 of 8 shared ranks,
sparsity 0.02 left no zero, 0.3 zeroed up to 60 % of an unused layer, and pruning at 0.05 half of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asrpeft.errors import BadInput
from asrpeft.methods.base import LayerAdapter, Plan, WeightConfig, positive, register, zeros


class ProximalL1(Plan):
    """Soft-threshold every coefficient by lr·sparsity: the exact minimizer of the L1 term around the step just taken.
    At the end, drop the coefficients that contribute least."""

    def __init__(self, sparsity: float, prune: float = 0.0):
        self.sparsity, self.prune = sparsity, prune

    @torch.no_grad()
    def after_step(self, adapter, *, step, progress, lr):
        for piece in adapter.pieces_of("s2lora"):
            piece.s.copy_(torch.sign(piece.s) * (piece.s.abs() - lr * self.sparsity).clamp(min=0))

    @torch.no_grad()
    def finish(self, adapter):
        pieces = adapter.pieces_of("s2lora")
        shares = [piece.contributions() for piece in pieces]
        least = self.prune * max(float(share.max()) for share in shares)
        for piece, share in zip(pieces, shares):
            piece.s[share < least] = 0.0


@register("s2lora")
class S2LoRA(LayerAdapter):
    tier = 1
    # A layer's few coefficients start at zero and are shrunk at every step: LoRA's 1e-3 hardly moves them. On the demo's
    # Swahili, 274 steps, dev WER by rate: 1e-3 98 %, 4e-3 90 %, 1.5e-2 81 % (and 5e-2 67 %, on that small base).
    lr = 1.5e-2
    tries = ({"rank": 2}, {"rank": 3, "share": "stack"})

    @dataclass(frozen=True)
    class Config(WeightConfig):
        rank: int = 16
        alpha: float = 16.0  # ΔW is scaled by alpha / rank
        sparsity: float = 0.2  # weight of Σ|s|; 0 trains dense coefficients
        prune: float = 0.05  # coefficients below this part of the largest contribution are dropped after training
        share: str = "shape"  # one pair per shape, or "stack": one per shape in the encoder and one in the decoder

        def __post_init__(self):
            positive("s2lora", rank=self.rank, alpha=self.alpha)
            if not 0 <= self.sparsity < float("inf"):
                raise BadInput(f"s2lora: sparsity must not be negative, got {self.sparsity}.")
            if not 0 <= self.prune < 1:
                raise BadInput(f"s2lora: prune={self.prune} is not in [0, 1).")
            if self.share not in ("shape", "stack"):
                raise BadInput(f"s2lora: share={self.share!r} is neither 'shape' nor 'stack'.")

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        (out, inp), r = layer.shape, config.rank
        key = self.group(config, layer)
        pool.share(f"a_{key}", lambda: torch.randn(r, inp) / r**0.5)
        pool.share(f"b_{key}", lambda: torch.randn(out, r) / r**0.5)
        self.s = zeros(r)
        self.scale, self.key = config.alpha / r, key

    @staticmethod
    def group(config, layer) -> str:
        """The name of the pair that `layer` shares: kind of layer and shape, and its stack if so configured."""
        stack = layer.path.split(".", 1)[0] + "_" if config.share == "stack" else ""
        return f"{stack}{layer.kind}_{layer.shape[0]}x{layer.shape[1]}"

    @classmethod
    def size(cls, config, layer):
        return config.rank

    @classmethod
    def shared_size(cls, config, layers):
        return sum(config.rank * sum(shape) for shape in {cls.group(config, layer): layer.shape for layer in layers}.values())

    @classmethod
    def plan(cls, config):
        return ProximalL1(config.sparsity, config.prune) if config.sparsity or config.prune else None

    @classmethod
    def report(cls, pieces):
        kept = {path: int(piece.s.count_nonzero()) for path, piece in pieces.items()}
        total = sum(piece.s.numel() for piece in pieces.values())
        return {"coefficients": total, "sparsity": 1 - sum(kept.values()) / max(1, total), "rank_by_layer": kept}

    def contributions(self) -> torch.Tensor:
        """(rank,) how much each coefficient adds to ΔW: the Frobenius norm of its rank-one part."""
        pool = self.pool
        return self.scale * self.s.abs() * pool[f"b_{self.key}"].norm(dim=0) * pool[f"a_{self.key}"].norm(dim=1)

    def delta(self, w):
        pool = self.pool
        return self.scale * ((pool[f"b_{self.key}"] * self.s) @ pool[f"a_{self.key}"])

    def forward(self, x, y, layer):
        if layer.kind == "conv1d" and layer.grouped:
            return super().forward(x, y, layer)
        pool = self.pool
        thin = layer.run(x, pool[f"a_{self.key}"])
        up = (self.scale * pool[f"b_{self.key}"] * self.s).to(thin.dtype)
        if layer.kind == "conv1d":
            return y + torch.nn.functional.conv1d(thin, up[:, :, None])
        return y + torch.nn.functional.linear(thin, up)

    def head(self, h, logits, layer):
        pool = self.pool
        thin = torch.nn.functional.linear(h, (self.scale * pool[f"b_{self.key}"] * self.s).T.to(h.dtype))
        return logits + torch.nn.functional.linear(thin, pool[f"a_{self.key}"].T.to(h.dtype))
