"""A checkpoint of training → a folder in Whisper's format, with the CTC head and `asrpeft.json` beside it.

python -m scripts.mini.export --work runs/mini/run --out data/mini
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperProcessor

from scripts.mini import tokens as vocabulary
from scripts.mini.model import Recognizer
from scripts.mini.texts import LANGUAGES

BASE_ID = "mini-4"
BLANK = "<blank>"


def recognizer(work: Path) -> tuple[Recognizer, vocabulary.Tokens, list[str], dict]:
    """The averaged model of a checkpoint (the model itself before averaging began), its tokens, characters and counts."""
    state = torch.load(work / "checkpoint.pt", weights_only=True, map_location="cpu")
    tokens = vocabulary.Tokens(vocabulary.load(work / "tokenizer"))
    characters = json.loads((work / "characters.json").read_text(encoding="utf-8"))
    model = Recognizer(tokens, len(characters))
    model.load_state_dict(state["average"] or state["model"])
    step, _, _, seen, spent_s = state["counts"]
    return model.eval(), tokens, characters, {"steps": step, "utterances": seen, "minutes": round(spent_s / 60, 1)}


def generation_config(tokens: vocabulary.Tokens, heads: list[list[int]]) -> GenerationConfig:
    """What transformers' `generate` must know: languages, tasks, timestamps, and the heads that follow the speech."""
    return GenerationConfig(
        is_multilingual=True,
        lang_to_id=tokens.languages,
        task_to_id={"transcribe": tokens.transcribe, "translate": tokens.id("<|translate|>")},
        no_timestamps_token_id=tokens.no_timestamps,
        prev_sot_token_id=tokens.previous,
        alignment_heads=heads,
        max_initial_timestamp_index=100,
        max_length=448,
        return_timestamps=False,
        suppress_tokens=[],
        begin_suppress_tokens=None,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        decoder_start_token_id=tokens.sot,
    )


def spent(work: Path) -> float:
    """Minutes of training behind a checkpoint."""
    return torch.load(work / "checkpoint.pt", weights_only=True, map_location="cpu")["counts"][-1] / 60


@torch.no_grad()
def interpolate(model: Recognizer, start: Recognizer, share: float) -> None:
    """In place: the weights of `start` and so much of what training has changed since, 0 to 1.

    Of several shares the dev speakers choose: what was learned from few voices is worth more in part (Wortsman et al., 2021,
    https://arxiv.org/abs/2109.01903, "WiSE-FT").
    """
    for ours, theirs in zip(model.parameters(), start.parameters()):
        ours.copy_(torch.lerp(theirs.to(ours), ours, share))


def export(
    work: Path,
    out: Path,
    *,
    id_: str = BASE_ID,
    heads: list[list[int]] | None = None,
    start: Path | None = None,
    changed_share: float | None = None,
    **facts: object,
) -> None:
    """Write the folder beside and rename. `heads`: [layer, head] of decoder cross attention; default: those of the last layer.

    With `changed_share` so much is kept of what training changed in `start`, an exported model.
    """
    if changed_share is not None and start is None:
        raise ValueError("A share of what training changed can only be kept of a run that began with a model: give start.")
    model, tokens, characters, counts = recognizer(work)
    if changed_share is not None and start is not None:
        interpolate(model, Recognizer.shipped(start)[0], changed_share)
        facts["changed_share"] = changed_share
    part = out.with_name("." + out.name)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    whisper = model.whisper
    heads = heads or [[whisper.config.decoder_layers - 1, head] for head in range(whisper.config.decoder_attention_heads)]
    whisper.generation_config = generation_config(tokens, heads)
    whisper.config.dropout = 0.1  # for those who fine-tune it
    whisper.set_attn_implementation("sdpa")
    whisper.half().save_pretrained(part)
    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"  # half-precision tensors on disk, computed in float32, as the features are
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokens.tokenizer).save_pretrained(part)
    head = {"weight": model.ctc.weight.detach().half().contiguous(), "bias": model.ctc.bias.detach().half().contiguous()}
    save_file(head, part / "ctc.safetensors")
    for file in part.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner may read
    about = {
        "id": id_,
        "contexts": ["full", "auto"],
        "languages": list(LANGUAGES),
        "earlier_tokens": 40,  # of what was said before, as `batches` tells it
        "context_margin_s": {"trained": [0.05, 6.0], "recommended": 0.5},
        "text_begins_with_space": True,
        "normalization": "lower case, no punctuation but apostrophes, no digits, NFC",
        "ctc_vocabulary": [BLANK, *characters[1:]],
        "training": counts | facts,
    }
    (part / "asrpeft.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for kept in ("README.md",):
        if (out / kept).exists():
            shutil.copy(out / kept, part / kept)
    old = out.with_name("." + out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(part, out)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    export(given.work, given.out)


if __name__ == "__main__":
    main()
