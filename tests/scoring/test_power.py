"""How many speakers would be needed: the formula, and whether so many do find the difference."""

import numpy as np
import pytest
from scipy.special import stdtr

from asrpeft.errors import BadInput
from asrpeft.scoring.power import RANKS, needed


def drawn(n, mean, sd, seed=0):
    """Differences of `n` units, each of a hundred words, with exactly this mean and spread (in errors)."""
    delta = np.random.default_rng(seed).normal(size=n)
    return mean + sd * (delta - delta.mean()) / delta.std(ddof=1), np.full(n, 100.0)


def test_the_number_is_that_of_the_formula():
    found = needed(*drawn(20, 1.0, 3.0), "utterance")
    assert found.units == int(np.ceil((1.959964 + 0.841621) ** 2 * 9)) == 71 and (found.have, found.unit) == (20, "utterance")
    assert needed(*drawn(20, 1.0, 3.0), "speaker").units == int(np.ceil(RANKS * (1.959964 + 0.841621) ** 2 * 9))


def test_half_the_difference_needs_four_times_as_many_and_more_comparisons_need_more():
    one, half = (needed(*drawn(40, mean, 3.0), "utterance").units for mean in (1.0, 0.5))
    assert half == pytest.approx(4 * one, abs=4)
    many = needed(*drawn(40, 1.0, 3.0), "utterance", comparisons=10).units
    assert one < many < 2.5 * one


def test_so_many_units_find_the_difference_with_the_power_that_was_asked():
    n = needed(*drawn(25, 1.0, 4.0), "utterance").units
    rng = np.random.default_rng(1)
    delta = rng.normal(1.0, 4.0, size=(4_000, n))
    t = delta.mean(axis=1) / (delta.std(axis=1, ddof=1) / np.sqrt(n))
    assert np.mean(2 * stdtr(n - 1, -np.abs(t)) < 0.05) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("delta", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, 1.0]])
def test_nothing_is_said_where_nothing_can_be(delta):
    assert needed(np.array(delta), np.full(len(delta), 10.0), "speaker") is None


@pytest.mark.parametrize("wrong", [{"power": 1.0}, {"alpha": 0.0}, {"power": -1}])
def test_a_power_that_is_none_is_refused(wrong):
    with pytest.raises(BadInput, match="between 0 and 1"):
        needed(*drawn(5, 1.0, 1.0), "speaker", **wrong)
