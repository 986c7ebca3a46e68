"""Activation edits where they could do harm: on a tied embedding, in half precision, beside virtual tokens."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from asrpeft.methods import LayerAdapter
from asrpeft.methods.base import WEIGHTS, zeros
from tests.bases import tiny_recognizer
from tests.methods.cases import batch, pass_through, perturb, recognizer
from tests.methods.planted import planted
from tests.training.tones import options, tones


class Shift(LayerAdapter):
    """y ← y + v (out,): an edit with no weight form."""

    kinds = WEIGHTS
    mergeable = False

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.v = zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return layer.shape[0]

    def forward(self, x, y, layer):
        return y + layer.channels(self.v)


class Gain(Shift):
    """x ← g x, with a float32 g."""

    edits_input = True
    kinds = ("linear",)

    def edit_input(self, x, layer):
        return x * (1 + self.v.mean())

    def forward(self, x, y, layer):
        return y


class Both(LayerAdapter):
    """DePT's shape: rows before the first token, and a change of the embeddings."""

    kinds = ("decoder", "embedding")
    where = "decoder"
    neutral = mergeable = False

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.v = zeros(2, layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return 2 * layer.shape[0]

    def forward(self, x, y, layer):
        return y + self.v[0]

    def rows(self):
        return (self.v,)


def test_an_edit_of_what_an_embedding_gives_leaves_the_tied_head_alone():
    with planted(Shift):
        model = recognizer()
        adapter = model.adapt("planted", name="p", where="embed_tokens")
        plain = pass_through(model, None, *batch())[1]
        assert_close(pass_through(model, "p", *batch())[1], plain)
        perturb(adapter).double()
        assert (pass_through(model, "p", *batch())[1] - plain).abs().max() > 1e-3
        assert not model.base.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("route", ["p", ["p", None, "p", None]])
def test_an_edit_of_the_input_does_not_widen_what_the_layer_reads(dtype, route):
    with planted(Gain):
        model = recognizer().to(dtype)
        perturb(model.adapt("planted", name="p", where="fc2"))
        features, contexts, tokens = batch()
        with torch.no_grad():
            assert model(features.to(dtype), contexts, tokens, route=route).logits.dtype == dtype


def test_a_method_with_pieces_of_both_kinds_reserves_positions_for_its_rows_alone():
    from asrpeft.training import TrainingData, train

    with planted(Both):
        model = tiny_recognizer()
        adapter = model.adapt("planted", name="p", where="decoder,embed_tokens")
        assert len(adapter.pieces) == 2 and adapter.prompt_rows() == 2
        done = train(model, "p", TrainingData(tones(4), model.prompt(lang="en")), options=options(steps=1))
        assert done.steps == 1
