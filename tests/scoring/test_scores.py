"""WER, CER and their kin on tables of cases, against a plain dynamic program, against jiwer, against NIST's sclite."""

import math
import random
import re
import shutil
import subprocess
import sys

import jiwer
import numpy as np
import pytest

from asrpeft.errors import BadInput
from asrpeft.scoring import Bootstrap, Counting, align, score
from asrpeft.scoring.alignment import ALIGNMENTS, edits
from asrpeft.scoring.intervals import ratio_interval

from .worlds import WORDS, corpus


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wer", "counts"),  # counts: hits, substitutions, deletions, insertions
    [
        ("the cat sat", "the cat sat", 0, (3, 0, 0, 0)),
        ("the cat sat", "the cat", 1 / 3, (2, 0, 1, 0)),
        ("the cat sat", "the bat sat", 1 / 3, (2, 1, 0, 0)),
        ("the cat sat", "the cat sat down", 1 / 3, (3, 0, 0, 1)),
        ("the cat sat", "", 1, (0, 0, 3, 0)),
        ("a", "b c d e", 4, (0, 1, 0, 3)),
        ("a b c d", "b c d e", 2 / 4, (3, 0, 1, 1)),
        ("The cat, sat.", "the CAT sat", 0, (3, 0, 0, 0)),
    ],
)
def test_errors_are_counted_as_a_person_would(reference, hypothesis, wer, counts):
    made = score([reference], [hypothesis], bootstrap=None)
    assert made.wer == pytest.approx(wer)
    assert (made.hits, made.substitutions, made.deletions, made.insertions) == counts


