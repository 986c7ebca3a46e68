"""LoKr, FourierFT, HRA, RoAd, LN tuning, C3A, MiSS, HiRA, DeLoRA, GraLoRA, WaveFT and PiSSA against Hugging Face `peft`: the same
outputs and the same gradients for the same tensors; and what single methods promise beyond the common tests."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.testing import assert_close

from asrpeft.adapters.peft_format import write_peft
from asrpeft.errors import BadInput
from asrpeft.methods import Pool, configure, method
from tests.methods.cases import make_layer, perturb, recognizer
from tests.methods.test_agreement_with_peft import given, our_logits, ours, peft_logits

peft = pytest.importorskip("peft", reason="peft is in the extra `test`")
WHERE = ["q_proj", "fc1", "fc2"]


def set_to(theirs: dict, name: str, tensor: torch.Tensor) -> torch.nn.Parameter:
    theirs[name] = torch.nn.Parameter(tensor.detach().clone())
    return theirs[name]


def lokr(theirs, piece, layer):
    d = [(theirs.lokr_w2, piece.d)] if piece.d1 is None else [(theirs.lokr_w2_a, piece.d1), (theirs.lokr_w2_b, piece.d2)]
    return [(set_to(held, "a", own), own, lambda g: g) for held, own in [(theirs.lokr_w1, piece.c), *d]]


def fourierft(theirs, piece, layer):
    theirs.indices["a"] = torch.stack([piece.at // layer.shape[1], piece.at % layer.shape[1]])
    return [(set_to(theirs.fourierft_spectrum, "a", piece.c), piece.c, lambda g: g)]


def hra(theirs, piece, layer):
    return [(set_to(theirs.hra_u, "a", piece.u.T), piece.u, lambda g: g.T)]


def road(theirs, piece, layer):
    pairs = (theirs.road_theta, piece.theta, 0), (theirs.road_alpha, piece.g, 1)
    return [(set_to(held, "a", own + at), own, lambda g: g) for held, own, at in pairs]


def ln(theirs, piece, layer):
    norm = theirs.ln_tuning_layers["a"]
    norm.weight.data, norm.bias.data = (layer.module.weight + piece.dw).detach(), (layer.module.bias + piece.db).detach()
    return [(norm.weight, piece.dw, lambda g: g), (norm.bias, piece.db, lambda g: g)]


def c3a(theirs, piece, layer):
    return [(set_to(theirs.c3a_kernel, "a", piece.c), piece.c, lambda g: g)]


def miss(theirs, piece, layer):
    return [(set_to(theirs.miss_block, "a", piece.b), piece.b, lambda g: g)]


def hira(theirs, piece, layer):
    return [(set_to(held, "a", own), own, lambda g: g) for held, own in ((theirs.hira_A, piece.a), (theirs.hira_B, piece.b))]


def delora(theirs, piece, layer):
    same = (theirs.delora_A, piece.a), (theirs.delora_B, piece.b), (theirs.delora_lambda, piece.length)
    return [(set_to(held, "a", own), own, lambda g: g) for held, own in same]


def gralora(theirs, piece, layer):
    """Theirs has a block's factors beside those of the same input block, and those of the same output block."""

    def of_a(a):  # (out blocks, in blocks, rank, in) -> (in blocks, in, out blocks · rank)
        return a.permute(1, 3, 0, 2).flatten(2)

    def of_b(b):  # (out blocks, in blocks, out, rank) -> (out blocks, in blocks · rank, out)
        return b.transpose(2, 3).flatten(1, 2)

    return [(set_to(theirs.gralora_A, "a", of_a(piece.a)), piece.a, of_a), (set_to(theirs.gralora_B, "a", of_b(piece.b)), piece.b, of_b)]


