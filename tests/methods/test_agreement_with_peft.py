"""LoRA, LoHa and IA3 give the numbers that Hugging Face `peft` gives for the same tensors on the same tiny Whisper.

Both ways: a folder that we wrote and `peft` loads, and a folder that `peft` wrote and we load.
"""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.peft_format import CARRIED, CONFIG, PICKLE, TENSORS, read_peft, write_peft
from asrpeft.errors import BadAdapter, BadInput, Failure, WrongBase
from asrpeft.recognizer import Recognizer
from tests.methods.cases import perturb, recognizer

peft = pytest.importorskip("peft", reason="peft is in the extra `test`")

CASES = {
    "lora on linear": ("lora", {"where": "attention,ff", "rank": 3, "alpha": 5.0}),
    "lora on convolutions": ("lora", {"where": "conv", "rank": 3, "alpha": 5.0}),
    "lora on the embedding": ("lora", {"where": "embedding", "rank": 3, "alpha": 5.0, "head": False}),
    "rank-stabilized lora": ("lora", {"where": "all", "rank": 4, "alpha": 6.0, "scale": "rs", "head": False}),
    "lora from the weight's singular vectors": ("lora", {"where": "attention,conv", "rank": 3, "alpha": 5.0, "start": "pissa"}),
    "rank-stabilized lora from its columns": ("lora", {"where": "ff", "rank": 3, "alpha": 5.0, "start": "olora", "scale": "rs"}),
    "loha on linear": ("loha", {"where": "attention", "rank": 3, "alpha": 6.0}),
    "loha on convolutions": ("loha", {"where": "conv,fc1", "rank": 3, "alpha": 6.0}),
    "ia3 on keys, values and the second feed-forward's input": ("ia3", {}),
    "ia3 on other linear layers": ("ia3", {"where": "q_proj,fc1"}),
}


def given() -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(5)
    return {"input_features": torch.randn(3, 8, 80, generator=noise, dtype=torch.float64), "decoder_input_ids": torch.randint(0, 60, (3, 6), generator=noise)}


def peft_logits(folder) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns about tied embeddings
        model = peft.PeftModel.from_pretrained(recognizer().base, folder).double().eval()
    for module in model.modules():
        # `transformers` asks the encoder's convolutions for their stride, which peft's wrapper of them does not have.
        if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer) and isinstance(module.get_base_layer(), torch.nn.Conv1d):
            module.stride = module.get_base_layer().stride
    with torch.no_grad():
        return model.base_model.model(**given()).logits


def our_logits(model, route) -> torch.Tensor:
    with torch.no_grad(), model.route(route):
        return model.base(**given()).logits


def ours(method: str, settings: dict):
    model = recognizer()
    adapter = perturb(model.adapt(method, name="a", **settings)).double()
    adapter.float().double()
    return model, adapter


