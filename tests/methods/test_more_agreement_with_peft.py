"""DoRA, VeRA, RandLoRA, OFT, BOFT and AdaLoRA give the numbers that Hugging Face `peft` gives for the same tensors on the
same tiny Whisper. (Its folders are not read for these; the tensors are put into its model one by one.)"""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch.testing import assert_close

from tests.methods.cases import perturb, recognizer
from tests.methods.test_agreement_with_peft import given, our_logits

peft = pytest.importorskip("peft", reason="peft is in the extra `test`")
WHERE = ["q_proj", "fc1", "fc2"]


def dora(theirs, ours, layer):
    theirs.lora_A.a.weight.data, theirs.lora_B.a.weight.data = ours.a.data, ours.b.data
    theirs.lora_magnitude_vector.a.weight.data = (layer.matrix.norm(dim=1) + ours.m).detach()


def vera(theirs, ours, layer):
    out, inp = ours.pool.largest()
    draw = {"seed": ours.config.seed, "how": "uniform", "like": ours.d}
    theirs.vera_A["a"] = ours.pool.drawn("vera A", ours.config.rank, inp, **draw) * math.sqrt(6 / inp)
    theirs.vera_B["a"] = ours.pool.drawn("vera B", out, ours.config.rank, **draw) * math.sqrt(6 / ours.config.rank)
    theirs.vera_lambda_b.a.data, theirs.vera_lambda_d.a.data = ours.b.data, ours.d.data


def randlora(theirs, ours, layer):
    a, b = ours.bases()
    # Theirs lays A out with the rank first and B with the base first, so its pairs are others of the same random columns.
    theirs.randlora_A["a"], theirs.randlora_B["a"] = a[:, None], b.transpose(1, 2).flatten(1).view(b.shape)
    theirs.randlora_lambda.a.data, theirs.randlora_gamma.a.data = ours.lam.T.contiguous().data, ours.gamma.data


def oft(theirs, ours, layer):
    theirs.oft_R.a.weight.data = ours.q.data


def boft(theirs, ours, layer):
    skew = ours.q.new_zeros(*ours.q.shape[:2], ours.block, ours.block)
    row, column = torch.triu_indices(ours.block, ours.block, 1)
    skew[:, :, row, column] = 2 * ours.q.data  # theirs halves the difference from the transpose
    theirs.boft_R.a.data, theirs.boft_s.a.data = skew, (1 + ours.g.data)[:, None]


def adalora(theirs, ours, layer):
    theirs.lora_A.a.data, theirs.lora_B.a.data, theirs.lora_E.a.data = ours.q.data, ours.p.data, ours.lam.data[:, None]
    theirs.scaling["a"], theirs.ranknum.a.data = ours.s, torch.ones(1).double()


CASES = {
    "dora": (dora, {"rank": 3, "alpha": 5.0}, lambda: peft.LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=WHERE)),
    "vera": (vera, {"rank": 5}, lambda: peft.VeraConfig(r=5, target_modules=WHERE)),
    "randlora": (randlora, {"rank": 3, "alpha": 20.0}, lambda: peft.RandLoraConfig(r=3, randlora_alpha=20, target_modules=WHERE)),
    "oft": (oft, {"block": 4}, lambda: peft.OFTConfig(r=0, oft_block_size=4, use_cayley_neumann=False, target_modules=WHERE)),
    "boft": (boft, {"block": 4, "factors": 1}, lambda: peft.BOFTConfig(boft_block_size=4, boft_block_num=0, target_modules=WHERE)),
    "adalora": (adalora, {"rank": 4, "target": 2}, lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=WHERE)),
}


@pytest.mark.parametrize("name", CASES)
def test_peft_gives_the_same_numbers_for_the_same_tensors(name, monkeypatch):
    fill, settings, config = CASES[name]
    if name == "boft":
        monkeypatch.setattr("peft.tuners.boft.layer.get_fbd_cuda", lambda: None)  # it would try to compile an extension
    model = recognizer()
    adapter = perturb(model.adapt(name, name="a", where=WHERE, **settings)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(recognizer().base, config(), adapter_name="a").double().eval()
    modules = dict(theirs.base_model.model.named_modules())
    with torch.no_grad():
        for path, piece in adapter.by_path().items():
            fill(modules[f"model.{path}"], piece, adapter.layers[path])
        want = theirs.base_model.model(**given()).logits
    assert (want - our_logits(model, None)).abs().max() > 1e-2
    assert_close(our_logits(model, "a"), want, atol=2e-4 if name == "adalora" else 1e-6, rtol=1e-4 if name == "adalora" else 1e-5)
