"""What every registered method promises on a whole recognizer: at its default places and at all that it can act on."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from asrpeft.adapters.adapter import TENSORS
from asrpeft.methods import method
from tests.bases import draw_from
from tests.methods.cases import batch, pass_through, perturb, placed, recognizer, small

each = pytest.mark.parametrize("name, where", placed(), ids=lambda v: v or "default")
MIXED = ["p", None, "q", "p"]


def attached(name, where, *, fresh: bool = False):
    """A recognizer with adapters p and q; q has a learned language vector as well."""
    model = recognizer()
    for seed, letter in enumerate("pq"):
        draw_from(seed)
        lang = "zz-unknown" if letter == "q" and not fresh else None
        adapter = model.adapt(name, name=letter, where=where, lang=lang, **small(name))
        if not fresh:
            perturb(adapter, seed + 1)
    return model.double()


@pytest.fixture(scope="module")
def model(request):
    """What `attached` makes, for the tests that leave it as it was: they run in a row, and it is made once for all of them."""
    return attached(*request.param)


def model_of(pair, *more):
    """A test case; of several workers one has all tests of a model."""
    shown = "-".join(part or "default" for part in pair)
    return pytest.param(pair, *more, marks=pytest.mark.xdist_group(shown), id=shown)


def with_model(pairs):
    return pytest.mark.parametrize("model", [model_of(pair) for pair in pairs], indirect=True, scope="module")


PLACED = sorted(placed(), key=lambda pair: not method(pair[0]).mergeable)  # those first: pytest groups by the place in such a list
each_model = with_model(PLACED)
each_mergeable_model = with_model([pair for pair in PLACED if method(pair[0]).mergeable])


@contextlib.contextmanager
def put_back(model):
    """What is trained in it, and how, is afterwards as before: other tests go on with the model."""
    weights = {name: tensor.clone() for name, tensor in model.adapters.state_dict().items()}
    yield
    model.adapters.load_state_dict(weights)
    model.gradient_checkpointing(False)
    model.eval().zero_grad(set_to_none=True)


def with_language_slot(model, tokens):
    """Tokens in which the slot of q's learned vector occurs in every row."""
    tokens = tokens.clone()
    tokens[:, 0] = model.spare_language()[1]
    return tokens


def hooks(base) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in base.modules())


@each
def test_a_new_adapter_changes_nothing(name, where):
    model = attached(name, where, fresh=True)
    given = batch()
    plain, adapted = pass_through(model, None, *given), pass_through(model, "p", *given)
    if method(name).neutral:
        for a, b in zip(adapted, plain):
            assert_close(a, b, atol=1e-8, rtol=1e-6)
    else:
        assert any((a - b).abs().max() > 1e-3 for a, b in zip(adapted, plain))


@each_model
@torch.no_grad()
def test_a_row_of_a_mixed_batch_equals_that_row_alone(model):
    """Different adapters, one row without any, different audio contexts; a row alone is given its own frames and no padding."""
    features, contexts, tokens = batch()
    tokens = with_language_slot(model, tokens)
    states, logits = pass_through(model, MIXED, features, contexts, tokens)
    for i, own in enumerate(MIXED):
        n = int(contexts[i])
        alone = pass_through(model, [own], features[i : i + 1, :, : 2 * n], contexts[i : i + 1], tokens[i : i + 1])
        assert_close(states[i : i + 1, :n], alone[0], atol=1e-8, rtol=1e-6)
        assert_close(logits[i : i + 1], alone[1], atol=1e-8, rtol=1e-6)
    other = pass_through(model, ["q", "p", None, "q"], features, contexts, tokens)[1]
    assert ((other - logits).abs().amax(dim=(1, 2)) > 1e-3).all(), "the route makes no difference"


@each_model
@torch.no_grad()
def test_token_by_token_with_a_cache_equals_all_at_once(model):
    features, contexts, tokens = batch()
    tokens = with_language_slot(model, tokens)
    want = pass_through(model, MIXED, features, contexts, tokens)[1]
    with model.route(MIXED):
        encoded = model.encode(features, contexts)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        first, cache = model.decode(encoded, tokens[:, :2], cache=cache)
        steps = [first] + [model.decode(encoded, tokens[:, i : i + 1], cache=cache)[0] for i in range(2, tokens.shape[1])]
    assert_close(torch.cat(steps, dim=1), want, atol=1e-8, rtol=1e-6)


