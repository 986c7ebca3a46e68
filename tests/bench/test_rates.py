"""The search for a learning rate ends with the best one between two worse ones."""

import math

import pytest

from scripts.bench.rates import HIGHEST, MOST_RUNS, grid, nearest, next_rate, table


def searched(loss, start: int) -> dict[int, float]:
    found: dict[int, float] = {}
    while (place := next_rate(found, start)) is not None:
        found[place] = loss(place)
    return found


def test_rates_are_half_decades():
    assert [grid(i) for i in (-6, -5, -4, -1, 0)] == [1e-3, 3e-3, 1e-2, 0.3, 1.0]
    assert [nearest(rate) for rate in (1e-3, 2e-3, 5e-3, 2e-2, 5e-2)] == [-6, -5, -5, -3, -3]


@pytest.mark.parametrize("start", [-8, -6, -5, -3])
def test_the_search_finds_the_lowest_loss_and_a_worse_one_on_each_side(start):
    found = searched(lambda i: (i + 5) ** 2, start)
    best = min(found, key=lambda i: found[i])
    assert best == -5 and {-6, -4} <= set(found) and len(found) <= MOST_RUNS


def test_a_rate_that_diverges_is_worse_than_any_other():
    found = searched(lambda i: math.inf if i > -4 else -float(i), -3)
    assert min(found, key=lambda i: found[i]) == -4


def test_no_rate_above_the_highest_is_tried_and_the_search_ends():
    found = searched(lambda i: -float(i), -1)
    assert max(map(grid, found)) == HIGHEST and min(found, key=lambda i: found[i]) == 0


def test_the_table_marks_the_best_rate_of_each_base():
    rows = [
        {"base": "some/tiny", "width": 384, "loss": "ctc", "method": "lora", "lr": lr, "dev_loss": loss}
        for lr, loss in ((1e-3, 2.0), (3e-3, 1.5), (1e-2, None))
    ]
    assert "| `lora` | 0.003 | 0.001 2.000, **0.003 1.500**, 0.01 diverges |" in table(rows)
