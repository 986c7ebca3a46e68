"""What every registered method promises at one layer, whatever kind of layer it is."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from asrpeft.adapters.sites import DecoderSite
from asrpeft.errors import CannotAttach, CannotMerge
from asrpeft.methods import LayerAdapter, method
from tests.methods.cases import bench, make_layer, pairs, shown

PAIRS = pairs()
MERGEABLE = [pair for pair in PAIRS if method(pair[0]).mergeable]
each = pytest.mark.parametrize("name, kind, tried", PAIRS, ids=shown)
EDITS = [pair for pair in PAIRS if not method(pair[0]).mergeable and method(pair[0]).forward is not LayerAdapter.forward]
each_edit = pytest.mark.parametrize("name, kind, tried", EDITS, ids=shown)
each_mergeable = pytest.mark.parametrize("name, kind, tried", MERGEABLE, ids=shown)


@pytest.fixture(scope="module")
def stirred(request):
    """A bench whose adapters are as after training, for the tests that change nothing of it: they run in a row, and it is made once."""
    return bench(*request.param).perturb()


def bench_of(pair):
    """A test case; of several workers one has all tests of a bench."""
    title = "-".join(map(shown, pair))
    return pytest.param(pair, marks=pytest.mark.xdist_group(title), id=title)


each_stirred = pytest.mark.parametrize("stirred", [bench_of(pair) for pair in PAIRS], indirect=True, scope="module")


def close(a, b, **tolerance):
    for left, right in zip(a, b, strict=True):
        assert_close(left, right, **tolerance)


def far(a, b) -> bool:
    return any((left - right).abs().max() > 1e-2 for left, right in zip(a, b, strict=True))


@each
def test_a_new_adapter_changes_nothing(name, kind, tried):
    b = bench(name, kind, tried)
    plain = b.run()
    if b.pieces["p"].neutral:
        for got, want in zip(b.run("ppp"), plain):
            assert_close(got, want)
    else:
        assert far(b.run("ppp"), plain), f"{name} is declared not neutral and yet a fresh one changes nothing"


@each_stirred
def test_a_trained_adapter_changes_the_output(stirred):
    b = stirred
    assert far(b.run("ppp"), b.run()) and far(b.run("ppp"), b.run("qqq"))


@each
def test_outside_a_route_the_layer_is_the_frozen_one(name, kind, tried):
    b = bench(name, kind, tried)
    bare = make_layer(kind)
    bare.module.load_state_dict(b.layer.module.state_dict())
    b.perturb()
    want = b.call(bare.module, b.x)
    assert torch.equal(b.run()[0], want) and torch.equal(b.run("---")[0], want)


@each_mergeable
def test_merged_equals_routed_and_unmerge_restores_every_bit(name, kind, tried):
    b = bench(name, kind, tried).perturb()
    routed, before = b.run("ppp"), [t.clone() for t in b.layer.tensors()]
    b.site.merge("p")
    close(b.run(), routed, atol=1e-5, rtol=1e-5)
    close(b.run("ppp"), routed, atol=1e-5, rtol=1e-5)
    b.site.unmerge()
    assert all(map(torch.equal, b.layer.tensors(), before))
    close(b.run("ppp"), routed)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-6), (torch.bfloat16, 0.05), (torch.float16, 0.01)], ids=["float64", "bfloat16", "float16"])
@each_mergeable
def test_merged_equals_routed_in_other_dtypes_of_the_base(name, kind, tried, dtype, tolerance):
    b = bench(name, kind, tried, dtype=dtype).perturb()
    routed, before = b.run("ppp"), [t.clone() for t in b.layer.tensors()]
    assert all(y.dtype == dtype for y in routed) and all(p.dtype == torch.float32 for p in b.trained())
    b.site.merge("p")
    assert all(t.dtype == dtype for t in b.layer.tensors())
    scale = max(float(y.detach().abs().max()) for y in routed)
    close(b.run(), routed, atol=tolerance * scale, rtol=0)
    b.site.unmerge()
    assert all(map(torch.equal, b.layer.tensors(), before))


@each_mergeable
def test_merging_into_half_precision_rounds_once(name, kind, tried):
    """The sum is formed in float32, so the merged weight is the nearest half-precision number to the true one."""
    b = bench(name, kind, tried, dtype=torch.bfloat16).perturb()
    bias = b.layer.bias
    want, _ = b.pieces["p"].merged(b.layer.matrix.float(), None if bias is None else bias.float())
    b.site.merge("p")
    assert torch.equal(b.layer.matrix, want.detach().bfloat16())


@each_stirred
def test_a_row_of_a_mixed_batch_equals_that_row_alone(stirred):
    b = stirred
    for route in ("p-q", "pqp"):  # rows of their own, and rows that share an adapter
        mixed = b.run(route)
        for i, letter in enumerate(route):
            alone = b.run(letter, rows=[i])
            close([y[i : i + 1] for y in mixed], alone, atol=1e-6, rtol=1e-5)


@each_stirred
def test_all_rows_on_one_adapter_equals_one_name_for_all(stirred):
    b = stirred
    close(b.run("qqq"), b.run(("q",) * 3))
    with b.site.ambient.set():
        close(b.run(["q", "q", "q"]), b.run("qqq"))


@each
def test_only_adapter_parameters_get_gradient_and_every_one_does_within_two_steps(name, kind, tried):
    b = bench(name, kind, tried)
    seen: set[int] = set()
    optimizer = torch.optim.SGD(b.trained(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(((y + 1) ** 2).sum() for y in b.run("ppq")).backward()
        seen |= {id(p) for p in b.trained() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in b.trained())
        optimizer.step()
    assert seen == {id(p) for p in b.trained()}
    assert all(t.grad is None and not t.requires_grad for t in b.layer.tensors())


@each
def test_the_parameter_count_equals_the_formula(name, kind, tried):
    b = bench(name, kind, tried)
    cls, config = method(name), b.pieces["p"].config
    trained = [p for part in (b.pieces["p"], b.pools["p"]) for p in part.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == cls.size(config, b.layer) + cls.shared_size(config, [b.layer])


@each_stirred
def test_autocast_gives_what_float32_gives(stirred):
    b = stirred
    exact = b.run("p-q")
    with torch.autocast("cpu", torch.bfloat16):
        frozen, cast = b.run(), b.run("p-q")
        for y in cast:
            y.float().sum().backward(retain_graph=True)
    assert [y.dtype for y in cast] == [y.dtype for y in frozen]
    scale = max(float(y.detach().abs().max()) for y in exact)
    close([y.float() for y in cast], exact, atol=0.03 * scale, rtol=0)
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in b.trained())


@each
@torch.no_grad()
def test_in_evaluation_the_same_comes_twice_and_is_what_training_without_dropout_computes(name, kind, tried):
    """Nothing is random in evaluation, and a change of weight that is kept from the first time is the one that training makes."""
    b = bench(name, kind, tried).perturb()
    torch.manual_seed(1)
    first = b.run("p-q")
    torch.manual_seed(2)
    assert all(map(torch.equal, b.run("p-q"), first))
    with torch.enable_grad():
        close([y.detach() for y in b.run("p-q")], first, atol=1e-6, rtol=1e-5)
    b.perturb()
    assert far(b.run("p-q"), first), "what was kept was not made anew after a step"


@each_mergeable
@torch.no_grad()
def test_the_merged_weight_is_that_of_the_equation_written_literally(name, kind, tried):
    b = bench(name, kind, tried, dtype=torch.float64).perturb()
    piece = b.pieces["p"].double()
    b.pools["p"].double()
    want = piece.literal(*b.layer.wide())
    if want is None:
        pytest.skip(f"{name} gives no literal reference of its equation")
    got = piece.merged(*b.layer.wide())
    assert_close(got[0], want[0], atol=1e-9, rtol=1e-7)
    assert got[1] is want[1] or bool((got[1] - want[1]).abs().max() < 1e-9)


@each_edit
@torch.no_grad()
def test_the_edit_is_that_of_the_equation_written_literally(name, kind, tried):
    b = bench(name, kind, tried, dtype=torch.float64).perturb()
    piece, seen = b.pieces["p"].double(), []
    b.pools["p"].double()
    forward = piece.forward

    def both(x, y, layer):
        given = forward(x, y, layer)
        seen.append((given, piece.literal_edit(x, y, layer)))
        return given

    piece.forward = both
    b.run("ppp")
    if all(want is None for _, want in seen):
        pytest.skip(f"{name} gives no literal reference of its equation")
    for given, want in seen:
        assert_close(given, want, atol=1e-9, rtol=1e-7)


@each
def test_taking_the_adapters_away_leaves_no_hook(name, kind, tried):
    b = bench(name, kind, tried).perturb()
    before = b.run()
    b.site.remove("p")
    close(b.run("-q-"), [torch.where(torch.tensor([False, True, False]).view(3, *[1] * (y.dim() - 1)), q, y) for y, q in zip(before, b.run("qqq"))])
    b.site.remove("q")
    if isinstance(b.site, DecoderSite):
        b.site.ask(False)  # as the container does when nobody asks any more
    modules = [b.layer.module] + ([b.layer.head] if getattr(b.layer, "head", None) is not None else [])
    assert all(not m._forward_hooks and not m._forward_pre_hooks for module in modules for m in module.modules())


@pytest.mark.parametrize("name", sorted({name for name, kind, _ in PAIRS if kind == "embedding"}))
def test_told_so_an_embeddings_change_leaves_the_tied_head_alone_and_then_cannot_be_merged(name):
    both, alone = bench(name, "embedding", {}).perturb(), bench(name, "embedding", {"head": False}).perturb()
    plain = alone.run()
    assert torch.equal(alone.run("ppp")[0], both.run("ppp")[0])
    assert torch.equal(alone.run("ppp")[1], plain[1]) and far(both.run("ppp")[1:], plain[1:])
    with pytest.raises(CannotMerge, match="head=True"):
        alone.site.merge("p")
    assert torch.equal(alone.run()[0], plain[0])


def test_a_convolution_that_pads_by_reflection_is_refused():
    from asrpeft.methods.layers import layer_of

    with pytest.raises(CannotAttach, match="zero padding"):
        layer_of("encoder.conv1", torch.nn.Conv1d(2, 2, 3, padding=1, padding_mode="reflect"))


def test_a_module_of_an_unknown_kind_is_refused_with_what_would_work():
    from asrpeft.methods.layers import layer_of

    with pytest.raises(CannotAttach, match="Linear, Conv1d, Embedding"):
        layer_of("decoder.odd", torch.nn.Bilinear(2, 2, 2))


def test_a_kernel_in_another_memory_format_is_still_written():
    layer = make_layer("strided conv1d")
    layer.module.weight.data = layer.module.weight.data.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not layer.module.weight.is_contiguous()
    layer.write(torch.ones(layer.shape), torch.zeros(8))
    assert bool((layer.module.weight == 1).all()) and bool((layer.module.bias == 0).all())
