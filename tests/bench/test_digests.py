"""What README says of the digests that travel with an adapter."""

import numpy as np

from scripts.bench.digests import record, unseen, written


def test_the_record_of_any_corpus_takes_at_most_about_130_kB():
    assert 125_000 < written(record(20_000, np.random.default_rng(0)).to_json()) < 135_000


def test_a_small_corpus_is_known_whole_and_of_a_large_one_a_sample():
    rng = np.random.default_rng(0)
    assert unseen(5_000, 1, 200, rng) == 0.0
    assert 0.85 < unseen(100_000, 1, 1_000, rng) < 0.98  # a twelfth is found
