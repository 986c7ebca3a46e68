"""A whole Whisper checkpoint folder of a few hundred kilobytes, made on the spot: weights, byte-level tokenizer, configs."""

from __future__ import annotations

from pathlib import Path

from transformers import WhisperFeatureExtractor, WhisperTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.bases import LANGUAGES, tiny_base


def tiny_tokenizer() -> WhisperTokenizer:
    """256 bytes, then Whisper's special tokens in Whisper's order, as `tiny_config(text=256)` numbers them."""
    made = WhisperTokenizer(vocab={c: i for i, c in enumerate([*bytes_to_unicode().values(), "<|endoftext|>"])}, merges=[])
    special = ["startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    made.add_special_tokens({"extra_special_tokens": [f"<|{name}|>" for name in special]})
    made.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)])
    return made


def tiny_checkpoint(folder: Path, seed: int = 0, *, english: bool = False, **shape) -> Path:
    """Write the checkpoint; `english` makes it an English-only one."""
    base = tiny_base(seed, text=256, **shape)
    if english:
        generation = base.generation_config
        generation.is_multilingual, generation.lang_to_id, generation.task_to_id = False, None, None
    base.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=base.config.num_mel_bins).save_pretrained(folder)
    return folder