def test_rates_are_of_the_corpus_not_means_of_utterances():
    made = score(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"], bootstrap=None)
    assert made.wer == pytest.approx(1 / 10)


def test_mer_and_wil_follow_their_definitions():
    made = score(["a b c d"], ["a x c d e"], bootstrap=None)
    assert made.mer == pytest.approx(2 / 5)
    assert made.wil == pytest.approx(1 - (3 / 4) * (3 / 5))


def test_an_empty_reference_adds_insertions_and_divides_nothing():
    made = score(["a b", ""], ["a b", "hello there you"], bootstrap=Bootstrap(resamples=100))
    assert (made.words, made.insertions) == (2, 3)
    assert made.wer == pytest.approx(1.5)
    assert math.isnan(made.rows[1].counts.wer) and made.rows[1].to_json()["wer"] is None
    assert any("empty" in note for note in made.notes)


def test_text_as_given_is_scored_beside_the_normalized():
    made = score(["Hello, you."], ["hello you"], bootstrap=None)
    assert (made.wer, made.raw.wer, made.normalizer) == (0, 1, "marks@1")
    assert made.rows[0].raw_reference == "Hello, you." and made.rows[0].reference == "hello you"


def test_a_wrong_tone_is_one_character_wrong_by_codepoint_and_by_grapheme():
    assert score(["ɔ́yɛ́"], ["ɔ̀yɛ́"], bootstrap=None).cer == pytest.approx(1 / 5)
    assert score(["ɔ́yɛ́"], ["ɔ̀yɛ́"], bootstrap=None, counting=Counting(character_unit="grapheme")).cer == pytest.approx(1 / 3)


def test_spaces_do_not_count_where_the_script_writes_none():
    assert score(["你好世界"], ["你好 世界"], bootstrap=None).cer == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["a"], ["a", "b"]), "1 references and 2 hypotheses"),
        (([], []), "no utterance"),
        (([""], ["a"]), "nonspeech"),
        ((["..."], ["a"]), "marks@1"),
        ((["a"], [None]), "NoneType"),
        (("a", "a"), "list"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_a_remedy(arguments, said):
    with pytest.raises(BadInput, match=said):
        score(*arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": ["x", "x"]}, "more than once"),
        ({"ids": ["x"]}, "1 ids"),
        ({"speakers": ["x"]}, "1 speakers"),
        ({"normalizer": "nope"}, "marks"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_work(options, said):
    with pytest.raises(BadInput, match=said):
        score(["a b", "c"], ["a b", "d"], **options)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (Counting, {"alignment": "nist"}, "levenshtein, sclite"),
        (Counting, {"character_unit": "byte"}, "codepoint, grapheme"),
        (Bootstrap, {"method": "bayes"}, "studentised"),
        (Bootstrap, {"level": 95}, "0.95"),
        (Bootstrap, {"resamples": -1}, "0 for no intervals"),
        (Bootstrap, {"seed": -1}, "0 or a positive number"),
    ],
)
def test_a_way_to_count_or_to_draw_that_there_is_not_is_refused_when_the_value_is_made(make, options, said):
    with pytest.raises(BadInput, match=said):
        make(**options)


def test_intervals_are_made_as_the_bootstrap_says_and_none_makes_none():
    references, (hypotheses,), _, _ = corpus(7, rates=(0.2,))
    asked = Bootstrap(seed=3, resamples=300, level=0.8, method="percentile")
    found = score(references, hypotheses, bootstrap=asked)
    errors, words = (np.array([getattr(row.counts, name) for row in found.rows]) for name in ("errors", "words"))
    assert found.wer_interval == ratio_interval(errors, words, level=0.8, method="percentile", resamples=300, seed=3)
    nothing = score(references, hypotheses, bootstrap=None)
    assert not nothing.wer_interval.known and not nothing.cer_interval.known
    assert (nothing.wer, nothing.cer) == (found.wer, found.cer)


def plain_distance(a, b):
    """The textbook dynamic program, written here so that nothing is checked against its own library."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def pairs(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        few = WORDS[: rng.choice([2, 5, 40])]
        yield [rng.choice(few) for _ in range(rng.randint(1, 12))], [rng.choice(few) for _ in range(rng.randint(0, 12))]


def test_the_number_of_errors_is_the_smallest_there_is():
    made = list(pairs(2_000, 1))
    scored = score([" ".join(a) for a, _ in made], [" ".join(b) for _, b in made], normalizer="none", bootstrap=None)
    for row, (a, b) in zip(scored.rows, made, strict=True):
        assert row.counts.errors == plain_distance(a, b)
        assert row.counts.character_errors == plain_distance(" ".join(a), " ".join(b))


def test_rates_agree_with_jiwer_on_thousands_of_random_pairs():
    made = list(pairs(4_000, 2))
    references, hypotheses = [" ".join(a) for a, _ in made], [" ".join(b) or "x" for _, b in made]
    ours = score(references, hypotheses, normalizer="none", bootstrap=None)
    theirs = jiwer.process_words(references, hypotheses)
    assert (ours.wer, ours.mer, ours.wil) == pytest.approx((theirs.wer, theirs.mer, theirs.wil), abs=1e-12)
    assert ours.cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)
    assert (ours.hits, ours.substitutions) == (theirs.hits, theirs.substitutions)


@pytest.mark.parametrize("rule", ALIGNMENTS)
def test_an_alignment_spells_both_texts_in_order(rule):
    made = list(pairs(300, 3))
    for alignment, (a, b) in zip(align(*zip(*made, strict=True), rule=rule), made, strict=True):
        steps = edits(alignment, a, b)
        assert [edit.reference for edit in steps if edit.reference is not None] == a
        assert [edit.hypothesis for edit in steps if edit.hypothesis is not None] == b
        for kind, wanted, heard in steps:
            assert (kind == "hit") == (wanted == heard)


# What `sclite -i spu_id` of SCTK 2.4.10 printed for these corpora: correct, substituted, deleted, inserted.
SCLITE = {
    1: ((1511, 119, 112, 105), (1456, 159, 127, 141)),
    2: ((1334, 185, 146, 136), (1436, 121, 108, 99)),
    3: ((1086, 321, 208, 214), (1121, 292, 202, 223)),
    4: ((1551, 57, 60, 44), (1575, 48, 45, 53)),
}
RATES = {1: (0.2, 0.25), 2: (0.3, 0.2), 3: (0.5, 0.45), 4: (0.1, 0.1)}


@pytest.mark.parametrize("seed", SCLITE)
def test_with_nists_costs_the_counts_are_sclites(seed):
    references, heard, _, _ = corpus(seed, utterances=200, rates=RATES[seed])
    for hypotheses, counts in zip(heard, SCLITE[seed], strict=True):
        made = score(references, hypotheses, normalizer="none", counting=Counting(alignment="sclite"), bootstrap=None)
        assert (made.hits, made.substitutions, made.deletions, made.insertions) == counts


@pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's sctk is not installed (Debian: apt-get install sctk)")
def test_sclite_itself_reads_our_trn_files_and_counts_the_same(tmp_path):
    from asrpeft.scoring.report import sclite

    references, (hypotheses,), speakers, ids = corpus(11, rates=(0.35,))
    made = score(references, hypotheses, speakers=speakers, ids=ids, counting=Counting(alignment="sclite"), normalizer="none", bootstrap=None)
    sclite.write(made, tmp_path / "x")
    command = [
        "sctk",
        "sclite",
        "-r",
        "x.ref.trn",
        "trn",
        "-h",
        "x.trn",
        "trn",
        "-i",
        "spu_id",
        "-o",
        "rsum",
        "stdout",
        "-e",
        "utf-8",
    ]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    sums = [int(number) for number in re.findall(r"\d+", next(line for line in printed.splitlines() if "| Sum " in line))]
    assert sums[1:6] == [made.words, made.hits, made.substitutions, made.deletions, made.insertions]


def test_the_json_has_the_keys_the_design_promises():
    references, (hypotheses,), speakers, ids = corpus(5, rates=(0.2,))
    made = score(references, hypotheses, speakers=speakers, ids=ids, name="lora", bootstrap=Bootstrap(resamples=200))
    given = made.to_json(audio_seconds=12.5, audio_seconds_per_second=40.0)
    promised = (
        "name wer cer wer_interval cer_interval interval_unit words characters substitutions insertions deletions "
        "utterances audio_seconds audio_seconds_per_second raw normalizer"
    ).split()
    assert set(promised) <= set(given)
    assert given["interval_unit"] == "speaker" and set(given["raw"]) == {"wer", "cer"}
    assert given["wer_interval"][0] < given["wer"] < given["wer_interval"][1]
    assert given["substitutions"] + given["insertions"] + given["deletions"] == round(given["wer"] * given["words"])


def test_with_fewer_than_ten_speakers_the_interval_is_over_utterances_and_says_so():
    references, (hypotheses,), speakers, ids = corpus(6, rates=(0.2,), speakers=9)
    made = score(references, hypotheses, speakers=speakers, ids=ids, bootstrap=Bootstrap(resamples=200))
    assert made.interval_unit == "utterance" and any("9 speakers" in note for note in made.notes)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    references, (hypotheses,), _, _ = corpus(7, rates=(0.2,))
    a, b, c = (score(references, hypotheses, bootstrap=Bootstrap(resamples=500, seed=seed)).wer_interval for seed in (1, 1, 2))
    assert a == b != c


def test_scoring_imports_neither_torch_nor_transformers_nor_the_rest_of_the_package():
    code = (
        "import sys, asrpeft.scoring, asrpeft.scoring.report\n"
        "asrpeft.scoring.score(['a b'], ['a c'])\n"
        "heavy = {'torch', 'transformers', 'librosa', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "ours = {m for m in sys.modules if m.startswith('asrpeft.')}\n"
        "known = tuple('asrpeft.' + name for name in ('scoring', 'report', 'column_names', 'registry', 'spaceless', 'errors', 'visible'))\n"
        "print(sorted(heavy), sorted(m for m in ours if not m.startswith(known)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[] []"
