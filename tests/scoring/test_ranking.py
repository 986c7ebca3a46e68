"""Which method is best, which cannot be told from it, and how many speakers would tell them."""

import numpy as np
import pytest

from asrpeft.scoring import Bootstrap, compare_all, score
from asrpeft.scoring.multiplicity import max_t
from asrpeft.scoring.ranking import Ranker
from asrpeft.scoring.seeds import by_unit
from tests.scoring.worlds import corpus


def world(rates, *, speakers=14, seed=3, utterances=84):
    references, heard, names, ids = corpus(seed, rates=rates, speakers=speakers, utterances=utterances)
    return [score(references, texts, speakers=names, ids=ids, name=f"x{place}", bootstrap=Bootstrap(resamples=200)) for place, texts in enumerate(heard)]


def ranked(rates, names, **how):
    base, *others = world(rates, **how)
    ranker = Ranker(base)
    for name, one in zip(names, others, strict=True):
        ranker.add(name, [one])
    return base, others, ranker.ranking()


def test_the_best_is_told_from_those_that_are_far_and_not_from_those_that_are_near():
    _, _, found = ranked((0.6, 0.20, 0.21, 0.45), ["a", "b", "c"])
    assert found.best in ("a", "b") and set(found.tied) == {"a", "b"} - {found.best} and found.to_best["c"].apart and found.pairs == 3
    near = found.to_best[found.tied[0]]
    assert near.needed.unit == "speaker" and near.needed.have == 14 and near.needed.units > 14
    told = " ".join(found.sentences())
    assert f"{found.best} has the lowest WER" in told and f"cannot be told apart from {found.tied[0]}" in told
    assert f"{found.tied[0]} {near.needed.units:,}" in told and "80% power" in told and "speakers like the 14 of this test" in told
    assert found.to_json()["tied"] == found.tied


def test_where_all_are_apart_the_sentence_says_so():
    _, _, found = ranked((0.9, 0.05, 0.5), ["a", "b"])
    assert not found.tied and "All others can be told apart from it (p < 0.05 after Holm over 1 pair)." in found.sentences()


def test_the_tests_against_the_base_are_those_of_compare_all():
    base, others, found = ranked((0.6, 0.2, 0.21, 0.45), ["x1", "x2", "x3"])
    for one in compare_all([base, *others], to_first=True):
        mine = found.against_base[one.b]
        assert (mine.difference, mine.p, mine.p_adjusted, mine.verdict, mine.notes) == (one.difference, one.p, one.p_adjusted, one.verdict, one.notes)


def test_a_test_against_the_best_is_corrected_for_all_pairs_and_not_for_those_with_the_best_alone():
    _, others, found = ranked((0.6, 0.20, 0.24, 0.24, 0.24), ["a", "b", "c", "d"])
    assert found.best == "a" and found.pairs == 6
    alone = compare_all([others[0], *others[1:]], to_first=True)
    deltas = [by_unit([others[0]], [one]) for one in others[1:]]
    _, of_three = max_t(np.stack([delta / words for _, delta, words in deltas], axis=1))
    for one, name, fewer in zip(alone, ("b", "c", "d"), of_three, strict=True):
        test = found.to_best[name].test
        assert test.p_adjusted >= fewer and test.p_adjusted >= one.p == test.p and test.difference == pytest.approx(one.difference)
        assert test.interval.low < test.difference < test.interval.high
    assert found.correction == found.to_json()["correction"] == "the largest t" and "after the largest t over 6 pairs" in " ".join(found.sentences())


def test_few_speakers_and_several_seeds_are_corrected_by_holm():
    assert ranked((0.6, 0.20, 0.24, 0.5), ["a", "b", "c"], speakers=4)[2].correction == "Holm"
    base, a, b, c = world((0.6, 0.20, 0.24, 0.5))
    ranker = Ranker(base)
    for name, one in (("a", a), ("b", b), ("c", c)):
        ranker.add(name, [one, one])
    assert ranker.ranking().correction == "Holm"


def test_methods_may_come_one_after_another_and_again():
    base, a, b, c = world((0.6, 0.20, 0.21, 0.45))
    slow, fast = Ranker(base), Ranker(base)
    for name, one in (("a", a), ("b", c), ("c", c)):
        slow.add(name, [one])
        slow.ranking()
    slow.add("b", [b])
    for name, one in (("a", a), ("b", b), ("c", c)):
        fast.add(name, [one])
    assert slow.ranking().to_json() == fast.ranking().to_json()
    assert {name: one.to_json() for name, one in slow.ranking().to_best.items()} == {name: one.to_json() for name, one in fast.ranking().to_best.items()}


def test_what_was_compared_is_not_compared_again(monkeypatch):
    base, a, b, c = world((0.6, 0.20, 0.21, 0.45))
    from asrpeft.scoring import ranking as module

    asked, real = [], module.compare_one
    monkeypatch.setattr(module, "compare_one", lambda one, other, **how: asked.append((one.name, other.name)) or real(one, other, **how))
    ranker = Ranker(base)
    for name, one in (("a", a), ("b", b)):
        ranker.add(name, [one])
    ranker.ranking()
    before = len(asked)
    ranker.ranking()
    assert len(asked) == before
    ranker.add("c", [c])
    ranker.ranking()
    assert all("c" in pair for pair in asked[before:])


def test_several_seeds_are_one_method_and_seeds_that_differ_make_nobody_sure():
    base, low, high, other = world((0.6, 0.15, 0.40, 0.28))
    one, several = Ranker(base), Ranker(base)
    one.add("steady", [other])
    one.add("lucky", [low])
    several.add("steady", [other, other, other])
    several.add("lucky", [low, high, low])
    assert one.ranking().to_best["steady"].apart  # by its first seed
    found = several.ranking()
    assert found.rates["lucky"].wer == pytest.approx((2 * low.wer + high.wer) / 3) and len(found.rates["lucky"].seeds) == 3
    assert not next(iter(found.to_best.values())).apart
    assert found.against_base["steady"].test == "seeds" and found.against_base["steady"].verdict == "better"


def test_one_method_and_none_have_no_best_to_be_told_from():
    base, a = world((0.6, 0.2))
    ranker = Ranker(base)
    assert ranker.ranking().best is None and ranker.ranking().sentences() == []
    ranker.add("a", [a])
    assert ranker.ranking().best == "a" and ranker.ranking().sentences() == [] and not ranker.ranking().to_best


def test_methods_that_write_the_same_are_not_told_apart_and_nothing_is_said_of_how_many_it_takes():
    base, a = world((0.6, 0.2))
    ranker = Ranker(base)
    for name in ("a", "b"):
        ranker.add(name, [a])
    assert ranker.ranking().tied == ["b"] and "make the same errors" in ranker.ranking().sentences()[-1]