@pytest.mark.parametrize("case", CASES)
def test_peft_gives_the_same_numbers_for_what_we_write(case, tmp_path):
    model, adapter = ours(*CASES[case])
    theirs = peft_logits(write_peft(adapter, tmp_path / "a"))
    assert (theirs - our_logits(model, None)).abs().max() > 1e-2
    assert_close(our_logits(model, "a"), theirs, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_what_we_wrote_comes_back_exactly(case, tmp_path):
    model, adapter = ours(*CASES[case])
    write_peft(adapter, tmp_path / "a")
    back = read_peft(model.adapters, tmp_path / "a", name="b", language="sw", context="auto")
    assert back.manifest.language == "sw" and back.manifest.context == "auto" and back.manifest.training["base_model_name_or_path"] == "tiny"
    assert set(back.layers) == set(adapter.layers)
    back.double()
    assert_close(our_logits(model, "b"), our_logits(model, "a"), atol=1e-12, rtol=1e-10)
    back.save(tmp_path / "native")
    assert model.adapters.load(tmp_path / "native", name="c").manifest.method == adapter.manifest.method


SAID = {"language": "sw", "task": "translate", "context": "auto", "parent": "p", "training": {"steps": 7}, "scores": {"after": {"wer": 0.1}}}


def carried(tmp_path):
    """A folder that peft can load, written from an adapter with a CTC head of which much is known."""
    model = recognizer()
    adapter = perturb(model.adapt("lora", name="a", where="attention", rank=3))
    adapter.ctc = CTCHead.for_texts(model.base.config.d_model, ["habari"])
    model.adapters.describe("a", **SAID)
    return model, adapter, write_peft(adapter, tmp_path / "a")


def test_what_peft_has_no_place_for_comes_back_and_peft_loads_the_folder_still(tmp_path):
    model, adapter, folder = carried(tmp_path)
    assert torch.isfinite(peft_logits(folder)).all()
    back = read_peft(model.adapters, folder, name="b", language=None, task=None)
    values = {key: getattr(back.manifest, key) for key in SAID}
    assert values.pop("training") == {"steps": 7, "imported": "peft", "base_model_name_or_path": "tiny"}
    assert values.items() < SAID.items() and len(values) == 5
    assert back.ctc.vocabulary == adapter.ctc.vocabulary and torch.equal(back.ctc.weight, adapter.ctc.weight.float())
    assert model.adapters.load(back.save(tmp_path / "native"), name="c").manifest.scores == SAID["scores"]
    assert read_peft(model.adapters, folder, name="d", language="de", context="full").manifest.language == "de"


def test_scores_and_head_stay_behind_once_peft_has_written_other_weights_beside_them(tmp_path):
    model, _, folder = carried(tmp_path)
    save_file({name: tensor * 2 for name, tensor in load_file(folder / TENSORS).items()}, folder / TENSORS)
    back = read_peft(model.adapters, folder, name="b")
    assert (back.manifest.language, back.manifest.context) == ("sw", "auto") and back.manifest.scores == {} and back.ctc is None


def test_what_was_carried_from_another_base_or_is_damaged_is_refused(tmp_path):
    model, _, folder = carried(tmp_path)
    with torch.no_grad():
        model.base.model.encoder.conv1.weight += 1
    other = Recognizer(model.base, model.tokenizer, model.info)
    with pytest.raises(WrongBase, match="--force"):
        read_peft(other.adapters, folder, name="b")
    forced = read_peft(other.adapters, folder, name="b", force=True)
    assert forced.manifest.base_fingerprint == other.adapters.fingerprint
    (folder / "asrpeft_ctc.safetensors").write_bytes(b"?")
    with pytest.raises(BadAdapter, match="cannot be read"):
        read_peft(other.adapters, folder, name="c", force=True)
    for text in ("[", "[]", '{"task": 3}', '{"scores": "good"}', '{"base_fingerprint": "x"}'):
        (folder / CARRIED).write_text(text)
        with pytest.raises(BadAdapter, match="Delete it"):
            read_peft(other.adapters, folder, name="d", force=True)


def peft_made(config, folder):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(recognizer().base, config).double()
        perturb(model, 7)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float().double()
        model.save_pretrained(folder)
    return folder


THEIRS = {
    "lora, short names": lambda: peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj", "conv1", "conv2", "fc1"]),
    "lora, ranks and alphas by pattern": lambda: peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=["q_proj", "fc1"], rank_pattern={"fc1": 5}, alpha_pattern={r"decoder\..*\.q_proj": 9}
    ),
    "rs lora, ranks by pattern": lambda: peft.LoraConfig(r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "fc1"], rank_pattern={"q_proj": 1}),
    "lora on the embedding": lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=["embed_tokens", "fc2"]),
    "loha": lambda: peft.LoHaConfig(r=3, alpha=6, target_modules=["k_proj", "conv2"]),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"]),
}


@pytest.mark.parametrize("case", THEIRS)
def test_we_give_the_same_numbers_for_what_peft_writes(case, tmp_path):
    folder = peft_made(THEIRS[case](), tmp_path / "theirs")
    model = recognizer()
    read_peft(model.adapters, folder, name="a").double()
    want = peft_logits(folder)
    assert (want - our_logits(model, None)).abs().max() > 1e-2
    assert_close(our_logits(model, "a"), want, atol=1e-5, rtol=1e-4)


