"""How exact word times are: by the CTC head, by attention, by letters alone, against what a synthesizer knows of its own speech.

    python -m scripts.bench.word_times [BASE …] [--head FILE] [--utterances 60] [--seed 0] [--json]

Festival says English sentences (`apt-get install festival festvox-kallpc16k festvox-us-slt-hts`) and tells where each word begins and ends. Every way of
timing is given the true words, half of the sentences with noise and rooms around them, all with silence before and after. Told, for beginnings
and ends: how far they are off (median), how much later than in truth they are (median), and how many lie within 0.1 and 0.2 s.

    ctc          the path through the base's CTC head; `onsets`: words begin before their first letter is named
    attention    the base's alignment heads; `others`: as many of its other heads, drawn at random; `pauses`: the same without them
    letters      words that share the whole recording by their letters
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.audio.features import SAMPLE_RATE  # noqa: E402
from asrpeft.decoding.attention import attend  # noqa: E402
from asrpeft.decoding.batch import encode_rows, make_row  # noqa: E402
from asrpeft.decoding.words import Word, align, from_onsets, spread, without_pauses  # noqa: E402
from asrpeft.recognizer import Recognizer, load  # noqa: E402
from asrpeft.recognizer.context import speech_frames  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from scripts.bench.ctc_start import read_head  # noqa: E402
from scripts.mini import sound  # noqa: E402
from scripts.mini.texts import Texts  # noqa: E402
from scripts.synthesis import timed_festival  # noqa: E402

VOICES = ("kal_diphone", "cmu_us_slt_arctic_hts")
LANG = "en"
NEAR_S = (0.1, 0.2)


@dataclass(frozen=True)
class Said:
    samples: np.ndarray
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def sentences(n: int, seed: int) -> list[Said]:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    texts, out = Texts(seed, []), []
    for voice in VOICES:
        wanted = [texts.train(LANG, rng, 0.0) for _ in range(n // len(VOICES))]
        for found in timed_festival(wanted, voice=voice, stretch=rng.uniform(0.9, 1.2)):
            if found is None:
                continue
            samples, words = found
            lead, tail = (numbers.uniform(0.1, 0.8) for _ in range(2))
            samples = np.concatenate([np.zeros(int(lead * SAMPLE_RATE), np.float32), samples, np.zeros(int(tail * SAMPLE_RATE), np.float32)])
            if len(out) % 2:
                samples = sound.degrade(samples, numbers, [], strength=0.6).astype(np.float32)
            out.append(Said(samples, tuple(Word(text, start + lead, end + lead) for text, start, end in words)))
    return out


# -- ways of timing the true words -------------------------------------------------------------------------------------------------
def ways(recognizer: Recognizer, said: Said, others: Sequence[tuple[int, int]]) -> dict[str, tuple[Word, ...] | None]:
    row, n_frames = make_row(recognizer, said.samples, lang=LANG), speech_frames(len(said.samples))
    encoded, head = encode_rows(recognizer, [row]), recognizer.ctc_head(None)
    tokens = recognizer.encode_text(" " + said.text)

    def attention() -> tuple[Word, ...] | None:
        return attend(recognizer, encoded, row.prompt, tokens, adapter=None, n_frames=n_frames)

    def pauses(words: tuple[Word, ...] | None) -> tuple[Word, ...] | None:
        return words and without_pauses(words, said.samples)

    found = {"attention": attention()}
    found["attention, pauses"] = pauses(found["attention"])
    named, recognizer.generation.alignment_heads = recognizer.generation.alignment_heads, [list(one) for one in others]
    try:
        found["others, pauses"] = pauses(attention())
    finally:
        recognizer.generation.alignment_heads = named
    if head is not None:
        found["ctc"] = spelled = align(head, encoded.states[0, :n_frames], said.text)
        found["ctc, onsets"] = spelled and from_onsets(spelled)
    return found | {"letters": spread(said.text, 0.0, len(said.samples) / SAMPLE_RATE)}


def apart(times: Sequence[float], truth: Sequence[float]) -> dict[str, float]:
    """Of one way's beginnings or ends, in seconds and shares."""
    late = [a - b for a, b in zip(times, truth, strict=True)]
    near = {f"within_{limit:g}_s": sum(abs(one) <= limit for one in late) / len(late) for limit in NEAR_S}
    return {"off_s": statistics.median(map(abs, late)), "later_s": statistics.median(late), **near}


def measured(recognizer: Recognizer, spoken: Sequence[Said], *, seed: int) -> dict[str, Any]:
    """{way: {"words": …, "start": …, "end": …}}, over the sentences that all ways could time."""
    config, named = recognizer.base.config, {tuple(one) for one in recognizer.generation.alignment_heads}
    heads = [(i, j) for i in range(config.decoder_layers) for j in range(config.decoder_attention_heads) if (i, j) not in named]
    others = random.Random(seed).sample(heads, min(len(named), len(heads)))
    found = [(one, ways(recognizer, one, others)) for one in spoken]
    found = [(one, own) for one, own in found if all(words is not None and len(words) == len(one.words) for words in own.values())]
    out: dict[str, Any] = {}
    for way in found[0][1] if found else ():
        edges = {
            edge: apart([getattr(word, edge) for _, own in found for word in own[way] or ()], [getattr(word, edge) for one, _ in found for word in one.words])
            for edge in ("start", "end")
        }
        out[way] = {"words": sum(len(one.words) for one, _ in found), **edges}
    return out


def table(base: str, found: dict[str, Any]) -> Table:
    columns = ("by", *(f"{edge} {what}" for edge in ("start", "end") for what in ("off, s", "later, s", *(f"≤ {limit:g} s" for limit in NEAR_S))))

    def cells(edge: dict[str, float]) -> tuple[str, ...]:
        return f"{edge['off_s']:.3f}", f"{edge['later_s']:+.3f}", *(f"{100 * edge[f'within_{limit:g}_s']:.0f} %" for limit in NEAR_S)

    rows = [(way, *cells(one["start"]), *cells(one["end"])) for way, one in found.items()]
    return Table.of(f"{base}: {max((one['words'] for one in found.values()), default=0)} words", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="*", default=[None], metavar="BASE", help="default: the embedded base")
    parser.add_argument("--head", type=Path, help="a CTC head for bases that have none, as `ctc_start.py` writes it")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    spoken = sentences(given.utterances, given.seed)
    for name in given.bases:
        recognizer = load(name, threads=given.threads)
        if given.head is not None:
            recognizer.ctc = read_head(given.head)
            recognizer.info = replace(recognizer.info, contexts=("full", "auto"))  # it was learned on short contexts
        found = measured(recognizer, spoken, seed=given.seed)
        told = Path(name).name if name else recognizer.info.id
        print(json.dumps({"base": told, "seed": given.seed, "found": found}) if given.json else table(told, found))


if __name__ == "__main__":
    main()
