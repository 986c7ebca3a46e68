"""Loading bases: folders, dtypes, devices, what lies beside a checkpoint, and what is no Whisper checkpoint at all."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from asrpeft.adapters.ctc import CTCHead
from asrpeft.errors import BadInput
from asrpeft.recognizer import load
from tests.recognizer.checkpoint import tiny_checkpoint


@pytest.fixture
def folder(tmp_path):
    return tiny_checkpoint(tmp_path / "base", source=40)


def test_a_folder_loads_frozen_and_in_evaluation(folder):
    model = load(folder, device="cpu")
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.dtype == torch.float32 and model.device.type == "cpu" and model.n_mels == 8
    assert model.info.id == str(folder) and model.info.contexts == ("full",) and model.ctc is None
    assert model.encode_text("né") == [model.tokenizer.convert_tokens_to_ids(c) for c in "nÃ©"]
    assert model.decode_text([model.start, *model.encode_text("né"), model.end, model.no_timestamps + 7]) == "né"


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_the_dtype_is_the_one_asked_for_whatever_was_stored(folder, stored, asked):
    held = load_file(folder / "model.safetensors")
    save_file({n: t.to(stored) for n, t in held.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(folder, device="cpu", dtype=asked)
    assert model.dtype == getattr(torch, asked)
    states = model.encode(torch.randn(1, 8, 80), torch.tensor([40])).states
    assert states.dtype == model.dtype and bool(states.isfinite().all())
    # The decoder's weights are rounded all the same, and computed with in float32.
    decoder = model.base.model.decoder
    assert all(p.dtype == torch.float32 and torch.equal(p, p.to(model.dtype).float()) for p in decoder.parameters())
    assert model.base.proj_out.weight is decoder.embed_tokens.weight
    assert model(torch.randn(1, 8, 80), torch.tensor([40]), torch.tensor([[257, 3]])).logits.dtype == torch.float32


def test_what_lies_beside_a_checkpoint_is_read(folder):
    head = CTCHead(16, ["<blank>", " ", "a"])
    save_file({n: t.detach().half() for n, t in head.state_dict().items()}, folder / "ctc.safetensors")
    report = {"id": "mini-3", "contexts": ["full", "auto"], "languages": ["en", "de"], "ctc_vocabulary": head.vocabulary}
    (folder / "asrpeft.json").write_text(json.dumps(report))
    model = load(folder, device="cpu")
    assert model.info.id == "mini-3" and model.info.contexts == ("full", "auto") and model.info.languages == ("en", "de")
    assert model.ctc_head(None).vocabulary == head.vocabulary and model.ctc.weight.dtype == torch.float32
    assert not any(p.requires_grad for p in model.parameters())
    assert model.context_for(None) == "auto" and model.spare_language()[0] == "<|yo|>"
    assert model.adapters.base_id == "mini-3"


BESIDE = {
    "not json": lambda f: (f / "asrpeft.json").write_text("{"),
    "a list": lambda f: (f / "asrpeft.json").write_text("[]"),
    "no vocabulary": lambda f: (f / "asrpeft.json").write_text("{}"),
    "a vocabulary that fills memory": lambda f: (f / "asrpeft.json").write_text(json.dumps({"ctc_vocabulary": ["x"] * 1_000_000})),
    "another size": lambda f: (f / "asrpeft.json").write_text(json.dumps({"ctc_vocabulary": ["<blank>"]})),
    "a damaged head": lambda f: ((f / "ctc.safetensors").write_bytes(b"1234"), (f / "asrpeft.json").write_text(json.dumps({"ctc_vocabulary": ["<blank>"]}))),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_lies_beside_and_cannot_be_used_is_named(folder, case):
    save_file({n: t.detach() for n, t in CTCHead(16, ["<blank>", "a"]).state_dict().items()}, folder / "ctc.safetensors")
    BESIDE[case](folder)
    with pytest.raises(BadInput, match="asrpeft.json"):
        load(folder, device="cpu")


def cut(folder, name, n):
    (folder / name).write_bytes((folder / name).read_bytes()[:n])


def without(folder, *parts):
    held = {n: t for n, t in load_file(folder / "model.safetensors").items() if not any(p in n for p in parts)}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "--adapter"),
    "config is not json": (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
    "another kind of model": (lambda f: BertConfig().save_pretrained(f), "is a bert model"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
    "weights cut short": (lambda f: cut(f, "model.safetensors", 5000), "cannot be loaded"),
    "tensors missing": (lambda f: without(f, "encoder.layers.1"), "incomplete"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("*token*")], "tokenizer|cannot be loaded"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_is_no_whisper_checkpoint_is_refused_with_the_reason(folder, case):
    spoil, why = BROKEN[case]
    spoil(folder)
    with pytest.raises(BadInput, match=why):
        load(folder, device="cpu")


@pytest.mark.parametrize(
    "asked, why",
    [
        ({"dtype": "int8"}, "float32, bfloat16, float16"),
        ({"device": "gpu"}, "choose auto, cpu"),
        ({"device": "cuda:99"}, "CUDA device"),
        ({"device": "meta"}, "does not run on"),
        ({"threads": 0}, "at least 1"),
        ({"threads": 100_000}, "--threads 100000: this machine has"),
        ({"device": "xpu"}, "no Intel GPU"),
        ({"device": "xpu:3"}, "no Intel GPU|Intel GPUs, counted"),
    ],
)
def test_options_that_cannot_be_are_refused(folder, asked, why):
    with pytest.raises(BadInput, match=why):
        load(folder, **({"device": "cpu"} | asked))


STRANGE_CODE = "open({marker!r}, 'w').close()\nclass Strange:\n    pass\n"


def with_code_of_its_own(folder, **changes):
    """Let every file of a checkpoint name classes of a module beside it, which leaves a mark when it is run."""
    marker = folder.parent / "ran"
    (folder / "strange.py").write_text(STRANGE_CODE.format(marker=str(marker)))
    names = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForSpeechSeq2Seq", "AutoFeatureExtractor", "AutoProcessor"), "strange.Strange")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"):
        report = json.loads((folder / name).read_text())
        own = {"auto_map": names | {"AutoTokenizer": ["strange.Strange", "strange.Strange"]}} | (changes if name == "config.json" else {})
        (folder / name).write_text(json.dumps(report | own))
    return marker


def test_code_that_comes_with_a_base_is_neither_run_nor_asked_about(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("signal.alarm", lambda *_: pytest.fail("about to ask"))
    plain = load(folder, device="cpu")
    marker = with_code_of_its_own(folder)
    model = load(folder, device="cpu")
    assert not marker.exists() and type(model.base) is type(plain.base) and type(model.tokenizer) is type(plain.tokenizer)
    with_code_of_its_own(folder, model_type="strange")
    with pytest.raises(BadInput, match="is a strange model with code of its own .*never run"):
        load(folder, device="cpu")
    assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": "flash_attention_2"},
    ],
)
def test_no_kernel_that_a_base_names_is_fetched(folder, change):
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | change))
    assert load(folder, device="cpu").encode(torch.randn(1, 8, 80), torch.tensor([40])).states.isfinite().all()


HOSTILE = [
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    {"quantization_config": {"quant_method": "strange"}},
    {"quantization_config": 3},
    {"d_model": "sixteen"},
    {"d_model": -16},
    {"d_model": 0},
    {"encoder_attention_heads": 0},
    {"encoder_layers": -1},
    {"activation_function": "strange"},
    {"vocab_size": None},
    {"pad_token_id": 10**9},
    {"dtype": "strange"},
    {"architectures": 7},
    {"id2label": [1]},
    {"num_mel_bins": 10**400},
    {"max_source_positions": float("nan")},
    {"model_type": ["whisper"]},
    {"model_type": None},
    {"init_std": "x"},
    {"decoder_start_token_id": {"a": 1}},
    {"transformers_version": 5},
    {"d_model": 10**6},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_whatever_a_config_says_is_refused_with_a_reason_or_does_not_matter(folder, change):
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | change))
    try:
        model = load(folder, device="cpu")
    except BadInput as error:
        assert str(folder) in str(error) and len(str(error)) < 1000
    else:
        assert model.base.config.d_model == 16


TABLES = [
    {"lang_to_id": "("},
    {"lang_to_id": 1},
    {"lang_to_id": {"<|en|>": "258"}},
    {"lang_to_id": ["<|en|>"]},
    {"lang_to_id": {"<|en|>": 10**9}},
    {"task_to_id": 10**18},
    {"task_to_id": {"translate": -1}},
    {"no_timestamps_token_id": [267]},
    {"no_timestamps_token_id": 10**400},
]


@pytest.mark.parametrize("change", TABLES, ids=lambda change: str(change)[:40])
def test_tables_of_tokens_that_are_none_are_refused(folder, change):
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=f"{next(iter(change))} is .*take it out|cannot be loaded"):
        load(folder, device="cpu")


def test_a_learned_language_in_the_place_of_no_token_is_refused(folder):
    (folder / "asrpeft.json").write_text(json.dumps({"language_slots": {"<|xx|>": "klingon"}}))
    with pytest.raises(BadInput, match="the language token '<.xx.>', which the base does not have"):
        load(folder, device="cpu")


def test_a_base_without_language_tables_takes_them_from_its_tokenizer(folder):
    report = json.loads((folder / "generation_config.json").read_text())
    for key in ("lang_to_id", "no_timestamps_token_id", "task_to_id"):
        del report[key]
    (folder / "generation_config.json").write_text(json.dumps(report))
    model = load(folder, device="cpu")
    assert model.languages == {"<|en|>": 258, "<|de|>": 259, "<|sw|>": 260, "<|yo|>": 261}
    assert model.prompt(lang="sw") == [257, 260, 263, 267]
    adapter = model.adapt("lora", name="a", rank=1, lang="Klingon")
    back = load(folder, device="cpu").adapters.load(adapter.save(folder.parent / "a"))
    assert back.manifest.language_slot == "<|yo|>" and back.language is not None


def test_an_english_only_base_has_no_language_in_its_prompt(tmp_path):
    model = load(tiny_checkpoint(tmp_path / "en", source=40, english=True), device="cpu")
    assert not model.multilingual
    assert model.prompt(lang=None) == model.prompt(lang="en") == [257, 267]
    assert model.prompt(lang=None, timestamps=True) == [257]
    with pytest.raises(BadInput, match="English-only"):
        model.prompt(lang=None, task="translate")
    model.adapt("lora", name="a", lang="sw")
    assert model.adapters["a"].manifest.language_slot is None and model.prompt(lang=None, adapter="a") == [257, 267]
