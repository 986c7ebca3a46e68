"""Places that are no module of their own, each against the network written out: feed-forwards, frames, all hidden states; and what
pieces are told of where they are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from asrpeft.errors import BadRoute
from asrpeft.methods import LayerAdapter
from asrpeft.methods.base import zeros
from tests.methods.cases import batch, pass_through, perturb, recognizer
from tests.methods.planted import planted
from tests.methods.test_virtual_tokens import attend

ROUTE = ["a", None, "b", "a"]
CONTEXTS = [(40, 40, 40, 40), (40, 22, 31, 40)]
contexts_of_every_kind = pytest.mark.parametrize("contexts", CONTEXTS, ids=["one context", "mixed contexts"])


def with_adapters(method: str, a: dict, b: dict, **common):
    model = recognizer()
    for seed, (name, settings) in enumerate({"a": a, "b": b}.items()):
        torch.manual_seed(seed)
        perturb(model.adapt(method, name=name, **settings, **common), seed)
    return model.double()


def frames_of(model, features):
    """(frames, dim): what the encoder's first layer reads of one row."""
    encoder = model.base.model.encoder
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features[None]))))[0].T
    return x + encoder.embed_positions.weight[: len(x)]


def layer_by_hand(layer, x, feedforward=None):
    h = layer.self_attn_layer_norm(x)
    x = x + attend(layer.self_attn, h, h, causal=False)
    h = layer.final_layer_norm(x)
    y = layer.fc2(F.gelu(layer.fc1(h)))
    return x + (y if feedforward is None else feedforward(h, y))


# -- the encoder's frames ------------------------------------------------------------------------------------------------
PROMPTS = {
    "shallow": ({"tokens": 3, "deep": False}, {"tokens": 5, "deep": False}),
    "deep": ({"tokens": 3}, {"tokens": 5}),
    "deep and shallow": ({"tokens": 3}, {"tokens": 5, "deep": False}),
}


def encoder_by_hand(model, name, features):
    encoder, x = model.base.model.encoder, frames_of(model, features)
    n, prompts = len(x), () if name is None else model.adapters[name].by_path()["encoder"].rows()
    for number, layer in enumerate(encoder.layers):
        if number < len(prompts):
            x = torch.cat([x[:n], prompts[number]])
        x = layer_by_hand(layer, x)
    return encoder.layer_norm(x[:n])


@contexts_of_every_kind
@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_prompts_in_the_encoder_equal_frames_concatenated_by_hand(kind, contexts):
    model = with_adapters("encoder_prompt", *PROMPTS[kind])
    features, frames, _ = batch(frames=contexts)
    with model.route(ROUTE):
        states = model.encode(features, frames).states
    for i, name in enumerate(ROUTE):
        n = contexts[i]
        assert_close(states[i, :n], encoder_by_hand(model, name, features[i, :, : 2 * n]), atol=1e-9, rtol=1e-7)


@torch.no_grad()
def test_the_encoder_of_transformers_itself_reads_the_prompts_too():
    model = with_adapters("encoder_prompt", *PROMPTS["deep"])
    features, frames, _ = batch(frames=CONTEXTS[0])
    with model.route(ROUTE):
        assert_close(model.base.model.encoder(features).last_hidden_state, model.encode(features, frames).states)


def test_virtual_frames_are_there_or_not_and_take_no_weight():
    model = with_adapters("encoder_prompt", *PROMPTS["deep"])
    with pytest.raises(BadRoute, match="cannot be taken 0.5 times"), model.route("a+0.5*b"):
        pass


@torch.no_grad()
def test_virtual_frames_of_a_sum_stand_beside_each_other():
    model = with_adapters("encoder_prompt", *PROMPTS["deep"])
    features, frames, _ = batch(1, frames=(40,))
    with model.route("a+b"):
        states = model.encode(features, frames).states[0]
    a, b = (model.adapters[name].by_path()["encoder"].rows() for name in "ab")
    x, encoder = frames_of(model, features[0]), model.base.model.encoder
    for number, layer in enumerate(encoder.layers):
        x = layer_by_hand(layer, torch.cat([x[:40], a[number], b[number]]))
    assert_close(states, encoder.layer_norm(x[:40]), atol=1e-9, rtol=1e-7)


class Shift(LayerAdapter):
    """frames ← frames + v."""

    kinds = ("encoder",)
    where = "encoder"
    mergeable = False

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.v = zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return layer.shape[0]

    def forward(self, x, y, layer):
        return y + self.v