def test_an_adapter_that_changes_the_tied_head_is_not_written_as_if_peft_could_hold_it(tmp_path):
    _, adapter = ours("lora", {"where": "embedding", "rank": 2})
    with pytest.raises(BadInput, match="head=False"):
        write_peft(adapter, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "method, settings, why",
    [
        ("s2lora", {}, "not for s2lora"),
        ("ia3", {"where": "conv"}, "linear layers only"),
        ("loha", {"where": "embedding"}, "linear and convolution"),
        ("lora", {"where": "embed_positions"}, "peft cannot run|not for"),
    ],
)
def test_what_peft_has_not_is_refused(method, settings, why, tmp_path):
    _, adapter = ours(method, settings)
    with pytest.raises(BadInput, match=why):
        write_peft(adapter, tmp_path / "a")


def test_a_learned_language_vector_is_refused(tmp_path):
    adapter = recognizer().adapt("lora", name="a", lang="zz-unknown")
    with pytest.raises(BadInput, match="learned vector"):
        write_peft(adapter, tmp_path / "a")


def edit(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def spoil(folder, part, change):
    """Change all tensors of which `part` is in the name."""
    save_file({name: change(t) if part in name else t for name, t in load_file(folder / TENSORS).items()}, folder / TENSORS)


BROKEN = {
    "dora": (lambda f: edit(f, use_dora=True), "use_dora"),
    "biases": (lambda f: edit(f, bias="all"), "bias"),
    "pissa": (lambda f: edit(f, init_lora_weights="pissa_niter_4"), "pissa"),
    "whole modules": (lambda f: edit(f, modules_to_save=["proj_out"]), "modules_to_save"),
    "another type": (lambda f: edit(f, peft_type="VERA"), "VERA"),
    "no alpha": (lambda f: edit(f, lora_alpha=None), "cannot be used"),
    "a broken pattern": (lambda f: edit(f, alpha_pattern={"(": 1}), "no regular expression"),
    "patterns are a list": (lambda f: edit(f, alpha_pattern=[["fc1", 3]]), "alpha_pattern is not an object"),
    "patterns are text": (lambda f: edit(f, alpha_pattern="fc1"), "alpha_pattern is not an object"),
    "a pattern's alpha is a list": (lambda f: edit(f, alpha_pattern={"fc1": [3]}), "alpha_pattern.'fc1'. is no finite number"),
    "a pattern that takes years": (lambda f: edit(f, alpha_pattern={r"([\w.]+?)+?(?<=0)(?<=1)": 3}), "takes more than 1 s"),
    "a pattern that takes a terabyte": (lambda f: edit(f, alpha_pattern={"((a{9999}){9999}){9999}": 3}), "counts over 99"),
    "a pattern of nested counts": (lambda f: edit(f, alpha_pattern={"(((((a{99}){99}){99}){99}){99}){99}": 3}), "counts over 99"),
    "a pattern that calls itself": (lambda f: edit(f, alpha_pattern={"(?R)": 3}), "recursion"),
    "a pattern of two thousand letters": (lambda f: edit(f, alpha_pattern={"a" * 2000: 3}), "longer than 1,000"),
    "a million patterns": (lambda f: edit(f, alpha_pattern={str(n): 3 for n in range(2000)}), "2,000 patterns"),
    "alpha of 400 digits": (lambda f: edit(f, lora_alpha=10**400), "lora_alpha is no finite number"),
    "alpha is not a number": (lambda f: edit(f, lora_alpha=float("nan")), "lora_alpha is no finite number"),
    "alpha is text": (lambda f: edit(f, lora_alpha="16"), "lora_alpha is '16', which is no number"),
    "a scale beyond float32": (lambda f: edit(f, alpha_pattern={"fc1": 1e300}), "alpha is so large"),
    "dropout of 400 digits": (lambda f: edit(f, lora_dropout=10**400), "lora_dropout is no finite number"),
    "dropout is a list": (lambda f: edit(f, lora_dropout=[0.1]), "lora_dropout is no finite number"),
    "config fills memory": (lambda f: edit(f, target_modules=["fc1"] * 1_000_000), "1,000,0.. values"),
    "half of a surrogate pair": (lambda f: edit(f, base_model_name_or_path="\ud800"), "surrogates"),
    "A and B of different ranks": (lambda f: spoil(f, "lora_A", lambda a: a[:1].clone()), "A has rank 1 and B has rank 2"),
    "no rank": (lambda f: spoil(f, "lora_", lambda t: t[:0].clone() if t.shape[0] == 2 else t[:, :0].clone()), "A has rank 0"),
    "no config": (lambda f: (f / CONFIG).unlink(), CONFIG),
    "config is a list": (lambda f: (f / CONFIG).write_text("[]"), "not an object"),
    "cut short": (lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-50]), "cannot be read"),
    "a pickle": (lambda f: (f / TENSORS).rename(f / PICKLE), "pickle"),
    "an unknown tensor": (lambda f: save_file({"base_model.model.x.weight": torch.ones(2)}, f / TENSORS), "does not know"),
    "another base's layer": (lambda f: save_file({"base_model.model.model.decoder.layers.7.fc1.lora_A.weight": torch.ones(2)}, f / TENSORS), "does not have"),
    "another base's embedding": (
        lambda f: save_file({"base_model.model.model.decoder.embed_tokens.base_layer.weight": torch.ones(1573, 16)}, f / TENSORS),
        "another base",
    ),
    "half a pair": (lambda f: save_file({k: t for k, t in load_file(f / TENSORS).items() if "lora_A" in k}, f / TENSORS), "lora_B"),
    "another shape": (lambda f: save_file({k: t[:, :3].contiguous() for k, t in load_file(f / TENSORS).items()}, f / TENSORS), "wrong shape|cannot be used"),
    "not numbers": (lambda f: save_file({k: t * float("nan") for k, t in load_file(f / TENSORS).items()}, f / TENSORS), "finite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_peft_folder_that_cannot_be_used_is_refused_with_the_reason(case, tmp_path):
    model, adapter = ours("lora", {"where": "fc1", "rank": 2})
    folder = write_peft(adapter, tmp_path / "a")
    change, why = BROKEN[case]
    change(folder)
    with pytest.raises(BadAdapter, match=why):
        read_peft(model.adapters, folder, name="b")
    assert model.adapters.names() == ["a"]


def test_the_factors_of_a_loha_layer_have_one_rank(tmp_path):
    model, adapter = ours("loha", {"where": "fc1", "rank": 2})
    folder = write_peft(adapter, tmp_path / "a")
    spoil(folder, "w2_b", lambda t: t[:1].clone())
    with pytest.raises(BadAdapter, match="different ranks"):
        read_peft(model.adapters, folder, name="b")


def test_one_huge_rank_among_small_ones_is_refused_before_all_are_padded_to_it(tmp_path):
    model, adapter = ours("lora", {"where": "all", "rank": 1, "head": False})
    folder = write_peft(adapter, tmp_path / "a")
    held = load_file(folder / TENSORS)
    name = next(name for name in held if name.endswith("layers.0.fc1.lora_A.weight"))
    other = name.replace("lora_A", "lora_B")
    save_file(held | {name: torch.zeros(10**5, 16), other: torch.zeros(32, 10**5)}, folder / TENSORS)
    with pytest.raises(BadAdapter, match="ranks are so unequal"):
        read_peft(model.adapters, folder, name="b")


def test_values_that_are_not_finite_numbers_are_never_written(tmp_path):
    _, adapter = ours("lora", {"where": "fc1", "rank": 2})
    with torch.no_grad():
        next(adapter.parameters()).fill_(float("inf"))
    with pytest.raises(Failure, match="not finite"):
        write_peft(adapter, tmp_path / "a")
    assert not (tmp_path / "a").exists()