def waveft(theirs, piece, layer):
    theirs.waveft_indices["a"] = torch.stack([piece.at // layer.shape[1], piece.at % layer.shape[1]])
    return [(set_to(theirs.waveft_spectrum, "a", piece.c), piece.c, lambda g: g)]


def started(theirs, piece, layer):
    """Their base keeps the residual that their start leaves; with the same vectors but for signs, so does ours."""
    theirs_start = theirs.lora_B.a.weight @ theirs.lora_A.a.weight
    assert_close(theirs_start, piece.b0 @ piece.a0, atol=1e-5, rtol=1e-5)
    theirs.lora_A.a.weight.data, theirs.lora_B.a.weight.data = piece.a.detach().clone(), piece.b.detach().clone()
    return [(theirs.lora_A.a.weight, piece.a, lambda g: g), (theirs.lora_B.a.weight, piece.b, lambda g: g)]


CASES = {
    "lokr, a product": ("lokr", lokr, {"rank": 1, "alpha": 3.0}, lambda: peft.LoKrConfig(r=1, alpha=3, target_modules=WHERE)),
    "lokr, a whole matrix": ("lokr", lokr, {"rank": 4, "alpha": 3.0}, lambda: peft.LoKrConfig(r=4, alpha=3, target_modules=WHERE)),
    "fourierft": ("fourierft", fourierft, {"coefficients": 30}, lambda: peft.FourierFTConfig(n_frequency=30, scaling=150.0, target_modules=WHERE)),
    "hra": ("hra", hra, {"rank": 4}, lambda: peft.HRAConfig(r=4, target_modules=WHERE)),
    "road 1": ("road", road, {"group": 4}, lambda: peft.RoadConfig(variant="road_1", group_size=4, target_modules=WHERE)),
    "road 2": ("road", road, {"group": 8, "entries": 2}, lambda: peft.RoadConfig(variant="road_2", group_size=8, target_modules=WHERE)),
    "road 4": ("road", road, {"group": 4, "entries": 4}, lambda: peft.RoadConfig(variant="road_4", group_size=4, target_modules=WHERE)),
    "ln": ("ln", ln, {"where": "*final_layer_norm"}, lambda: peft.LNTuningConfig(target_modules=r".*final_layer_norm")),
    "c3a": ("c3a", c3a, {"block": 8}, lambda: peft.C3AConfig(block_size=8, target_modules=WHERE)),
    "miss": ("miss", miss, {"rank": 3}, lambda: peft.MissConfig(r=3, target_modules=WHERE)),
    "miss, weighted": ("miss", miss, {"rank": 4, "weighted": True}, lambda: peft.MissConfig(r=4, init_weights="bat", target_modules=WHERE)),
    "hira": ("hira", hira, {"rank": 3, "alpha": 3.0}, lambda: peft.HiraConfig(r=3, target_modules=WHERE)),
    "delora": ("delora", delora, {"rank": 3}, lambda: peft.DeloraConfig(r=3, target_modules=WHERE)),
    "gralora": (
        "gralora",
        gralora,
        {"rank": 4, "blocks": 2, "alpha": 6.0},
        lambda: peft.GraloraConfig(r=4, gralora_k=2, alpha=6, hybrid_r=0, target_modules=WHERE),
    ),
    "waveft": (
        "waveft",
        waveft,
        {"coefficients": 60, "scale": 3.0},
        lambda: peft.WaveFTConfig(n_frequency=60, scaling=3.0, wavelet_family="db1", target_modules=WHERE),
    ),
    "pissa": (
        "lora",
        started,
        {"rank": 3, "alpha": 5.0, "start": "pissa"},
        lambda: peft.LoraConfig(r=3, lora_alpha=5, init_lora_weights="pissa", target_modules=WHERE),
    ),
    "olora": (
        "lora",
        started,
        {"rank": 3, "alpha": 5.0, "start": "olora"},
        lambda: peft.LoraConfig(r=3, lora_alpha=5, init_lora_weights="olora", target_modules=WHERE),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_peft_gives_the_same_outputs_and_gradients_for_the_same_tensors(case):
    name, fill, settings, config = CASES[case]
    model = recognizer()
    adapter = perturb(model.adapt(name, name="a", **{"where": WHERE} | settings), by=0.1).double()
    base = recognizer().base.float()  # their starts refuse double precision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(base, config(), adapter_name="a").double().eval()
    modules = dict(theirs.base_model.model.named_modules())
    same = [pair for path, piece in adapter.by_path().items() for pair in fill(modules[f"model.{path}"], piece, adapter.layers[path])]
    want = theirs.base_model.model(**given()).logits
    with model.route("a"):
        got = model.base(**given()).logits
    assert (want - our_logits(model, None)).abs().max() > 1e-2
    in_float32 = {"fourierft": 2e-5, "lora": 2e-5, "waveft": 2e-5, "delora": 2e-5, "c3a": 2e-4}
    rough = {"atol": in_float32[name], "rtol": 2e-4} if name in in_float32 else {"atol": 1e-7, "rtol": 1e-6}
    assert_close(got, want, **rough)
    for logits in (got, want):
        logits.square().mean().backward()
    assert len(same) >= len(adapter.by_path()) > 0
    for their, our, shaped in same:
        assert our.grad.abs().max() > 0
        assert_close(shaped(our.grad), their.grad, **rough)


@pytest.mark.parametrize("settings", [{"start": "pissa"}, {"start": "olora", "scale": "rs", "train": "B"}, {"train": "B"}], ids=lambda s: "-".join(s.values()))
def test_a_lora_with_a_start_is_written_for_peft_as_the_plain_lora_that_it_is(settings, tmp_path):
    model, adapter = ours("lora", {"where": "attention,conv", "rank": 3, "alpha": 5.0} | settings)
    write_peft(adapter, tmp_path / "a")
    assert_close(peft_logits(tmp_path / "a"), our_logits(model, "a"), atol=1e-5, rtol=1e-5)


def test_pissa_starts_at_the_leading_singular_vectors_and_its_residual_is_the_rest():
    layer = make_layer("linear")
    piece = method("lora")(layer, configure(method("lora"), {"rank": 2, "start": "pissa"}), Pool([layer]))
    left = torch.linalg.svdvals(layer.matrix)
    assert_close(torch.linalg.svdvals(layer.matrix - piece.s * piece.b @ piece.a)[:3], left[2:5], atol=1e-5, rtol=1e-5)


def test_reflections_start_in_pairs_so_an_odd_number_is_refused():
    with pytest.raises(BadInput, match="hra: rank=3 is odd.*4 would work"):
        configure(method("hra"), {"rank": 3})


def test_ether_is_a_reflection_whatever_its_vectors_are():
    layer = make_layer("linear")
    piece = method("ether")(layer, configure(method("ether"), {"blocks": 2}), Pool([layer]))
    for by in (0.0, 10.0):
        turned = perturb(piece, by=by).merged(torch.eye(8), None)[0].detach()
        assert_close(turned @ turned.T, torch.eye(8), atol=1e-5, rtol=0)
        assert_close((turned - torch.eye(8)).norm(), torch.tensor(8.0).sqrt())  # 2 a block, wherever its plane lies


@pytest.mark.parametrize("how", ["fastfood", "shared"])
def test_the_columns_of_the_random_subspace_have_length_one(how):
    layer = make_layer("strided conv1d")
    pool = Pool([layer])
    piece = method("intrinsic")(layer, configure(method("intrinsic"), {"dimensions": 64, "how": how, "structured": False}), pool)
    columns = []
    for unit in torch.eye(64):
        pool["z"].data.copy_(unit)
        columns.append(piece.moved(8 * 24).detach())
    p = torch.stack(columns)
    assert 0.8 < float(p.square().sum(dim=1).mean()) < 1.25
    assert torch.linalg.matrix_rank(p) >= 60


@torch.no_grad()
def test_rows_of_lamda_freeze_one_after_the_other_whatever_the_optimizer_does():
    adapter = recognizer().adapt("lamda", name="a", rank=3)
    plan = method("lamda").plan(configure(method("lamda"), {"rank": 3, "freeze": 0.5}))
    b = adapter.pieces_of("lamda")[0].b
    for progress, frozen in ((0.0, 0), (0.25, len(b) // 2), (0.5, len(b)), (1.0, len(b))):
        for parameter in adapter.parameters():
            parameter.grad = torch.ones_like(parameter)
        plan.before_step(adapter, step=0, progress=progress)
        assert int((b.grad == 0).all(dim=1).sum()) == frozen
        before = b.clone()
        b.add_(1.0)
        plan.after_step(adapter, step=0, progress=progress, lr=0.1)
        assert torch.equal(b[:frozen], before[:frozen]) and torch.equal(b[frozen:], before[frozen:] + 1)


def test_pmss_takes_columns_that_span_the_weight_and_curlora_rather_the_unimportant_ones():
    layer = make_layer("linear without bias")
    layer.module.weight.data = torch.diag(torch.tensor([1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0]))
    layer.module.weight.data[:, 0] = layer.module.weight.data[:, 1]  # large, and in the span of another
    made = {name: method(name)(layer, configure(method(name), {"rank": 3}), Pool([layer])) for name in ("pmss", "curlora")}
    assert sorted(made["pmss"].column_at.tolist()) in ([0, 3, 5], [1, 3, 5])
    chosen = [method("curlora")(layer, configure(method("curlora"), {"rank": 3, "seed": seed}), Pool([layer])).column_at for seed in range(40)]
    times = torch.cat(chosen).bincount(minlength=8)
    assert times[2] > times[1] and times[2] > times[3], "the lightest column is taken more often than the heaviest"
