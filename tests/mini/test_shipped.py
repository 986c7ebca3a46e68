"""`data/mini` is a Whisper checkpoint to anybody, and what `asrpeft` needs beside it is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.tokenization_whisper import LANGUAGES

MINI = Path(__file__).parents[2] / "data" / "mini"
pytestmark = pytest.mark.skipif(not (MINI / "config.json").exists(), reason="data/mini is not in this checkout")


@pytest.fixture(scope="module")
def model():
    return WhisperForConditionalGeneration.from_pretrained(MINI).eval()


@pytest.fixture(scope="module")
def processor():
    return WhisperProcessor.from_pretrained(MINI)


def test_it_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file()) <= 25e6


def test_its_half_precision_tensors_load_as_float32(model):
    assert {tensor.dtype for tensor in load_file(MINI / "model.safetensors").values()} == {torch.float16}
    assert model.dtype == torch.float32 and sum(p.numel() for p in model.parameters()) <= 12e6


def test_special_tokens_stand_in_whispers_order(processor):
    ids = processor.tokenizer.convert_tokens_to_ids
    order = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        "<|0.00|>",
        "<|0.02|>",
    ]
    assert [ids(token) for token in order] == list(range(ids("<|endoftext|>"), ids("<|endoftext|>") + len(order)))
    assert ids("<|30.00|>") == ids("<|0.00|>") + 1_500 == len(processor.tokenizer) - 1


@pytest.mark.parametrize("text", [" hello world it's me", " żółć добрый день", " ŋaaɗé ẹ̀kọ́", " 漢字 🎵"])
def test_any_text_survives_the_tokenizer(processor, text):
    ids = processor.tokenizer.encode(text, add_special_tokens=False)
    assert processor.tokenizer.decode(ids) == text and max(ids) < processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")


def test_generate_knows_languages_tasks_and_timestamps(model, processor):
    config, tokenizer = model.generation_config, processor.tokenizer
    assert config.is_multilingual and config.lang_to_id["<|sw|>"] == tokenizer.convert_tokens_to_ids("<|sw|>")
    assert config.task_to_id["translate"] == tokenizer.convert_tokens_to_ids("<|translate|>")
    assert config.no_timestamps_token_id == tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    assert (
        all(layer < model.config.decoder_layers and head < model.config.decoder_attention_heads for layer, head in config.alignment_heads)
        and config.alignment_heads
    )


@torch.inference_mode()
def test_generate_writes_nothing_for_silence_and_obeys_language_and_length(model, processor):
    features = processor(torch.zeros(16_000).numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    ids = model.generate(features, language="en", task="transcribe", max_new_tokens=20)
    assert processor.batch_decode(ids, skip_special_tokens=True)[0].strip() == ""


def test_the_ctc_head_fits_its_characters_and_the_encoder(model):
    about, head = json.loads((MINI / "asrpeft.json").read_text(encoding="utf-8")), load_file(MINI / "ctc.safetensors")
    assert about["id"].startswith("mini-") and set(about["contexts"]) == {"full", "auto"} and "sw" not in about["languages"]
    assert about["ctc_vocabulary"][0] == "<blank>" and len(set(about["ctc_vocabulary"])) == len(about["ctc_vocabulary"])
    assert head["weight"].shape == (len(about["ctc_vocabulary"]), model.config.d_model)
    assert head["bias"].shape == (len(about["ctc_vocabulary"]),)
