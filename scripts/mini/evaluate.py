"""The table of the model card: what an exported folder recognizes, measured with the files that are shipped.

    python -m scripts.mini.evaluate --model data/mini --speech-train …/train.parquet --speech-test …/test.parquet

Words are scored after `texts.normalize`; WER = (substitutions + deletions + insertions) / words of the reference, by jiwer.
Greedy search is this script's own; "joint" is what `asrpeft … --ctc-weight 0.3` does (four beams).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import pyarrow.parquet as pq
import torch

from asrpeft.audio.features import log_mel
from asrpeft.batching import by_budget
from asrpeft.decoding import decode_rows, make_row
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import load
from scripts.mini import real, voices
from scripts.mini.model import Recognizer
from scripts.mini.render import surround, trim, without_speech
from scripts.mini.texts import LANGUAGES, Texts, normalize
from scripts.synthesis import SynthesisError

MARGIN_S, BATCH_SECONDS = 0.5, 160.0
JOINT = DecodingOptions(beams=4, ctc_weight=0.3)


@dataclass(frozen=True)
class Sample:
    samples: np.ndarray
    text: str
    lang: str
    start: float = 0.0
    end: float = 0.0

    def context(self, mode: str) -> int:
        """Seconds of context: the length and half a second, rounded up, or 30."""
        return 30 if mode == "full" else min(30, math.ceil(len(self.samples) / 16_000 + MARGIN_S))


class Evaluation:
    def __init__(self, folder: Path):
        self.model, self.tokens = Recognizer.shipped(folder)
        self.recognizer = load(folder)
        self.characters = json.loads((folder / "asrpeft.json").read_text(encoding="utf-8"))["ctc_vocabulary"]
        self.rows: list[tuple[str, str, str]] = []

    def encoded(self, samples: Sequence[Sample], mode: str):
        """Batches of one context and language: (samples, encoder states)."""
        groups: dict[tuple[int, str], list[Sample]] = defaultdict(list)
        for sample in samples:
            groups[sample.context(mode), sample.lang].append(sample)
        for (seconds, _), members in groups.items():
            size = max(1, int(BATCH_SECONDS / seconds))
            for first in range(0, len(members), size):
                part = members[first : first + size]
                features = torch.stack([log_mel(torch.from_numpy(s.samples), n_frames=seconds * 100) for s in part])
                with torch.inference_mode():
                    yield part, self.model.encode(features)

    def prefix(self, lang: str, *, timestamps: bool = False) -> list[int]:
        head = [self.tokens.sot, self.tokens.languages[f"<|{lang}|>"], self.tokens.transcribe]
        return head if timestamps else [*head, self.tokens.no_timestamps]

    def transcripts(self, samples: Sequence[Sample], mode: str = "auto", lang: str | None = None) -> list[tuple[str, str]]:
        """(reference, hypothesis) pairs by greedy search."""
        pairs = []
        for part, encoded in self.encoded(samples, mode):
            for sample, ids in zip(part, self.model.greedy(encoded, self.prefix(lang or sample_language(part)), self.tokens.eot)):
                text = self.tokens.tokenizer.decode([t for t in ids if t < self.tokens.eot])
                pairs.append((sample.text, normalize(text)))
        return pairs

    def jointly(self, samples: Sequence[Sample], lang: str | None = None) -> list[tuple[str, str]]:
        """(reference, hypothesis) pairs as the package decodes with beams and the CTC head."""
        pairs = []
        ordered = sorted(samples, key=lambda sample: len(sample.samples))
        for part in by_budget(ordered, lambda s: 50 * s.context("auto"), batch_frames=int(50 * BATCH_SECONDS)):
            rows = [make_row(self.recognizer, s.samples, lang=lang or s.lang, context="auto") for s in part]
            pairs += [(s.text, normalize(found.text)) for s, found in zip(part, decode_rows(self.recognizer, rows, options=JOINT))]
        return pairs

    def by_characters(self, samples: Sequence[Sample]) -> list[tuple[str, str]]:
        """(reference, hypothesis) pairs by the CTC head's best path."""
        pairs = []
        for part, encoded in self.encoded(samples, "auto"):
            for sample, best in zip(part, self.model.ctc(encoded).argmax(-1).tolist()):
                kept = [c for n, c in enumerate(best) if c and (n == 0 or best[n - 1] != c)]
                pairs.append((sample.text, normalize("".join(self.characters[c] for c in kept))))
        return pairs

    def languages_detected(self, samples: Sequence[Sample]) -> float:
        ids = torch.tensor(list(self.tokens.languages.values()))
        codes, right = [code[2:-2] for code in self.tokens.languages], 0
        for part, encoded in self.encoded(samples, "auto"):
            with torch.inference_mode():
                scores = self.model.decode(encoded, torch.full((len(part), 1), self.tokens.sot))[:, 0, ids]
            right += sum(codes[best] == sample.lang for sample, best in zip(part, scores.argmax(-1).tolist()))
        return right / len(samples)

    def segment_times(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """(share of start and end times within 0.2 s, share of transcripts that have both)."""
        near, both = [], 0
        for part, encoded in self.encoded(samples, "auto"):
            prefix = self.prefix(sample_language(part), timestamps=True)
            found = self.model.greedy(encoded, prefix, self.tokens.eot, times_from=self.tokens.time_zero)
            for sample, ids in zip(part, found):
                times = [(t - self.tokens.time_zero) * 0.02 for t in ids if t >= self.tokens.time_zero]
                if len(times) == 2:
                    both += 1
                    near += [abs(times[0] - sample.start) <= 0.2, abs(times[1] - sample.end) <= 0.2]
        return (float(np.mean(near)) if near else 0.0), both / len(samples)

    def without_words(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """(share of empty transcripts when told English, share with P(no speech) above one half)."""
        empty = np.mean([not hypothesis for _, hypothesis in self.transcripts(samples)])
        silent = []
        for part, encoded in self.encoded(samples, "auto"):
            with torch.inference_mode():
                scores = self.model.decode(encoded, torch.full((len(part), 1), self.tokens.sot))[:, 0].softmax(-1)
            silent += (scores[:, self.tokens.no_speech] > 0.5).tolist()
        return float(empty), float(np.mean(silent))


def sample_language(part: Sequence[Sample]) -> str:
    return part[0].lang


def percent(pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    return f"{100 * jiwer.wer(references, hypotheses):.1f} %", f"{100 * jiwer.cer(references, hypotheses):.1f} %"


def synthesized(texts: Texts, lang: str, n: int) -> list[Sample]:
    """Held-out sentences by the voices of training, as clean as they come; a third by festival where it speaks the language."""
    random_, numbers, samples = random.Random(f"evaluate {lang}"), np.random.default_rng(99), []
    sentences = texts.tests(lang, n)
    spoken: list[tuple[str, np.ndarray]] = []
    half = len(sentences) // 3 if lang in voices.FESTIVAL_SHARE else 0
    spoken += [(text, wave) for text, wave, _ in voices.festival_batch(sentences[:half], lang, random_)]
    for text in sentences[half:]:
        try:
            spoken.append((text, voices.say(text, lang, random_)[0]))
        except SynthesisError:
            continue
    for text, wave in spoken:
        wave, start, end = surround(trim(wave), numbers)
        samples.append(Sample(wave, text, lang, start, end))
    return samples


def recorded(utterances: Sequence[real.Spoken]) -> list[Sample]:
    return [Sample(u.samples(), u.text, "en") for u in utterances]


def evaluate(folder: Path, *, train: str | None, test: str | None, demo: Path, n: int = 60) -> str:
    """The table, in Markdown."""
    torch.set_num_threads(2)
    evaluation = Evaluation(folder)
    lines = ["| measured | utterances | WER greedy | CER | WER joint | CER | |", "|---|---|---|---|---|---|---|"]

    def add(name: str, pairs: Sequence[tuple[str, str]], note: str = "", *, joint: Sequence[tuple[str, str]] = ()) -> None:
        lines.append("| " + " | ".join([name, str(len(pairs)), *percent(pairs), *(percent(joint) if joint else ("", "")), note]) + " |")
        print(lines[-1], flush=True)

    def tell(name: str, count: int, note: str) -> None:
        lines.append(f"| {name} | {count} | | | | | {note} |")
        print(lines[-1], flush=True)

    spoken = real.read(train) if train else []
    trained_on, dev = real.split(spoken)
    texts = Texts(1, [u.text for u in trained_on])
    made = {lang: synthesized(texts, lang, n) for lang in LANGUAGES}
    every: list[tuple[str, str]] = []
    every_jointly: list[tuple[str, str]] = []
    for lang, samples in made.items():
        pairs, joint = evaluation.transcripts(samples), evaluation.jointly(samples)
        every += pairs
        every_jointly += joint
        add(f"synthesized, {lang}", pairs, joint=joint)
    add("synthesized, all", every, "audio context auto", joint=every_jointly)
    add("synthesized, all", [pair for samples in made.values() for pair in evaluation.transcripts(samples, "full")], "audio context full")
    mixed = [sample for samples in made.values() for sample in samples]
    tell("language detected, of 100", len(mixed), f"{100 * evaluation.languages_detected(mixed):.0f} % right")
    near, both = evaluation.segment_times(mixed)
    tell("segment times, synthesized", len(mixed), f"{100 * near:.0f} % within 0.2 s; {100 * both:.0f} % have both")
    if spoken:
        for name, of_them in (("adults", real.adults), ("children", real.children)):
            held = recorded(of_them(dev))
            add(f"real {name}, dev speakers of training", evaluation.transcripts(held), joint=evaluation.jointly(held))
    if test:
        heard = real.read(test)
        adults, children = recorded(real.adults(heard)), recorded(real.children(heard))
        add("real adults, test", evaluation.transcripts(adults), "audio context auto", joint=evaluation.jointly(adults))
        add("real adults, test, CTC head", evaluation.by_characters(adults), "best path, no language model")
        add("real adults, test", evaluation.transcripts(adults, "full"), "audio context full")
        add("real children, test", evaluation.transcripts(children), "audio context auto", joint=evaluation.jointly(children))
    numbers = np.random.default_rng(5)
    quiet = [Sample(without_speech(numbers), "", "en") for _ in range(200)]
    empty, silent = evaluation.without_words(quiet)
    tell("silence, noise, tones", len(quiet), f"{100 * empty:.0f} % empty; {100 * silent:.0f} % have P(no speech) > 0.5")
    if (demo / "sw-test.parquet").exists():
        swahili = demonstration(demo / "sw-test.parquet")
        add(
            "held-out language (Swahili, data/demo)",
            evaluation.transcripts(swahili, lang="sw"),
            "told `sw`, before adaptation",
            joint=evaluation.jointly(swahili, lang="sw"),
        )
    return "\n".join(lines)


def demonstration(parquet: Path) -> list[Sample]:
    rows = pq.read_table(parquet).to_pylist()
    spoken = [real.Spoken(row["id"], normalize(row["text"]), row["speaker"], 0, row["audio"]["bytes"]) for row in rows]
    return [Sample(s.samples(), s.text, "sw") for s in spoken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("data/mini"))
    parser.add_argument("--speech-train", help="for its dev speakers")
    parser.add_argument("--speech-test")
    parser.add_argument("--demo", type=Path, default=Path("data/demo"))
    parser.add_argument("--sentences", type=int, default=60, help="synthesized, per language")
    parser.add_argument("--out", type=Path, help="write the table here too")
    given = parser.parse_args()
    started = time.monotonic()
    table = evaluate(given.model, train=given.speech_train, test=given.speech_test, demo=given.demo, n=given.sentences)
    if given.out:
        given.out.write_text(table + "\n", encoding="utf-8")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
