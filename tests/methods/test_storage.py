"""What an adapter holds: trained, kept, remembered, drawn; and that each is where it belongs."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from asrpeft.adapters.adapter import MANIFEST, TENSORS
from asrpeft.errors import BadAdapter
from asrpeft.methods import LayerAdapter
from asrpeft.methods.base import gaussian, zeros
from asrpeft.methods.pool import draw
from tests.methods.cases import recognizer
from tests.methods.planted import planted


class Masked(LayerAdapter):
    """ΔW = mask ⊙ B A, with a mask and an index that are kept, and a score that only training needs."""

    kinds = ("linear",)

    @dataclass(frozen=True)
    class Config:
        rank: int = 2
        ranks: dict[str, int] = field(default_factory=dict)

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        rank = config.ranks.get(layer.path, config.rank)
        self.a, self.b = gaussian(rank, layer.shape[1]), zeros(layer.shape[0], rank)
        self.keep("mask", torch.rand(layer.shape) < 0.5)
        self.keep("places", torch.randint(0, 1000, (3,)))
        self.remember("score", torch.rand(rank))
        pool.keep("order", torch.arange(4, dtype=torch.int16)) if "order" not in pool else None
        pool.remember("seen", torch.zeros(())) if "seen" not in pool else None

    @classmethod
    def size(cls, config, layer):
        return config.ranks.get(layer.path, config.rank) * sum(layer.shape)

    @classmethod
    def stored_size(cls, config, layers):
        return super().stored_size(config, layers) + 4 + sum(layer.shape[0] * layer.shape[1] + 3 for layer in layers)

    @classmethod
    def compact(cls, config, pieces):
        """Only the first rank of `fc1` is left."""
        ranks = {path: 1 if path.endswith("fc1") else len(piece.a) for path, piece in pieces.items()}
        cut = {path: piece.stored() | {"a": piece.a[: ranks[path]], "b": piece.b[:, : ranks[path]]} for path, piece in pieces.items()}
        return replace(config, ranks=ranks), cut

    def delta(self, w):
        return self.mask * (self.b @ self.a)


@pytest.fixture
def masked():
    with planted(Masked):
        model = recognizer()
        yield model, model.adapt("planted", name="a", where="decoder.layers.0.fc{1,2}", rank=3)


def test_what_is_kept_is_in_the_file_in_its_own_dtype_and_not_counted_as_trained(masked, tmp_path):
    model, adapter = masked
    held = load_file(adapter.save(tmp_path / "a") / TENSORS)
    assert held["sites.decoder.layers.0.fc1.mask"].dtype == torch.bool and held["shared.order"].dtype == torch.int16
    assert held["sites.decoder.layers.0.fc1.places"].dtype == torch.int64
    assert adapter.trained_parameters() == adapter.formula_size() == 2 * 3 * (16 + 32)
    assert all(p.is_floating_point() for p in adapter.parameters())


def test_what_is_remembered_of_training_is_in_checkpoints_and_not_in_the_file(masked, tmp_path):
    _, adapter = masked
    held = load_file(adapter.save(tmp_path / "a") / TENSORS)
    assert not any(name.endswith(("score", "seen")) for name in held)
    assert {"pieces.decoder/layers/0/fc1.score", "pool.seen"} <= set(adapter.state_dict())


def test_ranks_that_differ_by_layer_come_back_from_the_file(masked, tmp_path):
    model, adapter = masked
    folder = adapter.save(tmp_path / "a")
    held = load_file(folder / TENSORS)
    back = model.adapters.load(folder, name="b")
    pieces = back.by_path()
    assert back.config.ranks == {"decoder.layers.0.fc1": 1, "decoder.layers.0.fc2": 3}
    assert pieces["decoder.layers.0.fc1"].a.shape == (1, 16) and pieces["decoder.layers.0.fc2"].a.shape == (3, 32)
    assert all(torch.equal(tensor, held[name]) for name, tensor in back.tensors()[1].items())
    assert sum(t.numel() for t in held.values()) == Masked.stored_size(back.config, list(back.layers.values()))


@pytest.mark.parametrize("name", ["sites.decoder.layers.0.fc1.places", "sites.decoder.layers.0.fc1.a"])
def test_numbers_of_another_kind_than_the_method_holds_are_refused(masked, tmp_path, name):
    model, adapter = masked
    folder = adapter.save(tmp_path / "a")
    held = load_file(folder / TENSORS)
    save_file({n: (t.float() + 0.5 if not t.is_floating_point() else t.int()) if n == name else t for n, t in held.items()}, folder / TENSORS)
    report = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({key: value for key, value in report.items() if key != "digest"}))
    with pytest.raises(BadAdapter, match="wrong kind"):
        model.adapters.load(folder, name="b")


# -- drawn -------------------------------------------------------------------------------------------------------------
def test_a_draw_is_the_same_on_every_machine():
    """Numbers written down once: they follow from Philox's bits by exact arithmetic."""
    assert draw(1, "a", (2, 3)).flatten().tolist() == DRAWN["normal"]
    assert draw(1, "a", (4,), "uniform").tolist() == DRAWN["uniform"]
    assert draw(1, "a", (8,), "signs").tolist() == DRAWN["signs"]
    assert sorted(set(draw(1, "a", (64,), "ternary").tolist())) == [-float(torch.tensor(3.0).sqrt()), 0.0, float(torch.tensor(3.0).sqrt())]


