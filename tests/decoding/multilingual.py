"""The true multilingual Whisper vocabulary, from the `openai-whisper` package, as a `transformers` tokenizer; and a
random checkpoint of whisper-tiny's shape that goes with it."""

from __future__ import annotations

import base64
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.whisper.tokenization_whisper import LANGUAGES

SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in list(LANGUAGES)[:99]),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
    *(f"<|{i * 0.02:.2f}|>" for i in range(1501)),
]


def vocabulary() -> Path | None:
    """The package's `multilingual.tiktoken`; None where the package is not installed."""
    found = find_spec("whisper")
    return None if found is None or found.origin is None else Path(found.origin).parent / "assets" / "multilingual.tiktoken"


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """What byte-pair encoding makes of `token` with the merges of a lower rank than its own: the two parts it is made
    of."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        rank, place = min((ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(zip(parts, parts[1:])))
        if rank >= ranks[token]:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


@cache
def tokenizer() -> WhisperTokenizer:
    lines = vocabulary().read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    letters = bytes_to_unicode()

    def spell(token: bytes) -> str:
        return "".join(letters[b] for b in token)

    merges = [tuple(map(spell, _parts(token, ranks))) for token in sorted(ranks, key=ranks.get) if len(token) > 1]
    vocab = {spell(token): rank for token, rank in ranks.items()} | {token: len(ranks) + i for i, token in enumerate(SPECIAL)}
    made = WhisperTokenizer(vocab=vocab, merges=[pair for pair in merges if len(pair) == 2])
    made.add_special_tokens({"additional_special_tokens": SPECIAL[1 : SPECIAL.index("<|notimestamps|>") + 1]})
    return made


def tiny_shape(seed: int = 0, dtype: torch.dtype = torch.float64) -> WhisperForConditionalGeneration:
    """Random weights in the shape of openai/whisper-tiny (4 + 4 layers, width 384, 51,865 tokens), with its generation
    config."""
    torch.manual_seed(seed)
    ids = {token: 50_257 + i for i, token in enumerate(SPECIAL)}
    config = WhisperConfig(
        vocab_size=51_865,
        num_mel_bins=80,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        decoder_start_token_id=50_258,
        bos_token_id=50_257,
        eos_token_id=50_257,
        pad_token_id=50_257,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    base = WhisperForConditionalGeneration(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if parameter.dim() > 1 and "encoder.embed_positions" not in name:
                parameter.normal_(std=0.06)
        base.model.decoder.embed_positions.weight.normal_(std=2.0)
        for layer in base.model.decoder.layers:
            layer.encoder_attn.v_proj.weight *= 4
    base.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={t: ids[t] for t in SPECIAL[2:101]},
        task_to_id={"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        decoder_start_token_id=50_258,
        eos_token_id=50_257,
        bos_token_id=50_257,
        pad_token_id=50_257,
        max_length=448,
        begin_suppress_tokens=[220, 50_257],
        suppress_tokens=[1, 2, 7, 8, 9, 10, 14, 25, *range(50_258, 50_364)],
        max_initial_timestamp_index=50,
        return_timestamps=False,
    )
    return base