@contexts_of_every_kind
@torch.no_grad()
def test_an_edit_at_the_encoder_changes_the_frames_before_the_first_layer_and_no_others(contexts):
    with planted(Shift):
        model = with_adapters("planted", {}, {})
        features, frames, _ = batch(frames=contexts)
        with model.route(ROUTE):
            states = model.encode(features, frames).states
    encoder = model.base.model.encoder
    for i, name in enumerate(ROUTE):
        x = frames_of(model, features[i, :, : 2 * contexts[i]])
        x = x if name is None else x + model.adapters[name].by_path()["encoder"].v
        for layer in encoder.layers:
            x = layer_by_hand(layer, x)
        assert_close(states[i, : contexts[i]], encoder.layer_norm(x), atol=1e-9, rtol=1e-7)


# -- feed-forwards ---------------------------------------------------------------------------------------------------------
@contexts_of_every_kind
@torch.no_grad()
def test_a_parallel_adapter_reads_what_the_feed_forward_reads_and_adds_to_what_it_gives(contexts):
    model = with_adapters("parallel", {"width": 3}, {"width": 5, "scale": 2.0}, where="encoder.*.feedforward")
    features, frames, _ = batch(frames=contexts)
    with model.route(ROUTE):
        states = model.encode(features, frames).states
    encoder = model.base.model.encoder
    for i, name in enumerate(ROUTE):
        x = frames_of(model, features[i, :, : 2 * contexts[i]])
        for number, layer in enumerate(encoder.layers):
            piece = None if name is None else model.adapters[name].by_path()[f"encoder.layers.{number}.feedforward"]
            x = layer_by_hand(layer, x, None if piece is None else lambda h, y, p=piece: y + p.scale * p.up(F.gelu(p.down(h))))
        assert_close(states[i, : contexts[i]], encoder.layer_norm(x), atol=1e-9, rtol=1e-7)


# -- all hidden states -----------------------------------------------------------------------------------------------------
class Taps(LayerAdapter):
    """Keeps what it is given, and adds v to the last hidden state."""

    kinds = ("stack",)
    where = "stack"
    mergeable = False
    seen: dict = {}

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.v = zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return layer.shape[0]

    def forward(self, x, y, layer):
        self.seen[layer.side] = x
        assert x[-1] is y or torch.equal(x[-1], y)
        return y + self.v


@torch.no_grad()
def test_a_piece_on_the_stack_is_given_what_every_layer_reads_and_gives():
    with planted(Taps):
        model = with_adapters("planted", {}, {})
        features, frames, tokens = batch(frames=CONTEXTS[0])
        pass_through(model, "a", features, frames, tokens)
        encoder, decoder = Taps.seen["encoder"], Taps.seen["decoder"]
        assert len(encoder) == len(decoder) == 3
        for i in range(4):
            x = frames_of(model, features[i])
            assert_close(encoder[0][i], x)
            for number, layer in enumerate(model.base.model.encoder.layers):
                x = layer_by_hand(layer, x)
                assert_close(encoder[number + 1][i], x, atol=1e-9, rtol=1e-7)
        states = model.encode(features, frames)
        with model.route("a"):
            shifted = model.encode(features, frames)
        v = model.adapters["a"].by_path()["encoder.layers"].v
        assert_close(shifted.states, model.base.model.encoder.layer_norm(encoder[-1] + v))
        assert (shifted.states - states.states).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["lst", "read", "unipt"])
def test_a_side_network_leaves_no_graph_through_the_frozen_encoder(name):
    model = recognizer()
    model.adapt(name, name="a", where="encoder.layers", width=4)
    model.double()
    features, frames, _ = batch()
    inside = []
    handle = model.base.model.encoder.layers[1].register_forward_hook(lambda m, a, y: inside.append(y))
    with model.route("a"):
        states = model.encode(features, frames).states
    handle.remove()
    assert states.requires_grad and not inside[0].requires_grad


def test_hidden_states_do_not_stay_behind_after_a_pass_that_is_computed_again():
    model = with_adapters("lst", {"width": 4}, {"width": 3}).train()
    model.gradient_checkpointing()
    features, frames, tokens = batch()
    with model.route(ROUTE):
        model(features, frames, tokens).logits.square().mean().backward()
    assert all(not vars(site._seen) for site in model.adapters.sites.values())


