"""The search for a learning rate ends with the best one between two worse ones."""

import math

import pytest

from scripts.bench.rates import HIGHEST, MOST_RUNS, Sweep, grid, nearest, next_rate, search, table
from tests.bases import tiny_recognizer
from tests.training.tones import tones


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
        {"base": "tiny", "width": 384, "loss": "ctc", "method": "lora", "lr": lr, "dev_loss": loss} for lr, loss in ((1e-3, 2.0), (3e-3, 1.5), (1e-2, None))
    ]
    assert "| `lora` | 0.003 | 0.001 2.000, **0.003 1.500**, 0.01 diverges |" in table(rows)


@pytest.mark.parametrize("loss", ["ctc", "ce"])
def test_a_run_of_a_sweep_tells_the_loss_it_ends_with_and_leaves_no_adapter(loss):
    recognizer, corpus = tiny_recognizer(0), tones(8, speakers=4)
    sweep = Sweep(recognizer, corpus[:6], corpus[6:], None, "en", loss, 4, 1e-2, 10.0, 0)
    start, fast = sweep.run("lora", 0.0), sweep.run("lora", 3e-2)
    assert fast["dev_loss"] < start["dev_loss"] and fast["trained"] > 0 and not list(recognizer.adapters.names())


def test_a_sweep_goes_on_from_what_stands_in_the_file():
    asked = []

    def run(name: str, lr: float) -> dict:
        asked.append(lr)
        return {"dev_loss": abs(math.log(lr / 3e-3)), "seconds": 0.0, "trained": 1}

    about, rows = {"base": "tiny", "width": 384, "loss": "ctc", "steps": 30, "seed": 0, "method": "lora"}, []
    search(run, about, rows, rows.append)
    first = list(asked)
    search(run, about, rows, rows.append)
    assert asked == first and {1e-3, 3e-3, 1e-2} <= set(first)
