"""Prefix and prompt against a direct reference: keys, values and embeddings concatenated by hand, attention written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from asrpeft.errors import BadInput
from tests.methods.cases import perturb, recognizer

ROUTE = ["a", None, "b", "a"]


def attend(block, x, source, *, causal: bool, mask=None, prefix=None):
    """One attention block for one row, written out. x (n, dim), source (m, dim), mask (m,), prefix keys and values (heads, p, head_dim)."""
    heads, dim = block.num_heads, block.head_dim
    q, k, v = (layer(y).view(len(y), heads, dim).transpose(0, 1) for layer, y in ((block.q_proj, x), (block.k_proj, source), (block.v_proj, source)))
    scores = q @ k.transpose(1, 2) * dim**-0.5
    if causal:
        scores = scores.masked_fill(torch.ones(len(x), len(source)).triu(1).bool(), -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    if prefix is not None:
        scores, v = torch.cat([q @ prefix[0].transpose(1, 2) * dim**-0.5, scores], dim=2), torch.cat([prefix[1], v], dim=1)
    return block.out_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1))


def decode_by_hand(model, states, mask, embeds, *, prefixes=None):
    """Logits (n, vocabulary) of one row from its input embeddings (n, dim): Whisper's decoder, written out."""
    decoder, prefixes = model.base.model.decoder, prefixes or {}
    x = embeds + decoder.embed_positions.weight[: len(embeds)]
    for i, layer in enumerate(decoder.layers):
        h = layer.self_attn_layer_norm(x)
        x = x + attend(layer.self_attn, h, h, causal=True, prefix=prefixes.get(f"decoder.layers.{i}.self_attn"))
        h = layer.encoder_attn_layer_norm(x)
        x = x + attend(layer.encoder_attn, h, states, causal=False, mask=mask, prefix=prefixes.get(f"decoder.layers.{i}.encoder_attn"))
        x = x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))
    return decoder.layer_norm(x) @ decoder.embed_tokens.weight.T


def with_adapters(method: str, **settings):
    model = recognizer()
    for seed, (name, tokens) in enumerate({"a": 3, "b": 5}.items()):
        torch.manual_seed(seed)
        perturb(model.adapt(method, name=name, tokens=tokens, **settings), seed)
    return model.double()


def inputs(model, contexts=(40, 22, 31, 40)):
    torch.manual_seed(9)
    frames = torch.tensor(contexts)
    features = torch.randn(4, 8, 80, dtype=torch.float64)
    return model.encode(features, frames), torch.randint(0, 60, (4, 7))


def by_hand(model, method, encoded, tokens):
    rows = []
    for i, name in enumerate(ROUTE):
        embeds, prefixes, skip = model.base.model.decoder.embed_tokens.weight[tokens[i]], None, 0
        pieces = {} if name is None else model.adapters[name].by_path()
        if method == "prompt" and pieces:
            rows_in_front = pieces["decoder"].rows()[0]
            embeds, skip = torch.cat([rows_in_front, embeds]), len(rows_in_front)
        if method == "prefix":
            prefixes = {path: piece.rows() for path, piece in pieces.items()}
        mask = None if encoded.mask is None else encoded.mask[i]
        rows.append(decode_by_hand(model, encoded.states[i], mask, embeds, prefixes=prefixes)[skip:])
    return torch.stack(rows)


def chunks(model, encoded, tokens, sizes):
    """Logits computed in pieces of these sizes, with a key-value cache."""
    cache, made, at = EncoderDecoderCache(DynamicCache(), DynamicCache()), [], 0
    for size in sizes:
        made.append(model.decode(encoded, tokens[:, at : at + size], cache=cache)[0])
        at += size
    return torch.cat(made, dim=1), cache


