"""The byte-level BPE of `data/mini` and Whisper's special tokens behind it, in Whisper's order.

    0 … V−1 BPE │ <|endoftext|> <|startoftranscript|> 99 languages (+ yue) <|translate|> <|transcribe|> <|startoflm|>
    <|startofprev|> <|nospeech|> <|notimestamps|> │ <|0.00|> … <|30.00|>

Text tokens begin with a space, as in Whisper: " hello world".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, ByteLevelBPETokenizer
from transformers import WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER_LANGUAGES

from scripts.mini import texts

TEXT_TOKENS = 3_584
CONTROLS = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
# Read by the trainer of the BPE so that no script is left to single bytes alone.
COVERAGE = ["àâäæçèéêëîïôöùûüÿñãõ ąćęłńóśźż áčďéěíňóřšťúůýž åäö", "ɓɗɛɔŋƙƴẹọṣ ị ụ ṅ ǝ ʼ", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"]


def train(folder: Path, texts_: texts.Texts) -> None:
    """Write vocab.json and merges.txt: sentences of each language in the shares of training."""
    total = 60_000
    lines: list[str] = list(COVERAGE)
    for lang, share in texts.LANGUAGES.items():
        sentences = [*texts_.sentences[lang], *(texts_.style * 2 if lang == "en" else [])]
        lines += [" " + sentence for sentence in sentences[: round(total * share)]]
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator(lines, vocab_size=TEXT_TOKENS, min_frequency=2, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.save_model(str(folder))


def specials() -> list[str]:
    languages = [f"<|{code}|>" for code in WHISPER_LANGUAGES]
    return ["<|endoftext|>", "<|startoftranscript|>", *languages, *CONTROLS]


def load(folder: Path) -> WhisperTokenizer:
    """A WhisperTokenizer from `vocab.json` and `merges.txt`, with the special and the timestamp tokens appended."""
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    merges = [tuple(line.split()) for line in (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:] if line]
    tokenizer = WhisperTokenizer(vocab=vocab, merges=merges, pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"extra_special_tokens": specials()[1:]})
    times = [AddedToken(f"<|{n * 0.02:.2f}|>", special=False, normalized=False) for n in range(1_501)]
    tokenizer.add_tokens(times)
    return tokenizer


class Tokens:
    """Ids of the special tokens, and token sequences for training."""

    def __init__(self, tokenizer: WhisperTokenizer):
        self.tokenizer = tokenizer
        self.id = tokenizer.convert_tokens_to_ids
        self.eot, self.sot = self.id("<|endoftext|>"), self.id("<|startoftranscript|>")
        self.transcribe, self.previous = self.id("<|transcribe|>"), self.id("<|startofprev|>")
        self.no_speech, self.no_timestamps = self.id("<|nospeech|>"), self.id("<|notimestamps|>")
        self.time_zero = self.id("<|0.00|>")

    @cached_property
    def languages(self) -> dict[str, int]:
        return {f"<|{code}|>": self.id(f"<|{code}|>") for code in WHISPER_LANGUAGES}

    def text(self, text: str) -> list[int]:
        return self.tokenizer.encode(" " + text, add_special_tokens=False) if text else []

    def time(self, seconds: float) -> int:
        return self.time_zero + min(1_500, max(0, round(seconds / 0.02)))


def characters(texts_: Iterable[str]) -> list[str]:
    """The CTC vocabulary: the blank ("") first, then space and every character seen."""
    return ["", *sorted(set("".join(texts_)))]
