"""Do 95 % intervals hold the truth 95 times in 100, and do tests of equal systems cry wolf 5 times in 100?

    python scripts/bench/scoring_simulation.py coverage --corpora 1000
    python scripts/bench/scoring_simulation.py false-alarms --corpora 2000
    python scripts/bench/scoring_simulation.py agreement --pairs 100000

Corpora are texts, made as people are: speakers differ in how well they are recognized (log-odds of an error, sd 0.6),
in how much they say (log-normal) and, a little, in both together; utterances of one speaker differ again (sd 0.5); and a
system has its own luck with each speaker (sd 0.3). The words go through `score` and `compare`, as users' words do. The
truth is the rate of one corpus of 10,000 speakers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asrpeft.scoring import Bootstrap, compare, score  # noqa: E402
from asrpeft.scoring.errors import Score  # noqa: E402

VOCABULARY = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "l", "ra", "mi")]


@dataclass(frozen=True)
class World:
    """How a population of speakers is recognized. `wer` is the rate at the median speaker; sds are in log-odds."""

    wer: float = 0.2
    speaker_sd: float = 0.6
    utterance_sd: float = 0.5
    system_sd: float = 0.3
    utterances: float = 8.0
    words: float = 9.0

    def corpus(self, speakers: int, rng: np.random.Generator, *, systems: int = 1) -> tuple[list[str], list[list[str]], list[str]]:
        """(references, one list of hypotheses per system, speaker of each utterance)."""
        references: list[str] = []
        hypotheses: list[list[str]] = [[] for _ in range(systems)]
        names: list[str] = []
        base = np.log(self.wer / (1 - self.wer))
        for speaker in range(speakers):
            hard = rng.normal()
            luck = rng.normal(0, self.system_sd, size=systems)
            for _ in range(1 + rng.poisson(self.utterances * np.exp(0.5 * rng.normal() + 0.2 * hard))):
                words = [VOCABULARY[i] for i in rng.integers(0, len(VOCABULARY), size=1 + rng.poisson(self.words))]
                odds = base + self.speaker_sd * hard + luck + self.utterance_sd * rng.normal()
                references.append(" ".join(words))
                names.append(f"s{speaker}")
                for system in range(systems):
                    hypotheses[system].append(_misheard(words, 1 / (1 + np.exp(-odds[system])), rng))
        return references, hypotheses, names


def _misheard(words: list[str], rate: float, rng: np.random.Generator) -> str:
    heard: list[str] = []
    for word, generator, kind, other in zip(words, rng.random(len(words)), rng.random(len(words)), rng.integers(0, len(VOCABULARY), len(words)), strict=True):
        if generator >= rate:
            heard.append(word)
        elif kind < 0.5:
            heard.append(VOCABULARY[other])
        elif kind > 0.75:
            heard += [word, VOCABULARY[other]]
    return " ".join(heard)


@lru_cache
def truth(world: World, seed: int) -> Score:
    references, (hypotheses,), _ = world.corpus(10_000, np.random.default_rng(seed + 10**6))
    return score(references, hypotheses, bootstrap=None)


def coverage(world: World, *, speakers: int, corpora: int, seed: int, resamples: int, method: str, by_speaker: bool = True) -> dict:
    """Share of corpora whose interval holds the true WER and CER."""
    true, held, width = truth(world, seed), np.zeros((corpora, 2)), np.zeros(corpora)
    for place in range(corpora):
        references, (hypotheses,), names = world.corpus(speakers, np.random.default_rng([seed, place]))
        made = score(
            references,
            hypotheses,
            speakers=names if by_speaker else None,
            bootstrap=Bootstrap(resamples=resamples, seed=place, method=method),
        )
        width[place] = made.wer_interval.high - made.wer_interval.low
        held[place] = (
            made.wer_interval.low <= true.wer <= made.wer_interval.high,
            made.cer_interval.low <= true.cer <= made.cer_interval.high,
        )
    wer, cer = held.mean(axis=0)
    return {
        "speakers": speakers,
        "resampled": made.interval_unit,
        "method": method,
        "true_wer": round(true.wer, 4),
        "wer_coverage": float(wer),
        "cer_coverage": float(cer),
        "mean_width": round(float(width.mean()), 4),
        "corpora": corpora,
    }


def false_alarms(world: World, *, speakers: int, corpora: int, seed: int, resamples: int) -> dict:
    """Share of pairs of equal systems that each test, and the verdict, call different."""
    alarms: dict[str, list[bool]] = {}
    for place in range(corpora):
        references, both, names = world.corpus(speakers, np.random.default_rng([seed, place]), systems=2)
        a, b = (score(references, texts, speakers=names, name=name, bootstrap=None) for name, texts in zip("ab", both, strict=True))
        made = compare(a, b, resamples=resamples, seed=place)
        alarms.setdefault("verdict", []).append(made.verdict != "not distinguishable")
        for test in made.tests:
            alarms.setdefault(test.name, []).append(test.p < 0.05)
    rates = {name: round(float(np.mean(found)), 4) for name, found in alarms.items()}
    return {"speakers": speakers, "system_sd": world.system_sd, "decides": made.test, **rates, "corpora": corpora}


def random_pairs(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs from unrelated to equal, of 1 to 20 words over few words, so that alignments have many ties."""
    rng = random.Random(seed)
    for _ in range(count):
        words = [rng.choice(VOCABULARY[: rng.choice([3, 10, 300])]) for _ in range(rng.randint(1, 20))]
        rate = rng.random()
        heard = [rng.choice(VOCABULARY[:10]) if rng.random() < rate / 2 else w for w in words if rng.random() > rate / 3]
        heard += [rng.choice(words) for _ in range(rng.choice([0, 0, 0, 1, 5]))]
        yield " ".join(words), " ".join(heard)


