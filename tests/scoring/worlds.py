"""Made-up texts for the tests of scoring: nothing is copied from a corpus, and the same seed gives the same words."""

from __future__ import annotations

import random

WORDS = [a + b for a in ("b", "d", "k", "l", "m", "nd", "s", "t") for b in ("a", "e", "i", "o", "ɔ́", "u")]


def corpus(
    seed: int, *, utterances: int = 60, speakers: int = 12, rates: tuple[float, ...] = (0.2, 0.25), longest: int = 15
) -> tuple[list[str], list[list[str]], list[str], list[str]]:
    """(references, hypotheses per rate, speakers, ids); a third of the errors of each kind."""
    rng = random.Random(seed)
    references = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, longest))) for _ in range(utterances)]
    names = [f"s{i % speakers:02d}" for i in range(utterances)]
    heard = [[_misheard(text, rate, rng) for text in references] for rate in rates]
    return references, heard, names, [f"{name}-u{i:03d}" for i, name in enumerate(names)]


def babbling(utterances: int = 60) -> tuple[list[str], list[str], list[str]]:
    """(references, a base's texts, an adapter's): as many words wrong in both, over 100 %. The base's are near misses, a
    quarter too many in every utterance; the adapter has some words right, the others wholly wrong, and babbles now and then."""
    references = ["kalamba tusine rokado ndemi"] * utterances
    base = ["kalamby tusinx rokadu ndemo x"] * utterances
    some = ["kalamba xyxyxyxyx qqqqqqqqq zzzzzzzzz"] * (3 * utterances // 4)
    errors = 5 * utterances - 3 * len(some)  # what is left to be wrong in the others
    rest = utterances - len(some)
    return references, base, some + [" ".join(["wvwvwvwv"] * (errors // rest))] * rest


def _misheard(text: str, rate: float, rng: random.Random) -> str:
    words = []
    for word in text.split():
        generator = rng.random()
        if generator < rate / 3:
            continue
        words.append(rng.choice(WORDS) if generator < 2 * rate / 3 else word)
        if generator > 1 - rate / 3:
            words.append(rng.choice(WORDS))
    return " ".join(words)