KINDS = {
    "prompt": ("prompt", {}),
    "random prompt": ("prompt", {"start": "random"}),
    "prefix": ("prefix", {}),
    "prefix through a perceptron": ("prefix", {"mlp": 6}),
    "prefix in self and cross attention": ("prefix", {"where": "decoder.*.self_attn,encoder_attn"}),
}


@pytest.mark.parametrize("contexts", [(40,) * 4, (40, 22, 31, 40)], ids=["one context", "mixed contexts"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_equals_the_decoder_written_out_with_rows_concatenated_by_hand(kind, contexts):
    method, settings = KINDS[kind]
    model = with_adapters(method, **settings)
    encoded, tokens = inputs(model, contexts)
    want = by_hand(model, method, encoded, tokens)
    with model.route(ROUTE):
        assert_close(model.decode(encoded, tokens)[0], want, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("sizes", [[1] * 7, [4, 1, 1, 1], [2, 3, 2], [7]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_with_a_cache_and_rows_of_mixed_lengths_it_is_the_same(kind, sizes):
    method, settings = KINDS[kind]
    model = with_adapters(method, **settings)
    encoded, tokens = inputs(model)
    want = by_hand(model, method, encoded, tokens)
    with model.route(ROUTE):
        got, cache = chunks(model, encoded, tokens, sizes)
    assert_close(got, want, atol=1e-9, rtol=1e-7)
    held = cache.self_attention_cache.get_seq_length()
    assert held == tokens.shape[1] + (5 if method == "prompt" else 0), "a prefix is in the cache, or a prompt twice"


@torch.no_grad()
def test_a_prefix_in_the_encoder_equals_its_attention_written_out():
    model = with_adapters("prefix", where="encoder.*.self_attn")
    torch.manual_seed(9)
    features, frames = torch.randn(4, 8, 80, dtype=torch.float64), torch.tensor([40, 22, 31, 40])
    with model.route(ROUTE):
        got = model.encode(features, frames)
    encoder = model.base.model.encoder
    for i, name in enumerate(ROUTE):
        n = int(frames[i])
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features[i : i + 1, :, : 2 * n]))))[0].T + encoder.embed_positions.weight[:n]
        for j, layer in enumerate(encoder.layers):
            h = layer.self_attn_layer_norm(x)
            prefix = None if name is None else model.adapters[name].by_path()[f"encoder.layers.{j}.self_attn"].rows()
            x = x + attend(layer.self_attn, h, h, causal=False, prefix=prefix)
            x = x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))
        assert_close(got.states[i, :n], encoder.layer_norm(x), atol=1e-9, rtol=1e-7)


def test_the_perceptron_is_dropped_when_a_prefix_is_saved(tmp_path):
    model = with_adapters("prefix", mlp=6)
    adapter = model.adapters["a"].float()
    adapter.save(tmp_path / "a")
    back = model.adapters.load(tmp_path / "a", name="again")
    assert back.config.mlp == 0 and back.trained_parameters() == back.formula_size() == 2 * 2 * 3 * 16 < adapter.trained_parameters()
    for path, piece in back.by_path().items():
        assert all(map(torch.equal, piece.rows(), adapter.by_path()[path].rows()))


@torch.no_grad()
def test_prompt_rows_count_against_the_decoders_positions():
    model = with_adapters("prompt")
    encoded, _ = inputs(model)
    fits = torch.zeros(4, 64 - 5, dtype=torch.long)
    with model.route(ROUTE):
        assert model.decode(encoded, fits)[0].shape[1] == 59
        with pytest.raises(BadInput, match="64 positions"):
            model.decode(encoded, torch.zeros(4, 60, dtype=torch.long))


def test_gradients_are_finite_where_short_prompts_are_padded_with_masked_rows():
    model = with_adapters("prompt")
    encoded, tokens = inputs(model)
    with model.route(ROUTE):
        logits = model.decode(encoded, tokens)[0]
    logits.square().mean().backward()
    grads = [p.grad for p in model.adapters.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.abs().sum() > 0) for g in grads)
