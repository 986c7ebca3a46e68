"""Plans do what they say: starts from data, gradients at hand, losses that a pass leaves, budgets that fall; resumed runs too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from asrpeft.methods import Facts, LayerAdapter, Plan
from asrpeft.methods.base import gaussian, zeros
from asrpeft.methods.layers import layer_of
from asrpeft.training import TrainingData, checkpoints, train
from tests.bases import tiny_recognizer
from tests.methods.cases import LAYERS, make_layer
from tests.methods.planted import planted
from tests.training.tones import options, tones


def run(model, name="x", corpus=None, **changes):
    keep = {key: changes.pop(key) for key in ("checkpoint", "resume") if key in changes}
    return train(model, name, TrainingData(corpus or tones(8), model.prompt(lang="en")), options=options(**changes), **keep)


class Probe(LayerAdapter):
    """ΔW = B A, which tells what its plan saw, and adds to the loss how large its output is."""

    kinds = ("linear",)
    where = "decoder.layers.0.fc1,encoder.layers.0.fc1"
    seen: dict = {}
    weigh = 0.0
    sizes: list = []

    def __init__(self, layer, config, pool):
        super().__init__(layer, config, pool)
        self.a, self.b = gaussian(2, layer.shape[1]), zeros(layer.shape[0], 2)
        self.keep("start", torch.zeros(layer.shape))

    @classmethod
    def size(cls, config, layer):
        return 2 * sum(layer.shape)

    @classmethod
    def stored_size(cls, config, layers):
        return super().stored_size(config, layers) + sum(layer.shape[0] * layer.shape[1] for layer in layers)

    @classmethod
    def plan(cls, config):
        class Look(Plan):
            def before(self, adapter, passes):
                cls.seen |= {"moments": passes.moments(2), "gradients": passes.gradients(2), "calls": cls.seen.get("calls", 0) + 1}
                for path, piece in adapter.by_path().items():
                    piece.start.copy_(cls.seen["gradients"][path])

        return Look()

    def delta(self, w):
        return self.b @ self.a

    def forward(self, x, y, layer):
        y = super().forward(x, y, layer)
        self.sizes.append(float(y.detach().square().mean()))
        if self.weigh:
            self.add_loss(self.weigh * y.square().mean())
        return y


@pytest.fixture
def probe():
    Probe.seen, Probe.weigh = {}, 0.0
    with planted(Probe):
        model = tiny_recognizer()
        torch.manual_seed(0)
        yield model, model.adapt("planted", name="x", lang="en")


def test_a_start_is_made_from_inputs_and_gradients_of_the_frozen_layers(probe):
    model, adapter = probe
    before = {n: t.clone() for n, t in model.base.state_dict().items()}
    run(model, steps=1)
    path = "decoder.layers.0.fc1"
    c, g = Probe.seen["moments"][path], Probe.seen["gradients"][path]
    assert c.shape == (16, 16) and g.shape == (32, 16) and g.abs().max() > 1e-4
    assert_close(c, c.T) and bool((torch.linalg.eigvalsh(c) > -1e-5).all())
    assert_close(adapter.by_path()[path].start, g)
    assert all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items()) and not any(p.requires_grad for p in model.base.parameters())
    assert not any(m._forward_hooks for n, m in model.base.named_modules() if "fc2" in n)


def test_the_gradient_of_a_frozen_weight_is_the_one_that_training_it_would_give(probe):
    """The method `full` trains a ΔW of every weight: from the same pass its first gradient must be what the passes tell."""
    model, _ = probe
    run(model, steps=1)
    result = Probe.seen["gradients"]
    full = tiny_recognizer()
    adapter = full.adapt("full", name="x", where=Probe.where, lang="en")
    data = {}

    class Keep(Plan):
        def before(self, adapter, passes):
            data.update(passes.gradients(2))

        def before_step(self, adapter, *, step, progress):
            data["step"] = {path: piece.dw.grad.clone() for path, piece in adapter.by_path().items()}

    type(adapter.pieces_of("full")[0]).plan, kept = classmethod(lambda cls, config: Keep()), adapter.method.plan
    try:
        run(full, steps=1, clip=0.0)
    finally:
        adapter.method.plan = kept
    for path in result:
        assert_close(data[path], result[path])
        ratio = data["step"][path] / result[path]
        assert float(torch.nn.functional.cosine_similarity(data["step"][path].flatten(), result[path].flatten(), dim=0)) > 0.5, ratio


def test_a_resumed_run_makes_no_second_start(probe, tmp_path):
    model, adapter = probe
    run(model, steps=2, checkpoint=tmp_path / "a")
    assert Probe.seen["calls"] == 1
    found = checkpoints.read(tmp_path / "a")
    found.state.finished = False
    values = {n: t for n, t in adapter.state_dict().items()}
    checkpoints.write(
        tmp_path / "a",
        found.state,
        adapter=adapter,
        optimizer=torch.optim.AdamW(adapter.parameters()),
        parts={},
        options=found.options,
        identity=found.identity,
    )
    run(model, steps=2, checkpoint=tmp_path / "a", resume=True)
    assert Probe.seen["calls"] == 1 and all(torch.equal(t, values[n]) for n, t in adapter.state_dict().items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_loss_that_a_pass_leaves_is_counted_once_and_pulls(probe, checkpointing):
    sizes = []
    for weigh in (0.0, 30.0):
        Probe.weigh = weigh
        model = tiny_recognizer()
        torch.manual_seed(0)
        model.adapt("planted", name="x", lang="en")
        run(model, steps=12, lr=0.02, gradient_checkpointing=checkpointing)
        sizes.append(sum(Probe.sizes[-4:]))
    assert sizes[1] < 0.8 * sizes[0]


def test_a_loss_added_outside_training_goes_nowhere(probe):
    model, adapter = probe
    Probe.weigh = 1.0
    with model.route("x"):
        model.adapters.layers[next(iter(adapter.layers))].module(torch.ones(1, 1, 16)).sum().backward()


def test_rates_and_decay_are_the_methods_own_by_parameter():
    from asrpeft.training.optimizer import optimizer_for

    class Plus(Probe):
        @classmethod
        def facts(cls, config, name):
            return Facts(rate=16.0, decay=0.0) if name == "b" else Facts(decay=0.5) if name == "a" else Facts()

    with planted(Plus):
        model = tiny_recognizer()
        adapter = model.adapt("planted", name="x", lang="en")
        optimizer = optimizer_for(dict(adapter.named_parameters()), options(weight_decay=0.1), lr=1e-3, facts=adapter.facts)
        found = {id(p): (g["peak"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
        for piece in adapter.pieces_of("planted"):
            assert found[id(piece.b)] == (0.016, 0.0) and found[id(piece.a)] == (1e-3, 0.05)


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if isinstance(getattr(make_layer(kind).module, "weight", None), Tensor)])
def test_a_layers_dense_gradient_is_autograds(kind):
    torch.manual_seed(0)
    layer = make_layer(kind)
    x = LAYERS[kind][2]()
    layer.module.requires_grad_(True)
    y = layer.module(x)
    g = torch.randn_like(y)
    (y * g).sum().backward()
    want = layer.module.weight.grad
    layer.module.requires_grad_(False)
    assert_close(layer.gradient(x, g), layer_of(layer.path, _holding(layer.module, want)).matrix, atol=1e-5, rtol=1e-4)


def _holding(module, weight):
    import copy

    twin = copy.deepcopy(module)
    twin.weight = torch.nn.Parameter(weight.clone())
    return twin


@pytest.mark.parametrize("kind", ["linear", "strided conv1d"])
def test_the_columns_of_a_layer_are_what_its_matrix_multiplies(kind):
    torch.manual_seed(0)
    layer = make_layer(kind)
    x = LAYERS[kind][2]()
    y = layer.run(x, layer.matrix)
    y = y if kind == "linear" else y.mT
    assert_close(layer.columns(x) @ layer.matrix.T, y.flatten(0, 1))


# -- AdaLoRA -----------------------------------------------------------------------------------------------------------
def adalora(steps, tmp_path=None, **keep):
    model = tiny_recognizer()
    torch.manual_seed(0)
    adapter = model.adapt("adalora", name="x", lang="en", where="attention", rank=4, target=2, warmup=0.1, final=0.3)
    run(model, steps=steps, lr=0.02, **keep)
    return model, adapter


def saved_with_its_ranks(model, adapter, folder):
    """The adapter as its file gives it back, under the name b: the ranks that are left, and nothing else has changed."""
    back = model.adapters.load(adapter.save(folder / "a"), name="b")
    assert back.config.ranks == adapter.method.report(adapter.by_path())["rank_by_layer"]
    assert back.trained_parameters() == back.formula_size() < adapter.trained_parameters()
    features, tokens = torch.randn(1, 8, 80), torch.randint(0, 60, (1, 5))
    with torch.no_grad():
        a, b = (model(features, torch.tensor([40]), tokens, route=name).logits for name in ("x", "b"))
    assert_close(a, b)
    return back


def test_adaloras_ranks_fall_to_the_budget_and_the_file_holds_what_is_left(tmp_path):
    model, adapter = adalora(12)
    ranks = adapter.method.report(adapter.by_path())["rank_by_layer"]
    assert sum(ranks.values()) == 2 * len(ranks) and len(set(ranks.values())) > 1, "the budget is spent where it matters"
    assert saved_with_its_ranks(model, adapter, tmp_path).config.ranks == ranks


def test_an_interrupted_adalora_goes_on_to_the_same_ranks(tmp_path):
    from asrpeft.training import loop

    _, whole = adalora(10)
    taken = []
    original = loop.Run.step

    def step(self, data):
        original(self, data)
        taken.append(self.state.step)
        if len(taken) == 6:
            raise KeyboardInterrupt

    loop.Run.step = step
    try:
        with pytest.raises(KeyboardInterrupt):
            adalora(10, checkpoint=tmp_path / "run", checkpoint_s=0)
    finally:
        loop.Run.step = original
    _, resumed = adalora(10, checkpoint=tmp_path / "run", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


# -- LoRA-GA -----------------------------------------------------------------------------------------------------------
def test_lora_ga_starts_in_the_gradients_directions_and_changes_nothing_by_it(tmp_path):
    model = tiny_recognizer()
    torch.manual_seed(0)
    adapter = model.adapt("lora_ga", name="x", lang="en", where="fc1", rank=3, batches=2)
    seen = {}

    class Look(type(adapter.plan())):
        def before(self, adapter, passes):
            seen["gradients"] = passes.gradients(2)
            super().before(adapter, passes)
            seen["moved"] = max(float(piece.delta(None).detach().abs().max()) for piece in adapter.pieces_of("lora_ga"))

    kept = adapter.method.plan
    adapter.method.plan = classmethod(lambda cls, config: Look(config))
    try:
        run(model, steps=1, lr=1e-6)
    finally:
        adapter.method.plan = kept
    assert seen["moved"] == 0.0
    for path, piece in adapter.by_path().items():
        u, _, v = torch.linalg.svd(seen["gradients"][path], full_matrices=False)
        c = 32**0.25 / 4
        assert_close((piece.a0 / c) @ v[:3].T, torch.eye(3), atol=1e-4, rtol=0.0)
        assert_close((piece.b0 / c).T @ u[:, 3:6], torch.eye(3), atol=1e-4, rtol=0.0)
    back = model.adapters.load(adapter.save(tmp_path / "a"), name="b")
    assert all(torch.equal(t, adapter.state_dict()[n]) for n, t in back.state_dict().items())
