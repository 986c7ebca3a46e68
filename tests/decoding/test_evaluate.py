"""`evaluate`: the base first, then the adapters, scored and compared on the same utterances."""

from __future__ import annotations

import json

import pytest

from asrpeft.adapters.ctc import CTCHead
from asrpeft.decoding import transcribe_corpus, vote
from asrpeft.errors import BadCorpus, BadInput
from asrpeft.jobs.evaluate import evaluate
from asrpeft.options import DecodingOptions, ScoringOptions
from asrpeft.scoring import score
from tests.bases import tiny_recognizer
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import corpus
from tests.decoding.test_greedy import perturb

SECONDS = [1.3, 0.4, 2.2, 0.8, 3.1, 1.9, 0.7, 1.1]


@pytest.fixture(scope="module")
def recognizer():
    made = lively_recognizer(1, source=1500)
    for number, name in enumerate("pq"):
        made.adapt("lora", name=name, lang="sw", context="auto")
        perturb(made, name, number)
    return made


def test_systems_are_the_base_and_the_adapters_in_order_with_the_promised_keys(recognizer):
    events = []
    found = evaluate(recognizer, corpus(SECONDS, broken=(3,)), adapters=["q", "p"], progress=lambda *step: events.append(step))
    printed = json.loads(json.dumps(found.to_json()))
    assert [system["name"] for system in printed["systems"]] == ["base", "q", "p"]
    promised = {
        "name",
        "wer",
        "cer",
        "wer_interval",
        "cer_interval",
        "interval_unit",
        "words",
        "characters",
        "substitutions",
        "insertions",
        "deletions",
        "utterances",
        "audio_seconds",
        "audio_seconds_per_second",
        "raw",
        "normalizer",
    }
    for system in printed["systems"]:
        assert promised <= system.keys() and system["raw"].keys() == {"wer", "cer"}
        assert system["utterances"] == 7 and system["audio_seconds"] == pytest.approx(sum(SECONDS) - SECONDS[3], abs=0.01)
        assert system["audio_seconds_per_second"] > 0
    assert [(t["a"], t["b"]) for t in printed["tests"]] == [("base", "q"), ("base", "p")]
    assert {"difference", "p", "verdict"} <= printed["tests"][0].keys()
    assert [one["id"] for one in printed["skipped"]] == ["u3"] and "u3" in printed["skipped"][0]["reason"]
    assert events[-1] == (24, 24, "p") and [step[0] for step in events] == sorted(step[0] for step in events)


def test_a_vote_is_one_more_system_of_the_texts_that_the_adapters_agree_on(recognizer):
    recognizer.adapt("prompt", name="r", lang="sw", context="auto")
    try:
        found = evaluate(recognizer, corpus(SECONDS[:4]), adapters=["p", "q", "r"], scoring=ScoringOptions(vote=True))
        assert [system["name"] for system in found.to_json()["systems"]] == ["base", "p", "q", "r", "vote"]
        rows = zip(*(system.transcripts.hypotheses for system in found.systems[1:4]))
        assert [one.text for one in found.systems[4].transcripts.hypotheses] == [vote(row).text for row in rows]
        assert found.to_json()["tests"][-1]["b"] == "vote"
        with pytest.raises(BadInput, match="two adapters at least"):
            evaluate(recognizer, corpus(SECONDS[:2]), adapters=["p"], scoring=ScoringOptions(vote=True))
    finally:
        recognizer.adapters.detach("r")


def test_the_scores_are_those_of_the_transcripts(recognizer):
    spoken = corpus(SECONDS)
    found = evaluate(recognizer, spoken, adapters=["p"])
    for name in (None, "p"):
        heard = transcribe_corpus(recognizer, spoken, adapter=name)
        message = score([u.text for u in spoken], heard.texts)
        system = found.system("base" if name is None else name)
        assert system.transcripts.texts == heard.texts
        assert (system.score.wer, system.score.cer) == (message.wer, message.cer)
    assert found.system("base").transcripts.texts != found.system("p").transcripts.texts


def test_an_adapter_that_changes_nothing_is_not_distinguishable_and_caps_bind(recognizer):
    fresh = lively_recognizer(1, source=1500)
    fresh.adapt("lora", name="fresh", lang="sw", context="auto")
    test = evaluate(fresh, corpus(SECONDS), adapters=["fresh"]).tests[0]
    assert test.difference == 0 and test.verdict == "not distinguishable"
    capped = evaluate(recognizer, corpus(SECONDS), adapters=["p"], scoring=ScoringOptions(cap=1.0)).tests[0]
    assert capped.cap == 1.0 and abs(capped.difference) <= 1


def test_scores_are_broken_down_by_columns(recognizer):
    found = evaluate(recognizer, corpus(SECONDS), adapters=["p"], scoring=ScoringOptions(by=("room", "speaker"))).to_json()
    parts = found["systems"][1]["by"]
    assert [part["column"] for part in parts] == ["room", "speaker"]
    assert {group["value"]: group["utterances"] for group in parts[0]["groups"]} == {"hall": 4, "yard": 4}
    with pytest.raises(BadInput, match="no column 'mood'"):
        evaluate(recognizer, corpus(SECONDS), scoring=ScoringOptions(by=("mood",)))


def test_a_base_is_told_the_slot_that_the_adapter_learned_a_new_language_in():
    recognizer = lively_recognizer(1, source=1500)
    adapter = recognizer.adapt("lora", name="bam", lang="bam", context="auto")
    spoken = corpus([0.7, 1.1], langs=("bam",))
    found = evaluate(recognizer, spoken, adapters=["bam"])
    slot = adapter.manifest.language_slot[2:-2]
    assert found.system("base").transcripts.texts == transcribe_corpus(recognizer, spoken, lang=slot).texts
    assert slot in found.notes[0]
    assert found.tests[0].difference == 0  # a fresh vector is the slot's own
    with pytest.raises(BadInput, match="no token"):
        evaluate(recognizer, spoken)


def test_a_base_without_a_ctc_head_is_decoded_without_and_that_is_said():
    recognizer = tiny_recognizer(3)
    recognizer.adapt("lora", name="own", where="decoder", lang="sw")
    recognizer.adapters["own"].ctc = CTCHead(recognizer.base.config.d_model, ["<blank>", " ", *"abcdefghij"])
    spoken, joint = corpus([1.0, 1.5]), DecodingOptions(beams=2, ctc_weight=0.5)
    found = evaluate(recognizer, spoken, adapters=["own"], decoding=joint)
    assert "no CTC head" in found.notes[0]
    alone = evaluate(recognizer, spoken, decoding=DecodingOptions(beams=2))
    assert found.systems[0].transcripts.texts == alone.systems[0].transcripts.texts
    with pytest.raises(BadInput, match="The base has no CTC head"):
        evaluate(recognizer, spoken, decoding=joint)


def test_nothing_to_evaluate_is_said(recognizer):
    with pytest.raises(BadCorpus, match="u0"):
        evaluate(recognizer, corpus([0.5, 0.6], broken=(0, 1)))
    with pytest.raises(BadInput, match="nothing to evaluate"):
        evaluate(recognizer, corpus([0.5]), scoring=ScoringOptions(base=False))
    with pytest.raises(BadInput, match="twice"):
        evaluate(recognizer, corpus([0.5]), adapters=["p", "p"])
