"""What training needs before its first step: the tokenizer, the CTC characters and a small dev shard.

python -m scripts.mini.prepare --work runs/mini/run --speech PATH|hub:…
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

from scripts.mini import real, tokens, voices
from scripts.mini.render import surround, trim
from scripts.mini.shards import Writer
from scripts.mini.texts import ALPHABETS, LANGUAGES, Sources, Texts
from scripts.synthesis import SynthesisError

N_REAL, N_SYNTH = 80, 14  # few, to be decoded while training runs


def dev_shard(folder: Path, texts: Texts, dev: list[real.Spoken], *, n_real: int = N_REAL, n_synth: int = N_SYNTH) -> None:
    """`n_real` recordings of the dev speakers, and of each language `n_synth` held-out sentences."""
    random_, numbers = random.Random(7), np.random.default_rng(7)
    with Writer(folder) as shard:
        for utterance in random_.sample(dev, min(n_real, len(dev))):
            samples = utterance.samples()
            shard.add(samples, text=utterance.text, lang="en", source="real", voice=utterance.speaker, start=0, end=len(samples) / 16_000)
        for lang in LANGUAGES:
            for text in texts.tests(lang, n_synth, "dev"):
                try:
                    samples, voice = voices.say(text, lang, random_)
                except SynthesisError:
                    continue
                samples, start, end = surround(trim(samples), numbers)
                shard.add(samples, text=text, lang=lang, source="synth", voice=voice, start=start, end=end)


def prepare(work: Path, speech: str | None, seed: int = 1, *, texts: Path | None = None, n_real: int = N_REAL, n_synth: int = N_SYNTH) -> None:
    """`texts`: those of another system (`Texts.write`). A tokenizer and characters that are there stay."""
    train, dev = real.split(real.read(speech)) if speech else ([], [])
    spoken = Texts(seed, [u.text for u in train], Sources(drawn=texts) if texts else Sources())
    if missing := spoken.missing():
        print(
            f"The system has no texts in {', '.join(missing)}: sentences there are generated only, which are few and alike. "
            "On Debian: apt-get install 'fortunes-*' fortune-mod.",
            file=sys.stderr,
        )
    if not (work / "characters.json").exists():
        tokens.train(work / "tokenizer", spoken)
        characters = tokens.characters([*ALPHABETS.values(), " '"])
        (work / "characters.json").write_text(json.dumps(characters, ensure_ascii=False), encoding="utf-8")
    if not (work / "dev").exists():
        dev_shard(work / "dev", spoken, dev, n_real=n_real, n_synth=n_synth)


def adopt(work: Path, start: Path) -> None:
    """The tokenizer and the characters of an exported model, for training to go on from it."""
    bpe = json.loads((start / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (work / "tokenizer").mkdir(parents=True, exist_ok=True)
    (work / "tokenizer" / "vocab.json").write_text(json.dumps(bpe["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in bpe["merges"]]
    (work / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    vocabulary = json.loads((start / "asrpeft.json").read_text(encoding="utf-8"))["ctc_vocabulary"]
    (work / "characters.json").write_text(json.dumps(["", *vocabulary[1:]], ensure_ascii=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--speech")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dev-real", type=int, default=N_REAL, help="recordings of the dev speakers in the dev shard")
    parser.add_argument("--dev-synth", type=int, default=N_SYNTH, help="synthesized sentences of each language there")
    given = parser.parse_args()
    prepare(given.work, given.speech, given.seed, n_real=given.dev_real, n_synth=given.dev_synth)


if __name__ == "__main__":
    main()