@each_mergeable_model
@torch.no_grad()
def test_merged_equals_routed_and_unmerge_restores_every_bit(model):
    given = batch()
    before = {n: p.clone() for n, p in model.base.state_dict().items()}
    routed = pass_through(model, "p", *given)
    model.adapters.merge("p")
    for a, b in zip(pass_through(model, None, *given), routed):
        assert_close(a, b, atol=1e-8, rtol=1e-6)
    for a, b in zip(pass_through(model, ["p"] * 4, *given), routed):
        assert_close(a, b, atol=1e-8, rtol=1e-6)
    model.adapters.unmerge()
    after = model.base.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)


@pytest.mark.parametrize("name", sorted({name for name, _ in placed() if not method(name).mergeable}))
def test_a_method_without_a_weight_form_refuses_to_merge_and_says_what_to_do(name):
    from asrpeft.errors import CannotMerge

    model = attached(name, None)
    with pytest.raises(CannotMerge, match="serve it routed"):
        model.adapters.merge("p")
    assert model.adapters.merged == ()


@each_model
@torch.no_grad()
def test_saved_then_loaded_is_exact_and_the_file_holds_no_base_weight(model, tmp_path):
    model.adapters.float().double()  # files hold float32, as training does
    given = batch()
    for letter in "pq":
        model.adapters[letter].save(tmp_path / letter)
    want = pass_through(model, MIXED, *given)
    weights = [w for w in model.base.parameters() if w.std() > 0]
    held = load_file(tmp_path / "p" / TENSORS)
    assert not any(t.shape == w.shape and torch.equal(t, w) for t in held.values() for w in weights)
    fresh = recognizer()
    for letter in "pq":
        fresh.adapters.load(tmp_path / letter).double()
        assert fresh.adapters[letter].formula_size() == fresh.adapters[letter].trained_parameters()
    for a, b in zip(pass_through(fresh, MIXED, *given), want):
        assert torch.equal(a, b)
    fresh.adapters["p"].save(tmp_path / "again")
    again = load_file(tmp_path / "again" / TENSORS)
    assert held.keys() == again.keys() and all(torch.equal(held[n], again[n]) for n in held)
    loaded = fresh.adapters["p"]
    size = loaded.method.stored_size(loaded.config, list(loaded.layers.values()))
    assert sum(t.numel() for t in held.values()) == size, "something is stored twice, or beside what the method says"


@each_model
def test_the_parameter_count_equals_the_formula(model):
    for letter in "pq":
        assert model.adapters[letter].trained_parameters() == model.adapters[letter].formula_size()


def checkpoint(base, **settings):
    """Switch checkpointing on by the method that `transformers` gives, under its newer name or its older one."""
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable(settings or None)


CHECKPOINTING = {
    "hugging face": lambda model: checkpoint(model.base),
    "reentrant": lambda model: checkpoint(model.base, use_reentrant=True),
    "not reentrant": lambda model: checkpoint(model.base, use_reentrant=False),
    "ours": lambda model: model.gradient_checkpointing(),
}