# -- what a piece is told --------------------------------------------------------------------------------------------------
class Told(Shift):
    """Adds what depends on the place, on the token, on how many frames a row has: h ← h + (sin(p + k·number) + [token]/9 + length/20) v."""

    kinds = ("block", "linear", "decoder", "feedforward", "encoder", "stack")
    where = "block,decoder"
    reads_inputs = True

    def forward(self, x, y, layer):
        told = self.inputs
        assert told.positions.shape == y.shape[:2], (layer.path, told.positions.shape, y.shape)
        at = torch.sin(told.positions.to(y.dtype) + layer.number / layer.count)
        at = torch.where(told.positions < 0, 0.0, at)
        if told.tokens is not None:
            at = at + told.tokens / 9
        if layer.reads_frames:
            at = at + told.lengths[:, None] / 20
        return y + at[..., None] * self.v


@pytest.mark.parametrize("where", [None, "all", "fc1,encoder_attn.k_proj,encoder_attn.q_proj"])
@torch.no_grad()
def test_positions_tokens_and_lengths_are_those_of_the_row_alone_and_of_all_tokens_at_once(where):
    from tests.methods import test_every_method_on_a_recognizer as whole

    where = where and where.replace("encoder_attn.", "decoder.layers.*.encoder_attn.")
    with planted(Told):
        whole.test_a_row_of_a_mixed_batch_equals_that_row_alone(whole.attached("planted", where))
        whole.test_token_by_token_with_a_cache_equals_all_at_once(whole.attached("planted", where))
        whole.test_detaching_restores_the_base_bit_for_bit_and_leaves_no_hook("planted", where)
        whole.test_transformers_own_generate_scores_tokens_as_a_pass_without_a_cache_does(whole.attached("planted", where), 3)


def test_what_a_piece_is_told_is_the_same_when_its_layer_is_computed_again():
    from tests.methods import test_every_method_on_a_recognizer as whole

    with planted(Told):
        whole.test_every_parameter_gets_its_gradient_with_checkpointing_and_backward_on_another_thread_under_another_route(whole.attached("planted", "all"))


@torch.no_grad()
def test_beside_a_prompt_a_piece_is_told_the_places_of_the_text():
    """Rows with a prompt of three, with one of five, and without any; all at once and step by step."""
    with planted(Told):
        model = recognizer()
        for seed, (name, tokens) in enumerate({"p": 3, "q": 5}.items()):
            torch.manual_seed(seed)
            model.adapt("prompt", name=name, tokens=tokens)
        perturb(model.adapt("planted", name="t", where="decoder.layers.*"))
        model.double()
        features, frames, tokens = batch()
        route = ["p+t", "t", "q+t", None]
        whole = pass_through(model, route, features, frames, tokens)[1]
        for i, name in enumerate(route):
            alone = pass_through(model, [name], features[i : i + 1, :, : 2 * int(frames[i])], frames[i : i + 1], tokens[i : i + 1])[1]
            assert_close(whole[i : i + 1], alone, atol=1e-8, rtol=1e-6)
        with model.route(route):
            encoded, cache = model.encode(features, frames), EncoderDecoderCache(DynamicCache(), DynamicCache())
            steps = [model.decode(encoded, tokens[:, at], cache=cache)[0] for at in (slice(0, 2), slice(2, 3), slice(3, 5))]
        assert_close(torch.cat(steps, dim=1), whole, atol=1e-8, rtol=1e-6)


def test_layers_know_their_number_how_many_there_are_and_in_which_half():
    layers = recognizer().adapters.layers
    told = {path: (layer.side, layer.number, layer.count) for path, layer in layers.items()}
    assert told["encoder.layers.1.fc1"] == told["encoder.layers.1.feedforward"] == told["encoder.layers.1"] == ("encoder", 1, 2)
    assert told["decoder.layers.0.encoder_attn.k_proj"] == ("decoder", 0, 2)
    assert told["encoder.conv2"] == ("encoder", 1, 2) and told["encoder.conv1"] == ("encoder", 0, 2)
    assert told["encoder"] == told["encoder.layers"] == ("encoder", 0, 1) and told["decoder.embed_tokens"][0] == "decoder"
    assert layers["encoder"].depth == layers["decoder.layers"].depth == 2


def test_a_piece_that_asks_without_having_said_so_is_told_what_to_do():
    class Forgetful(Told):
        reads_inputs = False

    with planted(Forgetful):
        model = recognizer()
        model.adapt("planted", name="t").double()
        with pytest.raises(RuntimeError, match="reads_inputs = True"), torch.no_grad():
            pass_through(model, "t", *batch())
