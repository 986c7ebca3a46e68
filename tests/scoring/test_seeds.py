"""A method trained by several seeds: the mean, and an interval that knows of seeds and of speakers."""

import numpy as np
import pytest

from asrpeft.errors import BadInput
from asrpeft.scoring import score
from asrpeft.scoring.seeds import difference_over_seeds, rate_over_seeds


def corpus(wrong, *, speakers=12, each=4, words=10, name="m"):
    """A score in which utterance u of speaker s has `wrong(s, u)` wrong words of ten."""
    rows = [(s, u) for s in range(speakers) for u in range(each)]
    said = [" ".join(["a"] * words)] * len(rows)
    heard = [" ".join(["b"] * wrong(s, u) + ["a"] * (words - wrong(s, u))) for s, u in rows]
    return score(said, heard, speakers=[f"s{s}" for s, _ in rows], ids=[f"{s}-{u}" for s, u in rows], name=name, bootstrap=None)


def test_the_mean_is_that_of_the_seeds_and_one_seed_is_the_rate_itself():
    scores = [corpus(lambda s, u, extra=extra: s % 3 + extra) for extra in (0, 1, 2)]
    assert rate_over_seeds(scores).mean == pytest.approx(np.mean([one.wer for one in scores]))
    assert rate_over_seeds(scores[:1]).mean == pytest.approx(scores[0].wer) and rate_over_seeds(scores[:1]).unit == "speaker"


def test_seeds_that_differ_widen_the_interval_and_seeds_that_agree_do_not():
    alike = [corpus(lambda s, u: s % 4) for _ in range(3)]
    apart = [corpus(lambda s, u, extra=extra: s % 4 + extra) for extra in (0, 1, 2)]
    one, same, wide = (rate_over_seeds(scores).interval() for scores in (alike[:1], alike, apart))
    assert (same.low, same.high) == pytest.approx((one.low, one.high), rel=1e-6)
    assert wide.high - wide.low > 2 * (one.high - one.low)


def test_a_difference_that_every_seed_and_speaker_shows_is_sure_and_one_that_seeds_decide_is_not():
    base = [corpus(lambda s, u: 4 + (s + u) % 2)]
    sure = [corpus(lambda s, u, seed=seed: 2 + (s + seed) % 2) for seed in range(3)]
    luck = [corpus(lambda s, u, extra=extra: 4 + extra) for extra in (-2, 0, 1)]
    assert difference_over_seeds(base, sure).p < 0.001 and difference_over_seeds(base, sure).mean < 0
    assert difference_over_seeds(base, luck).p > 0.2
    # Each seed by itself is sure: over speakers alone, the first would be called better and the last worse.
    assert difference_over_seeds(base, luck[:1]).p < 0.001 > difference_over_seeds(base, luck[2:]).p


def test_intervals_hold_the_true_difference_about_as_often_as_they_say():
    rng, held, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        of_speaker, of_seed = rng.normal(0, 1.0, 12), rng.normal(0, 0.7, 4)

        def system(seed, of_speaker=of_speaker, of_seed=of_seed):
            noise = of_speaker + (0 if seed is None else of_seed[seed])
            return corpus(lambda s, u: int(np.clip(np.round(5 + noise[s] * (seed is not None)), 0, 10)), each=1)

        found = difference_over_seeds([system(None)], [system(seed) for seed in range(4)]).interval()
        held += found.low <= 0 <= found.high
    assert 0.91 <= held / runs <= 1.0


def test_few_speakers_are_compared_by_utterances():
    few = corpus(lambda s, u: s + u, speakers=3, words=10)
    assert difference_over_seeds([few], [few, few]).unit == "utterance" and difference_over_seeds([few], [few, few]).p == 1.0


def test_seeds_that_do_not_match_and_other_utterances_are_refused():
    one, other = corpus(lambda s, u: 1), corpus(lambda s, u: 1, each=3)
    with pytest.raises(BadInput, match="seed by seed"):
        difference_over_seeds([one, one], [one] * 3)
    with pytest.raises(BadInput, match="same utterances"):
        difference_over_seeds([one], [other])
