"""Routes: rows and their adapters, threads, copies of the base, merged bases, positional tables, learned languages."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import pytest
import torch
from torch.testing import assert_close

from asrpeft.adapters import Route
from asrpeft.errors import BadInput, BadRoute, CannotAttach, CannotMerge
from tests.methods.cases import batch, pass_through, perturb, recognizer

ODD_NAMES = ["keys", "type", "forward", "train", "a.b", "speaker 12", "日本", "x/y", "%2E", "_modules", "@", "training"]


def adapted(*names: str, method: str = "lora", where: str | None = None, **settings):
    model = recognizer()
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        perturb(model.adapt(method, name=name, where=where, **({"rank": 2} if method == "lora" else {"tokens": 2}) | settings), seed + 1)
    return model.double()


@pytest.mark.parametrize("route", [["p"] * 3, ["p", None], ["p"] * 8, [None, "p", None]])
@pytest.mark.parametrize("where", ["encoder", "decoder", "conv"])
def test_a_batch_of_another_size_than_the_route_is_refused(route, where):
    with pytest.raises(BadRoute, match=f"names {len(route)} rows but the batch has 4"):
        pass_through(adapted("p", where=where), route, *batch())


def test_an_unknown_adapter_is_refused_when_the_route_is_entered():
    model = adapted("p")
    with pytest.raises(BadRoute, match="no adapter 'q'. Attached: p"), model.route(["p", "q"]):
        pass
    with pytest.raises(BadRoute, match="none is attached"), recognizer().route("p"):
        pass


def test_the_path_of_an_adapter_in_a_route_is_answered_with_how_to_load_it(tmp_path):
    model = adapted("p")
    model.adapters["p"].save(tmp_path / "sw")
    for path in (str(tmp_path / "sw"), tmp_path / "sw"):
        with pytest.raises(BadRoute, match=r"recognizer.adapters.load\('.*sw'\)"), model.route([path]):
            pass
        with pytest.raises(BadRoute, match=r"recognizer.adapters.load\('.*sw'\)"), model.route(path):
            pass
    with pytest.raises(BadRoute, match=r"names; `recognizer.adapters.load\(FOLDER\)`"), model.route("no/such"):
        pass


def test_a_route_ends_with_its_block_and_blocks_nest():
    model, given = adapted("p", "q"), batch()
    plain, p, q = (pass_through(model, name, *given)[1] for name in (None, "p", "q"))
    with model.route("p"):
        assert torch.equal(model(*given).logits, p)
        with model.route("q"):
            assert torch.equal(model(*given).logits, q)
        with pytest.raises(ZeroDivisionError), model.route(None):
            assert torch.equal(model(*given).logits, plain)
            _ = 1 / 0
        assert torch.equal(model(*given).logits, p)
    assert torch.equal(model(*given).logits, plain)


def test_rows_of_a_route_may_repeat_as_beams_do():
    assert Route(("a", None, "b")).take([0, 0, 2, 1]).names == ("a", "a", "b", None)
    assert Route("a").take([0, 0]).names == "a" and Route(None).take([3]).names is None


def test_two_threads_with_different_routes_do_not_disturb_each_other():
    model, given = adapted("p", "q", where="all"), batch()
    perturb(model.adapt("prompt", name="long", tokens=3).double())
    names = ["p", "q", None, "long", ["p", None, "q", "long"]]
    with torch.no_grad():
        want = [pass_through(model, name, *given)[1] for name in names]
    wrong, barrier = [], threading.Barrier(len(names))

    def work(i):
        with torch.no_grad():
            barrier.wait()
            for _ in range(8):
                if not torch.equal(pass_through(model, names[i], *given)[1], want[i]):
                    wrong.append(names[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(names))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# -- merged bases ------------------------------------------------------------------------------------------------------
def test_a_merged_base_refuses_every_route_but_the_merged_adapters():
    model, given = adapted("p", "q"), batch()
    want = pass_through(model, "p", *given)[1]
    model.adapters.merge("p")
    for route in ("q", ["p", "q", "p", "p"], None, ["p", None, "p", "p"]):
        with pytest.raises(BadRoute, match="p is merged into the base.*unmerge"), model.route(route):
            pass
    for route in ("p", ["p"] * 4):
        assert_close(pass_through(model, route, *given)[1], want, atol=1e-8, rtol=1e-6)
    with pytest.raises(CannotMerge, match="unmerge"):
        model.adapters.merge("q")
    with pytest.raises(BadInput, match="unmerge"):
        model.adapt("lora", name="r")
    model.adapters.unmerge()
    assert torch.equal(pass_through(model, "p", *given)[1], want)


def test_a_merge_that_fails_half_way_leaves_the_base_as_it_was():
    model = adapted("p", where="all")
    model.adapt("lora", name="h", rank=2, where="attention,embedding", head=False)
    before = {n: t.clone() for n, t in model.base.state_dict().items()}
    with pytest.raises(CannotMerge, match="head=True"):
        model.adapters.merge("h")
    assert model.adapters.merged == () and all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items())
    assert not any(site.merged for site in model.adapters.sites.values())


# -- names -------------------------------------------------------------------------------------------------------------
def test_any_readable_name_is_a_name():
    model, given = recognizer(), batch()
    for seed, name in enumerate(ODD_NAMES):
        perturb(model.adapt("lora", name=name, rank=1, where="fc1"), seed).double()
    assert model.adapters.names() == ODD_NAMES == list(model.adapters) and len(model.adapters) == len(ODD_NAMES)
    assert len({float(pass_through(model, name, *given)[1].sum()) for name in ODD_NAMES}) == len(ODD_NAMES)
    for name in ODD_NAMES:
        assert name in model.adapters and model.adapters.detach(name).name == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x00"])
def test_an_unreadable_name_is_refused(name):
    with pytest.raises(BadInput, match="cannot name an adapter"):
        recognizer().adapt("lora", name=name)


def test_a_name_is_taken_once():
    with pytest.raises(BadInput, match="attached already"):
        adapted("p").adapt("lora", name="p")


def test_an_adapter_of_another_base_object_is_refused():
    stray = adapted("p").adapters.detach("p")
    with pytest.raises(CannotAttach, match="another base"):
        recognizer().adapters.attach(stray)


# -- copies ------------------------------------------------------------------------------------------------------------
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}


def mixed():
    model = adapted("p", where="all")
    perturb(model.adapt("prefix", name="x", tokens=2).double())
    perturb(model.adapt("prompt", name="y", tokens=2, lang="zz-unknown").double())
    perturb(model.adapt("s2lora", name="z", rank=2).double())
    return model


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_an_adapted_base_is_the_base_alone(how):
    model, given = mixed(), batch()
    model.gradient_checkpointing()
    with model.route("p"):
        twin = COPIES[how](model.base)
        features = torch.randn(1, 8, 80, dtype=torch.float64)
        start = torch.tensor([[1, 2]])
        got = twin(features, decoder_input_ids=start).logits
    assert_close(got, model.base(features, decoder_input_ids=start).logits)
    assert list(twin.state_dict()) == list(model.base.state_dict())
    assert sum(len(pickle.dumps(hook)) for m in twin.modules() for hook in m._forward_hooks.values()) < 10_000, "adapters went with it"
    from asrpeft.adapters import Adapters

    again = Adapters(twin, base_id="twin")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())
    assert again.fingerprint == model.adapters.fingerprint
    assert pass_through(model, "p", *given)[1].isfinite().all()


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_recognizer_works_apart_from_the_first(how, merged):
    model, given = mixed(), batch()
    model.gradient_checkpointing()
    route = ["p", "x", "y", "z"]
    want = pass_through(model, route, *given)[1]
    p = pass_through(model, "p", *given)[1]
    if merged:
        model.adapters.merge("p")
    twin = COPIES[how](model)
    if merged:
        assert_close(pass_through(twin, "p", *given)[1], p, atol=1e-8, rtol=1e-6)
        twin.adapters.unmerge()
        model.adapters.unmerge()
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.zero_()
    twin.train()
    out = twin(*given, route=route).logits
    assert torch.equal(out, want)
    out.sum().backward()  # recomputed under the copy's own route
    assert all(x.grad is not None for x in twin.adapters["y"].parameters())
    assert all(x.grad is None for x in model.adapters.parameters())


def test_a_base_with_a_prefix_can_be_forgotten():
    model = adapted("p", method="prefix")
    gone = weakref.ref(model.base)
    del model
    gc.collect()
    assert gone() is None


# -- what only some rows change ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("table", ["encoder.embed_positions", "decoder.embed_positions"])
@pytest.mark.parametrize("method", ["full", "lora", "loha", "ia3"])
def test_positional_tables_are_adapted_by_row_where_they_are_named(table, method):
    model = adapted()
    for seed, name in enumerate("pq"):
        adapter = model.adapt(method, name=name, where=table, **({"rank": 2} if method[0] == "l" else {}))
        assert list(adapter.layers) == [table]
        perturb(adapter, seed).double()
    features, contexts, tokens = batch()
    route = ["p", None, "q", "p"]
    logits = pass_through(model, route, features, contexts, tokens)[1]
    for i, own in enumerate(route):
        n = int(contexts[i])
        alone = pass_through(model, [own], features[i : i + 1, :, : 2 * n], contexts[i : i + 1], tokens[i : i + 1])[1]
        assert_close(logits[i : i + 1], alone, atol=1e-8, rtol=1e-6)
    assert ((logits - pass_through(model, None, features, contexts, tokens)[1]).abs().amax((1, 2)) > 1e-4).tolist() == [True, False, True, True]
    logits.sum().backward()
    assert all(x.grad is not None for x in model.adapters.parameters())
    model.adapters.merge("p")
    merged = pass_through(model, "p", features, contexts, tokens)[1]
    model.adapters.unmerge()
    assert_close(merged, pass_through(model, "p", features, contexts, tokens)[1], atol=1e-8, rtol=1e-6)


def test_positional_tables_are_adapted_inside_transformers_own_forward():
    model = adapted()
    perturb(model.adapt("full", name="p", where="embed_positions")).double()
    features, tokens = torch.randn(2, 8, 80, dtype=torch.float64), torch.randint(0, 60, (2, 4))
    with model.route("p"):
        routed = model.base(features, decoder_input_ids=tokens).logits
    model.adapters.merge("p")
    assert_close(model.base(features, decoder_input_ids=tokens).logits, routed)


def test_a_language_without_a_token_gets_a_vector_and_every_other_row_keeps_the_tokens_own_meaning():
    model = adapted("p")
    perturb(model.adapt("lora", name="new", rank=1, where="fc1", lang="Klingon"), by=1.0).double()
    with torch.no_grad():
        for piece in model.adapters["new"].pieces.values():
            piece.b.zero_()  # so that only the vector differs
    token, slot = model.spare_language()
    assert token == "<|yo|>" and model.adapters["new"].manifest.language_slot == token and model.adapters["new"].manifest.language == "klingon"
    features, contexts, tokens = batch()
    tokens[:, 1] = slot
    plain = pass_through(model, None, features, contexts, tokens)[1]
    routed = pass_through(model, ["new", None, "p", "new"], features, contexts, tokens)[1]
    assert ((routed - plain).abs().amax((1, 2)) > 1e-3).tolist() == [True, False, True, True]
    # To rounding, not to the bit: products of matrices may sum in another order for another number of rows.
    assert_close(routed[2], pass_through(model, "p", features, contexts, tokens)[1][2], rtol=1e-10, atol=1e-10)
    tokens[:, 1] = 5  # where the slot does not occur, the vector is seen in the slot's own logit only
    plain, routed = (pass_through(model, route, features, contexts, tokens)[1] for route in (None, "new"))
    changed = (plain - routed).abs().amax((0, 1)) > 1e-12
    assert changed.nonzero().flatten().tolist() == [slot]
    assert model.prompt(lang="KLINGON", adapter="new") == model.prompt(lang=None, adapter="new") == [model.start, slot, *model.prompt(lang="en")[2:]]
    assert model.prompt(lang="en", adapter="new")[1] == model.language_token("en")
