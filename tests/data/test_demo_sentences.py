"""The grammars that write the demo's sentences."""

import pytest

from scripts.demo import english, swahili
from scripts.demo.swahili import CLASSES, Verb, adjective, nouns, numeral, verbs

VERBS = {verb.root: verb for verb in verbs()}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (VERBS["som"].word("ni", "na"), "ninasoma"),
        (VERBS["som"].word("wa", "li", "ki"), "walikisoma"),
        (VERBS["on"].word("a", "li", "m"), "alimwona"),
        (VERBS["l"].word("a", "na"), "anakula"),
        (VERBS["l"].word("a", "ta", "u"), "ataula"),
        (VERBS["nyw"].word("tu", "li", relative="yo"), "tuliyokunywa"),
        (VERBS["som"].word("ni", "li", relative="cho"), "nilichosoma"),
        (VERBS["safiri"].word("tu", "me"), "tumesafiri"),
        (VERBS["pend"].negative("ni", "na"), "sipendi"),
        (VERBS["rudi"].negative("a", "na"), "harudi"),
        (VERBS["l"].negative("tu", "li"), "hatukula"),
        (VERBS["l"].negative("tu", "ta"), "hatutakula"),
        (VERBS["fik"].negative("li", "me"), "halijafika"),
        (VERBS["saidi"].wish("a", "tu"), "atusaidie"),
        (VERBS["nyw"].infinitive(), "kunywa"),
        (swahili.GO.infinitive(), "kwenda"),
    ],
)
def test_verbs_carry_subject_tense_relative_and_object_in_order(word, expected):
    assert word == expected


@pytest.mark.parametrize(
    ("stem", "noun_class", "expected"),
    [
        ("zuri", "1", "mzuri"),
        ("zuri", "5", "zuri"),
        ("zuri", "10", "nzuri"),
        ("pya", "5", "jipya"),
        ("eusi", "8", "vyeusi"),
        ("refu", "9", "ndefu"),
        ("kubwa", "9", "kubwa"),
        ("ingine", "6", "mengine"),
        ("ingi", "2", "wengi"),
    ],
)
def test_adjectives_agree_with_the_class_of_their_noun(stem, noun_class, expected):
    assert adjective(stem, noun_class) == expected


@pytest.mark.parametrize(
    ("number", "noun_class", "expected"),
    [
        (2, "2", "wawili"),
        (3, "8", "vitatu"),
        (4, "4", "minne"),
        (2, "10", "mbili"),
        (5, "10", "tano"),
        (6, "2", "sita"),
    ],
)
def test_numerals_agree_up_to_five_and_eight(number, noun_class, expected):
    assert numeral(number, noun_class) == expected


def test_every_noun_has_a_known_class_and_every_object_tag_has_a_noun():
    assert {noun.agrees for noun in nouns()} | {noun.owned for noun in nouns()} <= set(CLASSES)
    tags = frozenset().union(*(noun.tags for noun in nouns() if not noun.held))
    assert all(verb.objects & tags for verb in verbs() if verb.objects)


def test_training_sentences_never_use_what_is_reserved_for_the_test():
    reserved = {noun.word for noun in nouns() if noun.held} - {noun.word for noun in nouns() if not noun.held}
    reserved |= {*swahili.lexicon.HELD_NAMES, *swahili.lexicon.HELD_TOWNS, *swahili.lexicon.HELD_PLACES}
    used = {word for sentence in swahili.generate(600, part="train", seed=5) for word in sentence.split()}
    asked = {word for sentence in swahili.generate(600, part="test", seed=5) for word in sentence.split()}
    assert not used & reserved
    assert asked & reserved


@pytest.mark.parametrize("make", [lambda seed: swahili.generate(80, part="test", seed=seed), lambda seed: english.generate(80, seed=seed)])
def test_sentences_differ_from_each_other_and_repeat_with_the_seed(make):
    first = make(1)
    assert len(set(first)) == len(first) == 80
    assert first == make(1) != make(2)
    assert all(3 <= len(sentence.split()) <= 9 and sentence.replace(" ", "").isalpha() for sentence in first)


def test_sentences_to_avoid_are_avoided():
    first = swahili.generate(60, part="train", seed=3)
    assert not set(first) & set(swahili.generate(60, part="train", seed=3, avoid=frozenset(first)))


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="'train' or 'test'"):
        swahili.generate(3, part="dev", seed=1)


def test_more_english_sentences_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(english, "PATTERNS", ("open the {door|window} please",))
    with pytest.raises(ValueError, match="gave 2 different sentences and 3"):
        english.generate(3, seed=1)


def test_a_verb_whose_end_never_changes_keeps_it():
    assert Verb("jibu", "", False, frozenset(), False).wish("ni") == "nijibu"
