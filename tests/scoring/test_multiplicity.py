"""Corrected p of many paired tests at once: what is never exceeded under chance, and what is told that Holm could not tell."""

import itertools

import numpy as np
import pytest

from asrpeft.scoring.multiplicity import max_t


def literal(differences):
    """The step-down procedure as it is written down, over all changes of sign."""
    n, m = differences.shape

    def t(rows):
        return rows.mean(axis=0) / (rows.std(axis=0, ddof=0) / np.sqrt(n - 1))

    seen = np.abs(t(differences))
    order = sorted(range(m), key=lambda i: -seen[i])
    counts, every = np.zeros(m), list(itertools.product((1.0, -1.0), repeat=n))
    for signs in every:
        drawn = np.abs(t(differences * np.array(signs)[:, None]))
        for rank, i in enumerate(order):
            counts[i] += max(drawn[j] for j in order[rank:]) >= seen[i] - 1e-12
    p, running = np.empty(m), 0.0
    for i in order:
        running = max(running, counts[i] / len(every))
        p[i] = running
    return p


def test_it_is_the_step_down_procedure_over_all_changes_of_sign():
    random = np.random.default_rng(0)
    for m in (1, 2, 5):
        differences = random.normal(size=(7, m)) + np.linspace(0, 1.5, m)
        t, p = max_t(differences)
        assert p == pytest.approx(literal(differences)) and np.sign(t) == pytest.approx(np.sign(differences.mean(axis=0)))


def test_more_tests_make_none_surer_and_a_larger_t_is_never_less_sure():
    random = np.random.default_rng(1)
    differences = random.normal(size=(11, 20)) + 0.6
    t, p = max_t(differences)
    alone = np.array([max_t(differences[:, [i]])[1][0] for i in range(20)])
    assert (p >= alone - 1e-12).all() and (np.diff(p[np.argsort(-np.abs(t))]) >= 0).all()


def test_where_no_system_differs_some_pair_is_told_apart_in_a_twentieth_of_all_worlds():
    random = np.random.default_rng(2)
    pairs = list(itertools.combinations(range(6), 2))
    found = 0
    for _ in range(400):
        rates = random.normal(size=(10, 6)) + random.normal(size=(10, 1))  # speakers differ, systems do not
        found += max_t(np.stack([rates[:, b] - rates[:, a] for a, b in pairs], axis=1))[1].min() < 0.05
    assert 0.02 < found / 400 < 0.085  # 0.05, and three standard errors


def test_what_stands_far_above_chance_is_told_among_thousands_of_pairs_by_fourteen_speakers():
    random = np.random.default_rng(3)
    rates = random.normal(scale=0.02, size=(14, 60)) + random.normal(scale=0.1, size=(14, 1))
    rates[:, 0] -= 0.3
    pairs = list(itertools.combinations(range(60), 2))
    _, p = max_t(np.stack([rates[:, b] - rates[:, a] for a, b in pairs], axis=1))
    far = np.array([0 in pair for pair in pairs])
    assert len(pairs) * 2 / 2**14 > 0.2, "the least p that Holm could give"
    assert (p[far] < 0.01).all() and (p[~far] > 0.05).mean() > 0.99


def test_units_that_all_differ_alike_are_as_sure_as_their_number_and_no_difference_is_none():
    differences = np.stack([np.full(10, 0.5), np.zeros(10), np.where(np.arange(10) == 3, 1.0, 0.0)], axis=1)
    t, p = max_t(differences)
    assert np.isinf(t[0]) and p[0] == pytest.approx(1 / 2**9) and (t[1], p[1]) == (0.0, 1.0) and p[2] > 0.5


def test_a_seed_gives_the_same_p_again_and_another_nearly():
    differences = np.random.default_rng(4).normal(size=(30, 4)) + 0.45
    one, again, other = (max_t(differences, seed=seed)[1] for seed in (0, 0, 1))
    assert (one == again).all() and other == pytest.approx(one, abs=0.02)
