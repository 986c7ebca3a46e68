"""Adapters on a base whose weights are quantized: they act on what the weights stand for, and are never merged into them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from asrpeft.errors import CannotMerge
from tests.methods.cases import batch, perturb, recognizer


class Int8(torch.Tensor):
    """A weight-only quantized tensor in the way of torchao's: it looks like float32, holds int8 and one scale a row."""

    @staticmethod
    def __new__(cls, q, scale):
        return torch.Tensor._make_wrapper_subclass(cls, q.shape, dtype=scale.dtype)

    def __init__(self, q, scale):
        self.q, self.scale = q, scale

    def dequantize(self):
        return self.q.to(self.scale.dtype) * self.scale

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.linear:
            x, w, *rest = args
            return nn.functional.linear(x, w.dequantize(), *rest, **(kwargs or {}))
        return super().__torch_function__(function, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return Int8(args[0].q, args[0].scale)
        raise NotImplementedError(f"{function} of a quantized tensor")


def quantize(base: nn.Module) -> None:
    """Eight bits for every projection of the encoder and the decoder, the tied head apart."""
    for module in base.model.modules():
        if isinstance(module, nn.Linear):
            w = module.weight.detach()
            scale = w.abs().amax(dim=1, keepdim=True) / 127
            module.weight = nn.Parameter(Int8((w / scale).round().to(torch.int8), scale), requires_grad=False)


@pytest.mark.parametrize(
    "method, settings",
    [("lora", {}), ("loha", {}), ("dora", {}), ("oft", {"block": 4}), ("lora", {"start": "pissa"}), ("houlsby", {}), ("parallel", {}), ("lst", {"width": 4})],
)
def test_an_adapter_on_a_quantized_base_is_the_adapter_on_the_weights_that_it_stands_for(method, settings):
    model = recognizer()
    of = model.adapters.fingerprint
    quantize(model.base)
    torch.manual_seed(0)
    adapter = perturb(model.adapt(method, name="a", **settings)).double()
    plain = recognizer()
    with torch.no_grad():
        for name, module in plain.base.model.named_modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(model.base.model.get_submodule(name).weight.dequantize())
    torch.manual_seed(0)
    twin = plain.adapt(method, name="a", **settings).double()
    twin.load_state_dict(adapter.state_dict())
    given = batch()
    with torch.no_grad():
        want, base = plain(*given, route="a").logits, plain(*given).logits
        assert (want - base).abs().max() > 1e-3
        assert_close(model(*given, route="a").logits, want, atol=1e-8, rtol=1e-6)
    assert adapter.manifest.base_fingerprint == of
    model(*given, route="a").logits.sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())


def test_merging_into_weights_that_cannot_be_written_is_refused_and_leaves_the_base_as_it_was():
    model = recognizer()
    quantize(model.base)
    perturb(model.adapt("lora", name="a", where="embedding,q_proj")).double()  # the embedding could be written
    given = batch()
    with torch.no_grad():
        before, base = model(*given, route="a").logits, model(*given).logits
        with pytest.raises(CannotMerge, match="q_proj is quantized.*Serve it routed"):
            model.adapters.merge("a")
        assert model.adapters.merged == ()
        assert torch.equal(model(*given).logits, base) and torch.equal(model(*given, route="a").logits, before)


def test_torchaos_eight_bit_weights_are_such_weights():
    torchao = pytest.importorskip("torchao.quantization")
    model = recognizer().float()
    torchao.quantize_(model.base.model, torchao.Int8WeightOnlyConfig())
    adapter = perturb(model.adapt("dora", name="a"))
    layer = next(iter(adapter.layers.values()))
    assert not layer.writable and type(layer.matrix) is torch.Tensor
    features, contexts, tokens = batch()
    model(features.float(), contexts, tokens, route="a").logits.sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())
    with pytest.raises(CannotMerge, match="quantized"):
        model.adapters.merge("a")


@pytest.mark.parametrize("precision, dim", [("int8", 16), ("nf4", 128)])
def test_a_base_loaded_in_fewer_bits_trains_and_decodes_adapters_and_is_still_that_base(tmp_path, precision, dim):
    pytest.importorskip("torchao.quantization", reason="the extra `quantized` is not installed")
    from asrpeft.recognizer.quantized import quantize
    from tests.bases import tiny_recognizer

    model, plain = (tiny_recognizer(0, source=40, width=dim) for _ in range(2))
    told = quantize(model.base, precision)
    assert len(told.rounded) == 32 and not told.left and told.bytes_after < told.bytes_before
    assert model.adapters.fingerprint == plain.adapters.fingerprint
    for method in ("lora", "dora"):
        torch.manual_seed(0)
        adapter = perturb(model.adapt(method, name=method, where="attention"))
        layer = next(iter(adapter.layers.values()))
        assert not layer.writable and type(layer.matrix) is torch.Tensor
        features, contexts, tokens = batch()
        model(features.float(), contexts, tokens, route=method).logits.sum().backward()
        assert all(p.grad is not None for p in adapter.parameters())
        with pytest.raises(CannotMerge, match="quantized"):
            model.adapters.merge(method)
    folder = model.adapters["lora"].save(tmp_path / "a")
    plain.adapters.load(folder)  # without --force: it is the base that it was trained on


@pytest.mark.parametrize("precision, match", [("int4", "no base precision 'int4'; choose full, int8, nf4"), ("nf4", r"pip install 'asrpeft\[quantized\]'")])
def test_a_precision_that_cannot_be_had_is_refused_with_what_to_do(monkeypatch, precision, match):
    import sys

    from asrpeft.errors import BadInput
    from asrpeft.recognizer.quantized import quantize

    for name in ("torchao", "torchao.quantization", "torchao.quantization.quantize_.workflows"):
        monkeypatch.setitem(sys.modules, name, None)
    base = recognizer().float().base
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    with pytest.raises(BadInput, match=match):
        quantize(base, precision)
    assert quantize(base, "full").rounded == ()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