def gradients(model, backward) -> dict[str, torch.Tensor]:
    """The gradients of a mixed batch in the step, one of two, by which every parameter has had one, with `backward(loss)` called
    outside the routing block."""
    features, contexts, tokens = batch()
    tokens = with_language_slot(model, tokens)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    seen = set()
    draw_from(0)  # for methods that draw in training
    for _ in range(2):
        for p in trained.values():
            p.grad = None
        with model.route(MIXED):
            out = model(features, contexts, tokens)
            loss = (out.logits**2).mean() + (out.encoded.states[:, :12] ** 2).mean()
        backward(loss)
        seen |= {n for n, p in trained.items() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        if seen == set(trained):
            break
        with torch.no_grad():
            for p in trained.values():
                if p.grad is not None:
                    p.sub_(0.05 * p.grad)
    assert seen == set(trained), sorted(set(trained) - seen)[:5]
    assert all(p.grad is None for p in model.base.parameters()), "a base weight got a gradient"
    assert {id(p) for p in trained.values()} == {id(p) for a in ("p", "q") for p in model.adapters[a].parameters()}
    return {n: p.grad.clone() for n, p in trained.items()}


def same_gradients(model, want, backward) -> None:
    got = gradients(model, backward)
    assert any(getattr(m, "gradient_checkpointing", False) for m in model.base.modules()) and want.keys() == got.keys()
    for n in want:
        assert_close(got[n], want[n], atol=1e-9, rtol=1e-6)


@each_model
def test_every_parameter_gets_its_gradient_with_checkpointing_and_backward_on_another_thread_under_another_route(model):
    """`all` includes the convolutions before the first checkpointed layer."""
    with put_back(model):
        want = gradients(model.train(), torch.Tensor.backward)

    def elsewhere(loss):
        def run():
            with model.route(["q", "q", None, None]):
                loss.backward()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    with put_back(model):
        model.train().gradient_checkpointing()
        same_gradients(model, want, elsewhere)


@pytest.mark.parametrize("name, where", [("lora", "all"), ("prefix", None), ("prompt", None)])
@pytest.mark.parametrize("how", CHECKPOINTING)
def test_whichever_way_checkpointing_is_switched_on_the_gradients_are_the_same_after_the_route_has_ended(name, where, how):
    want = gradients(attached(name, where).train(), torch.Tensor.backward)
    model = attached(name, where).train()
    CHECKPOINTING[how](model)
    same_gradients(model, want, torch.Tensor.backward)


@each
@torch.no_grad()
def test_detaching_restores_the_base_bit_for_bit_and_leaves_no_hook(name, where):
    model = recognizer()
    given = batch()
    tree = [(n, type(m)) for n, m in model.base.named_modules()]
    weights = {n: t.clone() for n, t in model.base.state_dict().items()}
    plain = pass_through(model, None, *given)
    for letter in "pq":
        perturb(model.adapt(name, name=letter, where=where, lang="zz-unknown", **small(name)))
        model.double()
        assert [(n, type(m)) for n, m in model.base.named_modules()] == tree
        assert list(model.base.state_dict()) == list(weights)
        assert [n for n, _ in model.base.named_parameters()] == [n for n in weights if n != "proj_out.weight"]
    pass_through(model, ["p", "q", None, "p"], *given)
    adapters = [model.adapters.detach(letter) for letter in "pq"]
    assert hooks(model.base) == 0 and not model.adapters.sites and len(model.adapters) == 0
    assert all(torch.equal(t, weights[n]) for n, t in model.base.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(pass_through(model, None, *given), plain))
    model.adapters.attach(adapters[0])  # and it can come back
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(pass_through(model, "p", *given), plain))


@each_mergeable_model
@torch.no_grad()
def test_detaching_a_merged_adapter_restores_every_bit(model):
    before = {n: p.clone() for n, p in model.base.state_dict().items()}
    model.adapters.merge("q")
    assert any(not torch.equal(t, before[n]) for n, t in model.base.state_dict().items())
    detached = model.adapters.detach("q")
    assert all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items())
    assert model.adapters.merged == () and model.adapters.names() == ["p"]
    model.adapters.attach(detached)  # for the tests that follow


@pytest.mark.parametrize("model, beams", [model_of(pair, 1 if pair[1] is None else 3) for pair in PLACED], indirect=["model"], scope="module")
@torch.no_grad()
def test_transformers_own_generate_scores_tokens_as_a_pass_without_a_cache_does(model, beams):
    """One adapter for all rows; `generate` multiplies and reorders rows, and a route of one name has no row count to lose. At a method's
    default places the best token is taken, where it acts everywhere the best of three beams."""
    features, _, _ = batch(2, frames=(40, 40))
    start = torch.tensor([model.prompt(lang="en")] * 2)
    with model.route("p"):
        made = GenerationMixin.generate(
            model.base,
            features,
            decoder_input_ids=start,
            attention_mask=torch.ones_like(features[:, 0]),
            max_length=start.shape[1] + 6,
            num_beams=beams,
            do_sample=False,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
        )
    tokens = made.sequences
    assert tokens.shape[1] > start.shape[1] and torch.equal(tokens[:, : start.shape[1]], start)
    logp = pass_through(model, "p", features, torch.tensor([40, 40]), tokens)[1].log_softmax(-1)[:, start.shape[1] - 1 : -1]
    own = tokens[:, start.shape[1] :]
    real = (own == model.end).cumsum(1) - (own == model.end).long() == 0  # up to and with the first end
    taken = logp.gather(2, own[..., None])[..., 0]
    if beams == 1:
        assert torch.equal(logp.argmax(-1)[real], own[real])
    else:
        assert_close((taken * real).sum(1), made.sequences_scores.double(), atol=1e-4, rtol=1e-5)
