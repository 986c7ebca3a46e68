"""Which heads of the decoder's cross attention follow the speech: the `alignment_heads` of `generation_config.json`.

A head follows if, over held-out sentences, the frame where it looks while a token is predicted lies near that token's place
in a forced alignment of the CTC head. Kept: the heads within a factor of the best's median distance.

    python -m scripts.mini.heads --model data/mini --shard runs/mini/run/dev
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torchaudio.functional import forced_align

from scripts.mini.model import FRAMES_PER_SECOND, Recognizer
from scripts.mini.shards import Shard
from scripts.mini.tokens import Tokens


def token_times(model: Recognizer, encoded: torch.Tensor, frames: int, text: str, ids: list[int], tokens: Tokens, index: dict[str, int]) -> np.ndarray:
    """The middle of each token in seconds, from the CTC head's best path through `text`."""
    scores = model.ctc(encoded[:frames]).log_softmax(-1)[None]
    path, _ = forced_align(scores, torch.tensor([[index[c] for c in text]]), blank=0)
    frame_of, previous, places = path[0].tolist(), 0, []
    for frame, label in enumerate(frame_of):
        if label and label != previous:
            places.append(frame / FRAMES_PER_SECOND)
        previous = label
    times, at = [], 0
    for token in ids:
        size = len(tokens.tokenizer.decode([token]).lstrip(" ") if at == 0 else tokens.tokenizer.decode([token]))
        times.append(float(np.mean(places[at : at + max(1, size)] or places[-1:])))
        at += size
    return np.array(times)


@torch.inference_mode()
def distances(folder: Path, shard: Shard, limit: int = 150) -> np.ndarray:
    """Median distance in seconds, (layers, heads)."""
    model, tokens = Recognizer.shipped(folder)
    vocabulary = json.loads((folder / "asrpeft.json").read_text(encoding="utf-8"))["ctc_vocabulary"]
    index = {c: n for n, c in enumerate(vocabulary)}
    found: list[np.ndarray] = []
    for row in [r for r in shard.rows if r.text][:limit]:
        features = torch.from_numpy(np.asarray(shard.features(row), np.float32)).T
        features = torch.nn.functional.pad(features, (0, 50 + row.frames % 2), value=row.pad)[None]
        encoded = model.encode(features)
        ids = tokens.text(row.text)
        head = [tokens.sot, tokens.languages[f"<|{row.lang}|>"], tokens.transcribe, tokens.no_timestamps]
        out = model.whisper.model.decoder(input_ids=torch.tensor([head + ids]), encoder_hidden_states=encoded, output_attentions=True, use_cache=False)
        try:
            times = token_times(model, encoded[0], (row.frames + 1) // 2, row.text, ids, tokens, index)
        except RuntimeError:  # more characters than frames
            continue
        # The query that predicts a token stands one place before it.
        looks = torch.stack([a[0, :, len(head) - 1 : -1] for a in out.cross_attentions]).argmax(-1) / FRAMES_PER_SECOND
        found.append(np.abs(looks.numpy() - times))
    return np.median(np.concatenate(found, -1), -1)


def find(folder: Path, shard: Shard, *, factor: float = 2.0) -> tuple[list[list[int]], np.ndarray]:
    """([[layer, head], …] of the heads within `factor` of the best, median distances in seconds)."""
    medians = distances(folder, shard)
    return [[int(i), int(j)] for i, j in zip(*np.where(medians <= factor * max(medians.min(), 0.04)))], medians


def write(folder: Path, heads: list[list[int]]) -> None:
    path = folder / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"alignment_heads": heads}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--shard", type=Path, required=True, help="a shard of held-out speech, as scripts.mini.prepare writes")
    given = parser.parse_args()
    heads, medians = find(given.model, Shard(given.shard))
    write(given.model, heads)
    print(json.dumps({"alignment_heads": heads, "median_distance_s": np.round(medians, 3).tolist()}))


if __name__ == "__main__":
    main()
