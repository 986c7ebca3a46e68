"""Gradients of frozen weights, on demand: what a plan needs that moves places in them.

dL/dW of a layer = Σ_passes layer.gradient(x, dL/dy)      y: what the layer gives with its adapter, so W is W + ΔW
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from asrpeft.methods.layers import EmbeddingLayer, Layer


class DenseGradients(AbstractContextManager["DenseGradients"]):
    """Within the block, which holds whole steps (forward and backward), `found` gathers the gradient (out, in·k) of every layer, by path.
    It costs the memory of these weights, in float32, and for each layer one more product."""

    def __init__(self, layers: list[Layer]):
        self.layers = layers
        self.found: dict[str, Tensor] = {}
        self._stack = ExitStack()

    def __enter__(self) -> DenseGradients:
        for layer in self.layers:
            self.found[layer.path] = torch.zeros(layer.shape, device=layer.matrix.device)
            # After the hook by which the adapter acts, so that the output is the adapted one.
            self._stack.callback(layer.module.register_forward_hook(self._watch(layer), with_kwargs=True).remove)
            if isinstance(layer, EmbeddingLayer) and layer.head is not None:
                self._stack.callback(layer.head.register_forward_hook(self._watch_head(layer)).remove)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def _watch(self, layer: Layer) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, y: Tensor) -> None:
            x = layer.input(args, kwargs).detach()
            x = x.float() if x.is_floating_point() else x
            if y.requires_grad:
                y.register_hook(lambda g: self._add(layer, layer.gradient(x, g.float())))

        return hook

    def _watch_head(self, layer: Layer) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, logits: Tensor) -> None:
            h = args[0].detach().flatten(0, -2).float()
            if logits.requires_grad:
                logits.register_hook(lambda g: self._add(layer, h.T @ g.flatten(0, -2).float()))

        return hook

    def _add(self, layer: Layer, gradient: Tensor) -> None:
        self.found[layer.path] += gradient
