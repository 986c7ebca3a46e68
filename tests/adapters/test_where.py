"""Which layers a `where` chooses."""

from __future__ import annotations

import pytest

from asrpeft.adapters.where import expand, select, split
from asrpeft.errors import CannotAttach
from asrpeft.methods.layers import layers_of
from tests.bases import tiny_base

LAYERS = [layer for layer in layers_of(tiny_base(layers=3, source=40)) if layer.kind != "block"]  # those have a test of their own
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


def blocks(stack: str, name: str = "self_attn", layers=range(3)) -> set[str]:
    return {f"{stack}.layers.{i}.{name}" for i in layers}


def projections(of: set[str]) -> set[str]:
    return {f"{block}.{p}" for block in of for p in PROJECTIONS}


ATTENTION = blocks("encoder") | blocks("decoder") | blocks("decoder", "encoder_attn")
TABLE = {
    "attention": projections(ATTENTION) | ATTENTION,
    "conv": {"encoder.conv1", "encoder.conv2"},
    "ff": {f"{s}.layers.{i}.{n}" for s in ("encoder", "decoder") for i in range(3) for n in ("fc1", "fc2")},
    "embedding": {"decoder.embed_tokens"},
    "linear": projections(ATTENTION) | {f"{s}.layers.{i}.{n}" for s in ("encoder", "decoder") for i in range(3) for n in ("fc1", "fc2")},
    "norm": {layer.path for layer in LAYERS if layer.kind == "norm"},
    "all": {layer.path for layer in LAYERS if layer.leaf != "embed_positions"},
    "feedforward": {f"{s}.layers.{i}.feedforward" for s in ("encoder", "decoder") for i in range(3)},
    "stack": {"encoder.layers", "decoder.layers"},
    "decoder.layers": {layer.path for layer in LAYERS if layer.path.startswith("decoder.layers")},
    "encoder": {layer.path for layer in LAYERS if layer.side == "encoder" and layer.leaf != "embed_positions"},
    "q_proj": {f"{block}.q_proj" for block in ATTENTION},
    "conv1": {"encoder.conv1"},
    "encoder_attn": blocks("decoder", "encoder_attn") | projections(blocks("decoder", "encoder_attn")),
    "decoder.*.self_attn": blocks("decoder") | projections(blocks("decoder")),
    "decoder.*.q_proj": {f"{block}.q_proj" for block in blocks("decoder") | blocks("decoder", "encoder_attn")},
    "encoder.layers.{0..1}.fc1": {"encoder.layers.0.fc1", "encoder.layers.1.fc1"},
    "encoder.layers.{0,2}.fc1": {"encoder.layers.0.fc1", "encoder.layers.2.fc1"},
    "encoder.layers.{0..1}.self_attn.{q,v}_proj": {f"encoder.layers.{i}.self_attn.{p}_proj" for i in (0, 1) for p in "qv"},
    "encoder.layers.1": {layer.path for layer in LAYERS if layer.path.startswith("encoder.layers.1.")},
    "conv,fc2,-decoder.layers.{0..2}": {"encoder.conv1", "encoder.conv2"} | {f"encoder.layers.{i}.fc2" for i in range(3)},
    "encoder.embed_positions": {"encoder.embed_positions"},
    "embed_positions": {"encoder.embed_positions", "decoder.embed_positions"},
    " conv1 , conv2 ": {"encoder.conv1", "encoder.conv2"},
}


@pytest.mark.parametrize("where, want", TABLE.items())
def test_a_pattern_chooses(where, want):
    assert {layer.path for layer in select(LAYERS, where)} == want


def test_a_list_of_patterns_is_their_union_in_the_bases_order():
    chosen = [layer.path for layer in select(LAYERS, ["fc2", "conv"])]
    assert set(chosen) == TABLE["conv"] | {p for p in TABLE["ff"] if p.endswith("fc2")}
    assert chosen == [layer.path for layer in LAYERS if layer.path in set(chosen)]


@pytest.mark.parametrize("where", ["attentoin", "encoder.layers.9.*", "fc3", "{}", "", "conv,-conv", "0", "encoder.layers.{3..1}.fc1"])
def test_a_pattern_that_chooses_nothing_is_refused(where):
    with pytest.raises(CannotAttach, match="where"):
        select(LAYERS, where)


@pytest.mark.parametrize("where", ["encoder.layers.{0..100000000000}.fc1", "encoder.layers.{99999..100000}.fc1", "{0..999}{0..999}{0..999}", "{0..9}" * 40])
def test_an_enormous_range_is_refused_before_it_is_written_out(where):
    with pytest.raises(CannotAttach, match="larger than any model|more than 2,000 patterns"):
        select(LAYERS, where)


def test_braces_and_commas():
    assert expand("a.{0..2}.{x,y}") == [f"a.{i}.{c}" for i in range(3) for c in "xy"]
    assert split("a.{0,1}.b, c") == ["a.{0,1}.b", "c"]
    assert split(["a,b", "c"]) == ["a", "b", "c"]


def test_blocks_are_whole_layers_with_their_number_and_no_listing_offers_a_number_as_a_name():
    from tests.methods.cases import recognizer

    layers = list(recognizer().adapters.layers.values())
    blocks = select(layers, "block")
    assert [b.path for b in blocks] == ["encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1"]
    assert [b.number for b in blocks] == [0, 1, 0, 1] and {b.shape for b in blocks} == {(16, 0)}
    with pytest.raises(CannotAttach, match="layers: conv1"):
        select(layers, "nothing")
