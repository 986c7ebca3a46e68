"""Intervals hold what they promise: known answers, simulated corpora, odd corners."""

import time

import numpy as np
import pytest

from asrpeft.errors import BadInput
from asrpeft.scoring import ratio_interval, wilson
from asrpeft.scoring.intervals import METHODS, rate_and_error, resample_sums, squares


def people(rng, corpora, speakers, *, rate=0.2):
    """Errors and words of each speaker, (corpora, speakers): speakers differ, bad ones say a little more."""
    hard = rng.normal(size=(corpora, speakers))
    words = 20 + rng.poisson(80 * np.exp(0.5 * rng.normal(size=hard.shape) + 0.2 * hard))
    generator = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + 0.65 * hard)))
    return rng.binomial(words, generator), words


@pytest.mark.parametrize("rate", [0.06, 0.2, 0.6])
def test_95_percent_intervals_hold_the_truth_about_95_times_in_100(rate):
    rng = np.random.default_rng(7)
    errors, words = people(rng, 400, 5_000, rate=rate)
    truth = errors.sum() / words.sum()
    errors, words = people(rng, 500, 30, rate=rate)
    held = [
        made.low <= truth <= made.high for made in (ratio_interval(e, w, resamples=1_000, seed=i) for i, (e, w) in enumerate(zip(errors, words, strict=True)))
    ]
    assert 0.92 <= np.mean(held) <= 0.98  # 0.95 ± 3 standard errors of 500 corpora


@pytest.mark.parametrize("method", METHODS)
def test_with_many_alike_units_every_method_gives_the_textbook_interval(method):
    rng = np.random.default_rng(3)
    errors = rng.binomial(1, 0.3, size=2_000)
    made = ratio_interval(errors, np.ones(2_000), method=method)
    half = 1.96 * np.sqrt(errors.mean() * (1 - errors.mean()) / 2_000)
    assert (made.low, made.high) == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.002)
    assert (made.level, made.method, made.units) == (0.95, method, 2_000)


@pytest.mark.parametrize("method", METHODS)
def test_a_higher_level_is_wider_and_contains_the_lower(method):
    errors, words = people(np.random.default_rng(1), 1, 20)
    narrow, wide = (ratio_interval(errors[0], words[0], level=level, method=method) for level in (0.8, 0.99))
    assert wide.low < narrow.low < errors.sum() / words.sum() < narrow.high < wide.high


@pytest.mark.parametrize("method", METHODS)
def test_few_units_give_a_finite_interval_around_the_rate(method):
    made = ratio_interval([0, 0, 4], [10, 12, 9], method=method)
    assert 0 <= made.low <= 4 / 31 <= made.high < 3


@pytest.mark.parametrize("method", METHODS)
def test_units_that_all_agree_give_a_point(method):
    assert ratio_interval([1, 2, 3], [10, 20, 30], method=method).to_json() == pytest.approx([0.1, 0.1])
    assert ratio_interval([0, 0, 0], [10, 20, 30], method=method).to_json() == [0, 0]


@pytest.mark.parametrize(("errors", "words", "resamples"), [([1], [5], 100), ([1, 2], [5, 5], 0), ([1, 2], [0, 0], 100)])
def test_what_cannot_be_known_is_null(errors, words, resamples):
    made = ratio_interval(errors, words, resamples=resamples)
    assert not made.known and made.to_json() == [None, None]


def test_differences_may_be_negative_and_keep_their_sign():
    rng = np.random.default_rng(2)
    words = rng.integers(50, 100, size=40)
    made = ratio_interval(-rng.binomial(words, 0.1), words)
    assert made.low < made.high < 0


def test_units_without_words_do_not_break_it():
    made = ratio_interval([0, 3, 2, 5, 1], [0, 10, 9, 12, 0], resamples=2_000)
    assert made.known and np.isfinite(made.high)


def test_the_standard_error_is_that_of_many_fresh_corpora():
    rng = np.random.default_rng(9)
    errors, words = people(rng, 3_000, 60)
    spread = (errors.sum(axis=1) / words.sum(axis=1)).std()
    given = [rate_and_error(squares(e, w).sum(axis=0)[None], 60)[1][0] for e, w in zip(errors[:300], words[:300], strict=True)]
    assert np.mean(given) == pytest.approx(spread, rel=0.05)


def test_resampling_draws_each_unit_as_often_as_any_other():
    sums = resample_sums(np.eye(5), 20_000, np.random.default_rng(0))
    assert np.all(sums.sum(axis=1) == 5)
    assert sums.mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    assert sums.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.05)  # binomial: n p (1 − p)


def test_ten_thousand_resamples_of_ten_thousand_utterances_take_seconds():
    rng = np.random.default_rng(4)
    words = rng.integers(1, 90, size=10_000)
    started = time.process_time()
    ratio_interval(rng.binomial(words, 0.1), words, resamples=10_000)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (([1, 2], [3]), {}, "shape"),
        (([1, 2], [3, 4]), {"method": "magic"}, "bca"),
        (([1, 2], [3, 4]), {"level": 1.5}, "between 0 and 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, options, said):
    with pytest.raises(BadInput, match=said):
        ratio_interval(*arguments, **options)


@pytest.mark.parametrize(("hits", "trials", "low", "high"), [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)])
def test_wilsons_interval_has_the_published_values(hits, trials, low, high):
    made = wilson(hits, trials)
    assert (made.low, made.high) == pytest.approx((low, high), abs=5e-4)