DRAWN = {
    "normal": [-0.2155020385980606, -0.9167954921722412, -0.38900840282440186, 1.7367815971374512, -0.3371811509132385, -1.1687431335449219],
    "uniform": [-0.9012631177902222, -0.7179529666900635, -0.9708627462387085, -0.2560429573059082],
    "signs": [-1.0, -1.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0],
}


@pytest.mark.parametrize("how, variance", [("normal", 1.0), ("uniform", 1 / 3), ("signs", 1.0), ("ternary", 1.0)])
def test_a_draw_has_mean_zero_and_the_variance_it_says(how, variance):
    drawn = draw(3, "big", (200, 200), how)
    assert abs(float(drawn.mean())) < 0.02 and abs(float(drawn.var()) - variance) < 0.02
    assert abs(float((drawn[0] * drawn[1]).mean())) < 0.3 and not torch.equal(drawn, draw(4, "big", (200, 200), how))


def test_a_smaller_draw_is_a_part_of_the_larger():
    large = draw(0, "k", (7, 9))
    assert torch.equal(draw(0, "k", (3, 9)), large[:3]) and torch.equal(draw(0, "k", (7, 4)), large[:, :4])


class Drawn(LayerAdapter):
    kinds = ("linear",)

    @dataclass(frozen=True)
    class Config:
        seed: int = 0

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.v = zeros(layer.shape[0])

    @classmethod
    def size(cls, config, layer):
        return layer.shape[0]

    def basis(self):
        out, inp = self.pool.largest()
        return self.pool.drawn("basis", out, inp, seed=self.config.seed, like=self.v)

    def delta(self, w):
        return self.v[:, None] * self.basis()[: w.shape[0], : w.shape[1]]


def test_what_is_drawn_is_of_the_adapters_largest_layer_stored_nowhere_and_one_for_adapters_of_a_seed(tmp_path):
    with planted(Drawn):
        model = recognizer().float()
        one, two, other = (model.adapt("planted", name=n, where="fc1,fc2", seed=seed) for n, seed in (("a", 0), ("b", 0), ("c", 1)))
        first = [adapter.pieces_of("planted")[0].basis() for adapter in (one, two, other)]
        assert first[0].shape == (32, 32) and first[0] is first[1] and not torch.equal(first[0], first[2])
        assert not any("basis" in name for name in [*one.state_dict(), *one.tensors()[1]])
        assert one.pool.layers == tuple(one.layers.values())
        twin = copy.deepcopy(one.pool)
        assert torch.equal(twin.drawn("basis", 32, 32, seed=0, like=torch.zeros(())), first[0])