def agreement(count: int, seed: int) -> dict:
    """Largest difference from jiwer over utterances and over the corpus; 0 is expected."""
    import jiwer

    pairs = list(random_pairs(count, seed))
    references, hypotheses = [list(side) for side in zip(*pairs, strict=True)]
    ours = score(references, hypotheses, normalizer="none", bootstrap=None)
    theirs = jiwer.process_words(references, hypotheses)
    letters = jiwer.process_characters(references, hypotheses)
    worst = 0.0
    for row, (reference, hypothesis) in zip(ours.rows, pairs, strict=True):
        if not hypothesis:
            continue
        single = jiwer.process_words(reference, hypothesis)
        worst = max(worst, abs(row.counts.wer - single.wer), abs(row.counts.cer - jiwer.cer(reference, hypothesis)))
        worst = max(worst, abs(row.counts.mer - single.mer), abs(row.counts.wil - single.wil))
    return {
        "pairs": count,
        "largest_difference_of_an_utterance": worst,
        "corpus_differences": {
            name: abs(getattr(ours, name) - value) for name, value in (("wer", theirs.wer), ("mer", theirs.mer), ("wil", theirs.wil), ("cer", letters.cer))
        },
        "counts_equal": (ours.hits, ours.substitutions, ours.deletions, ours.insertions)
        == (theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["coverage", "false-alarms", "agreement"])
    parser.add_argument("--corpora", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "agreement":
        print(json.dumps(agreement(given.pairs, given.seed)))
        return
    common = {"corpora": given.corpora, "seed": given.seed, "resamples": given.resamples}
    if given.what == "coverage":
        for wer, speakers, method, by_speaker in (
            (0.2, 30, "studentised", True),
            (0.2, 60, "studentised", True),
            (0.05, 30, "studentised", True),
            (0.6, 30, "studentised", True),
            (0.2, 12, "studentised", True),
            (0.2, 30, "bca", True),
            (0.2, 30, "percentile", True),
            (0.2, 30, "studentised", False),
        ):
            made = coverage(World(wer=wer), speakers=speakers, method=method, by_speaker=by_speaker, **common)
            print(json.dumps(made), flush=True)
    else:
        for speakers, system_sd in ((3, 0.0), (30, 0.3), (12, 0.3), (30, 0.0), (3, 0.3)):
            print(json.dumps(false_alarms(World(system_sd=system_sd), speakers=speakers, **common)), flush=True)


if __name__ == "__main__":
    main()
