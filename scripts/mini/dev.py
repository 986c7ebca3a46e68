"""A quick look at the error rates while training: a small shard of real and synthesized speech, decoded greedily.

    python -m scripts.mini.dev --shard runs/mini/dev --model data/mini --work runs/mini         # of an export and of a checkpoint
    python -m scripts.mini.dev --shard runs/mini/dev --work runs/mini --shares 0.6,0.8,1        # of parts of what the run changed in data/mini

On its own it also says by the real speech how well the encoder names letters in another's voice: where the CTC head of `--model`
hears a letter (the same places for all that are measured), the letter of the most similar state among all other speakers' is asked for.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jiwer
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchaudio.functional import forced_align

from scripts.mini.model import Recognizer
from scripts.mini.shards import Row, Shard
from scripts.mini.tokens import Tokens

Spot = tuple[Row, int, int]  # a row, an encoder frame in it, and the number of the letter that is heard there


class Dev:
    def __init__(self, folder: Path):
        self.shard = Shard(folder)

    def _batches(self, *, real: bool = False) -> Iterator[tuple[list[Row], Tensor]]:
        """Rows of one language and context, and their features (rows, 80, frames)."""
        groups = defaultdict(list)
        for row in self.shard.rows:
            if not real or row.source == "real":
                groups[row.lang, math.ceil(row.frames / 100 + 0.2)].append(row)
        for (_, context), rows in groups.items():
            yield rows, torch.from_numpy(self.shard.padded(rows, context)).transpose(1, 2)

    @torch.inference_mode()
    def measure(self, model: Recognizer, tokens: Tokens) -> dict[str, float]:
        """{"dev_real": WER in %, "dev_en": …} of each kind (synthesized speech by its language)."""
        was_training = model.training
        model.eval()
        pairs = defaultdict(list)
        for rows, features in self._batches():
            encoded = model.encode(features)
            prefix = [tokens.sot, tokens.languages[f"<|{rows[0].lang}|>"], tokens.transcribe, tokens.no_timestamps]
            for row, ids in zip(rows, model.greedy(encoded, prefix, tokens.eot, limit=40)):
                kind = "real" if row.source == "real" else row.lang
                pairs[kind].append((row.text, tokens.tokenizer.decode(ids, skip_special_tokens=True).strip()))
        model.train(was_training)
        return {f"dev_{kind}": round(100 * jiwer.wer([a for a, _ in both], [b for _, b in both]), 1) for kind, both in sorted(pairs.items())}

    @torch.inference_mode()
    def by_characters(self, model: Recognizer, characters: Sequence[str]) -> dict[str, float]:
        """{"ctc_cer", "ctc_wer"} in % of the CTC head's best paths on the real speech."""
        pairs = []
        for rows, features in self._batches(real=True):
            for row, best in zip(rows, model.ctc(model.encode(features)).argmax(-1).tolist()):
                best = best[: (row.frames + 1) // 2]
                text = "".join(characters[c] for n, c in enumerate(best) if c and (n == 0 or best[n - 1] != c))
                pairs.append((row.text, " ".join(text.split())))
        references, found = [a for a, _ in pairs], [b for _, b in pairs]
        return {"ctc_cer": round(100 * jiwer.cer(references, found), 1), "ctc_wer": round(100 * jiwer.wer(references, found), 1)}

    @torch.inference_mode()
    def spots(self, model: Recognizer, characters: Sequence[str]) -> list[Spot]:
        """Where the CTC head hears each letter of the real speech's texts."""
        number, found = {c: n for n, c in enumerate(characters)}, []
        for rows, features in self._batches(real=True):
            for row, scores in zip(rows, model.ctc(model.encode(features)).log_softmax(-1)):
                wanted = [number[c] for c in row.text]
                try:
                    path = forced_align(scores[None, : (row.frames + 1) // 2], torch.tensor([wanted]))[0][0].tolist()
                except RuntimeError:  # more characters than frames
                    continue
                places = [n for n, label in enumerate(path) if label and (n == 0 or label != path[n - 1])]
                found += [(row, place, letter) for place, letter in zip(places, wanted) if characters[letter] not in " '"]
        return found

    @torch.inference_mode()
    def letters(self, states: Callable[[Tensor], Tensor], spots: Sequence[Spot]) -> float:
        """How often, in %, the state that is most like a letter's among other speakers' is that letter's.

        `states`: features (rows, 80, 2·T) → (rows, T, dim). Similarity: the cosine, of states without their mean.
        """
        at = defaultdict(list)
        for n, (row, place, _) in enumerate(spots):
            at[row.offset].append((n, place))
        found: dict[int, Tensor] = {}
        for rows, features in self._batches(real=True):
            for row, one in zip(rows, states(features)):
                found |= {n: one[place].float() for n, place in at[row.offset]}
        kept = torch.stack([found[n] for n in range(len(spots))])
        kept = normalize(kept - kept.mean(0), dim=1)
        letter = torch.tensor([one for *_, one in spots])
        voices = sorted({row.voice for row, *_ in spots})
        voice = torch.tensor([voices.index(row.voice) for row, *_ in spots])
        right = 0
        for one in range(len(voices)):
            own, other = voice == one, voice != one
            right += int((letter[other][(kept[own] @ kept[other].T).argmax(1)] == letter[own]).sum())
        return round(100 * right / len(spots), 1)


def main() -> None:
    from scripts.mini.export import interpolate, recognizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("data/mini"), help="an exported model, whose CTC head says where the letters are")
    parser.add_argument("--work", type=Path, nargs="*", default=[], help="folders of checkpoints to measure as well")
    parser.add_argument("--shares", default="", help="of what the checkpoints changed in --model: measures that model and so much of the change")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dev = Dev(given.shard)
    shipped, tokens = Recognizer.shipped(given.model)
    characters = ["", *json.loads((given.model / "asrpeft.json").read_text(encoding="utf-8"))["ctc_vocabulary"][1:]]
    spots = dev.spots(shipped, characters)
    trained = [(str(work), recognizer(work)[0]) for work in given.work]
    measuring = [(str(given.model), shipped), *trained]
    for share in filter(None, given.shares.split(",")):
        for name, model in trained:
            between = copy.deepcopy(model)
            interpolate(between, shipped, float(share))
            measuring.append((f"{name}, {share} of the change", between))
    for name, model in measuring:
        measured = dev.measure(model, tokens) | dev.by_characters(model, characters) | {"letters": dev.letters(model.encode, spots)}
        print(json.dumps({"model": name, "spots": len(spots)} | measured), flush=True)


if __name__ == "__main__":
    main()
