"""`--lang auto`: the base says which language is spoken; and who is told which where nobody says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from asrpeft.corpus import Corpus
from asrpeft.decoding import language, make_row, transcribe_corpus
from asrpeft.decoding.batch import encode_rows, features_of
from asrpeft.decoding.language import check_detection, detect, detect_corpus, languages_of
from asrpeft.errors import BadInput
from asrpeft.jobs import transcribe as job
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.transcribe import transcribe
from asrpeft.options import DecodingOptions, ScoringOptions
from asrpeft.recognizer import BaseInfo
from asrpeft.streaming import stream_decoder
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import corpus
from tests.decoding.test_greedy import perturb

SHORT = DecodingOptions(max_new_tokens=6)
SECONDS = [0.6, 1.4, 0.9, 2.1, 1.2, 0.5]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))).astype(np.float32)


@pytest.fixture(scope="module")
def recognizer():
    """It hears different languages in different noise, and knows nothing of its training."""
    made = lively_recognizer(2, source=1500)
    made.info = replace(made.info, languages=())
    made.generation.begin_suppress_tokens = [made.end]  # it always says something, in letters
    made.generation.suppress_tokens = list(range(made.end + 1, made.base.config.vocab_size))
    # The tokens of the languages point to where the sounds of the tests lie apart.
    with torch.no_grad():
        rows = [make_row(made, noise(1.1, seed) * (1 + seed), lang="sw") for seed in range(8)]
        encoded = encode_rows(made, rows)
        heard = made.base.model.decoder(torch.full((8, 1), made.start), encoder_hidden_states=encoded.states).last_hidden_state[:, 0]
        middle = heard.mean(0)
        apart = heard - middle
        apart = apart - (apart @ middle)[:, None] * middle / middle.square().sum()
        first, second = 30 * torch.linalg.svd(apart).Vh[:2]
        made.base.model.decoder.embed_tokens.weight[list(made.languages.values())] = torch.stack([first, -first, second, -second])
    made.adapt("lora", name="p", lang="sw", context="auto")
    perturb(made, "p", 1)
    return made


def test_the_language_is_the_one_that_transformers_detects_among_all_that_the_base_has(recognizer, monkeypatch):
    monkeypatch.setattr(recognizer, "info", BaseInfo("tiny"))  # full context
    sounds = [noise(seconds, seed) * level for seed, (seconds, level) in enumerate([(0.7, 0.1), (1.9, 1), (1.1, 5), (2.4, 0.5)])]
    found = detect(recognizer, sounds)
    features, _ = features_of(recognizer, [make_row(recognizer, one, lang="sw") for one in sounds])
    with recognizer.route(None):
        theirs = recognizer.base.detect_language(input_features=features).tolist()
    assert [recognizer.languages[f"<|{one.language}|>"] for one in found] == theirs and len(set(theirs)) > 1
    assert all(0.25 < one.probability <= 1 for one in found)
    assert detect(recognizer, [np.concatenate([noise(30.0), noise(9.0, 1)])])[0] == detect(recognizer, [noise(30.0)])[0]


def test_only_languages_that_the_base_was_trained_on_are_asked_for_and_learned_ones_by_their_name(recognizer, monkeypatch):
    assert set(languages_of(recognizer)) == {"en", "de", "sw", "yo"}
    monkeypatch.setattr(recognizer, "info", BaseInfo("tiny", languages=("en", "German")))
    assert set(languages_of(recognizer)) == {"en", "de"}
    assert detect(recognizer, [noise(1.0)])[0].language in ("en", "de")
    # A merged export: its base, of which nothing was known, and the language that was learned in a slot.
    monkeypatch.setattr(recognizer, "info", BaseInfo("m", languages=("klingon",), slots={"<|yo|>": "klingon"}, language="klingon"))
    assert languages_of(recognizer)["klingon"] == recognizer.languages["<|yo|>"] and set(languages_of(recognizer)) == {"en", "de", "sw", "klingon"}
    monkeypatch.setattr(recognizer, "info", BaseInfo("m", languages=("en", "sw"), language="sw"))
    assert set(languages_of(recognizer)) == {"en", "sw"}


def test_a_base_that_cannot_detect_the_language_says_so(recognizer, monkeypatch):
    monkeypatch.setattr(recognizer, "info", BaseInfo("tiny", contexts=("full", "auto"), languages=("en", "de")))
    with pytest.raises(BadInput, match="'p' is for 'sw', which the base never learned to detect"):
        check_detection(recognizer, [None, "p"])
    for run in (
        lambda: list(transcribe(recognizer, noise(0.5), adapter="p", lang="auto")),
        lambda: stream_decoder(recognizer, adapter="p", lang="auto"),
        lambda: evaluate(recognizer, corpus(SECONDS), adapters=["p"], lang="auto"),
    ):
        with pytest.raises(BadInput, match="Leave --lang auto out"):
            run()
    monkeypatch.setattr(recognizer.generation, "is_multilingual", False)
    with pytest.raises(BadInput, match="one language"):
        list(transcribe(recognizer, noise(0.5), lang="auto"))
    with pytest.raises(BadInput, match="known"):
        recognizer.adapt("lora", name="q", lang="auto")


def test_the_base_answers_without_adapters_and_merged_weights_where_nothing_else_can_run(recognizer):
    sound = [noise(1.3, 4), noise(0.8, 5)]
    alone = detect(recognizer, sound)
    with recognizer.route("p"):
        assert detect(recognizer, sound) == alone
    recognizer.adapters.merge("p")
    try:
        assert [one.language for one in detect(recognizer, sound)] and detect(recognizer, sound) != alone
    finally:
        recognizer.adapters.unmerge()


def test_a_recording_is_transcribed_in_the_language_that_is_heard_and_says_which(recognizer):
    said = set()
    for seed in range(8):
        sound = noise(1.1, seed) * (1 + seed)
        heard = detect(recognizer, [sound])[0]
        found, message = (list(transcribe(recognizer, sound, lang=lang, decoding=SHORT)) for lang in ("auto", heard.language))
        assert [(one.text, one.language) for one in found] == [(one.text, heard.language) for one in message]
        assert {one.language_probability for one in found} == {heard.probability} and {one.language_probability for one in message} == {None}
        said.add(heard.language)
    assert len(said) > 1


def test_a_long_recording_is_judged_by_the_first_30_seconds_of_its_speech(recognizer, monkeypatch):
    speech = [((2.0, 14.0), noise(12.0, 1)), ((20.0, 38.0), noise(18.0, 2)), ((50.0, 60.0), noise(10.0, 3))]
    monkeypatch.setattr(job, "stretches_of", lambda *_, **__: iter(speech))
    asked = []
    monkeypatch.setattr(job, "detect_speech", lambda recognizer, first, **_: asked.append(first) or language.Detected("de", 0.5))
    found = list(transcribe(recognizer, noise(61.0), lang="auto", decoding=SHORT))
    assert [len(one) for one in asked[0]] == [192_000, 288_000] and len(asked) == 1
    assert [(one.start, one.end, one.language) for one in found] == [(*span, "de") for span, _ in speech]
    monkeypatch.setattr(job, "stretches_of", lambda *_, **__: iter(()))
    assert list(transcribe(recognizer, noise(61.0), lang="auto")) == [] and len(asked) == 1


def test_a_corpus_is_transcribed_row_by_row_in_the_language_that_is_heard(recognizer):
    spoken = corpus(SECONDS, langs=(None, "de"), broken=(2,))
    heard = detect_corpus(recognizer, spoken, batch_frames=200)
    assert set(heard) == {"u0", "u1", "u3", "u4", "u5"}
    found = transcribe_corpus(recognizer, spoken, lang="auto", options=SHORT)
    assert found.languages == tuple(heard[u.id].language for u in found.utterances) and len(found.skipped) == 1
    by_hand = transcribe_corpus(recognizer, spoken, lang=lambda u: heard[u.id].language, options=SHORT)
    assert found.texts == by_hand.texts
    assert transcribe_corpus(recognizer, corpus(SECONDS, langs=("sw", "de")), lang=None, options=SHORT).languages == ("sw", "de") * 3


def test_an_evaluation_listens_once_for_all_systems_and_writes_the_language_of_every_row(recognizer, monkeypatch):
    spoken, calls = corpus(SECONDS, langs=("sw", None)), []
    real = detect_corpus
    monkeypatch.setattr("asrpeft.jobs.evaluate.detect_corpus", lambda *a, **k: calls.append(1) or real(*a, **k))
    found = evaluate(recognizer, spoken, adapters=["p"], lang="auto", decoding=SHORT)
    heard = detect_corpus(recognizer, spoken, batch_frames=1_000)
    report = json.loads(json.dumps(found.to_json(rows=True)))
    assert len(calls) == 1 and sum(report["languages"].values()) == len(spoken)
    for system in report["systems"]:
        assert [row["language"] for row in system["rows"]] == [heard[row["id"]].language for row in system["rows"]]
    right = sum(heard[u.id].language == "sw" for u in spoken if u.lang)
    assert f"({right} of 3 as the corpus says)" in found.notes[0]
    assert "languages" not in evaluate(recognizer, spoken, adapters=["p"], decoding=SHORT).to_json()


def test_a_stream_listens_until_three_seconds_of_speech_and_then_keeps_the_language(recognizer, monkeypatch):
    asked, answers = [], iter(["de", "yo", "en"])
    monkeypatch.setattr("asrpeft.streaming.session.detect", lambda r, sounds, **_: asked.append(len(sounds[0])) or [language.Detected(next(answers), 0.9)])
    hear = stream_decoder(recognizer, lang="auto", options=SHORT)
    assert hear.language is None and hear(noise(0.0)) == [] and asked == []
    for seconds, said, heard in ((1.0, "", "de"), (2.0, "ab", "de"), (2.0, "", "yo"), (3.0, "", "en"), (1.0, "", "en")):
        words = hear(noise(seconds), said)
        assert hear.language == heard
        assert said or [w.text for w in words] == [w.text for w in stream_decoder(recognizer, lang=heard, options=SHORT)(noise(seconds))]
    assert asked == [16_000, 32_000, 48_000]
    assert stream_decoder(recognizer, adapter="p").language == "sw" and stream_decoder(recognizer, adapter="p", lang="de").language == "de"


# -- who is told which where the corpus does not say ------------------------------------------------------------------------
def test_a_corpus_of_unsaid_language_is_read_in_the_adapters_by_the_base_too(recognizer):
    silent, said = (Corpus(list(corpus(SECONDS, langs=langs)), name="noise") for langs in ((None,), ("sw",)))
    found, result = (evaluate(recognizer, one, adapters=["p"], decoding=SHORT) for one in (silent, said))
    for ours, theirs in zip(found.systems, result.systems):
        assert ours.transcripts.texts == theirs.transcripts.texts and set(ours.transcripts.languages) == {"sw"}
    with pytest.raises(BadInput, match="--lang"):
        evaluate(recognizer, silent)


def test_adapters_of_different_languages_leave_the_base_without_one(recognizer):
    silent = corpus(SECONDS, langs=(None,))
    recognizer.adapt("lora", name="german", lang="de", context="auto")
    recognizer.adapt("lora", name="anything", context="auto")
    try:
        with pytest.raises(BadInput, match="de, sw.*--lang auto"):
            evaluate(recognizer, silent, adapters=["p", "german"])
        alone = evaluate(recognizer, silent, adapters=["p", "german"], decoding=SHORT, scoring=ScoringOptions(base=False))
        assert [set(one.transcripts.languages) for one in alone.systems] == [{"sw"}, {"de"}]
        mixed = evaluate(recognizer, corpus(SECONDS, langs=(None, "en")), adapters=["p", "anything"], decoding=SHORT)
        assert all(one.transcripts.languages == ("sw", "en") * 3 for one in mixed.systems)
    finally:
        for name in ("german", "anything"):
            recognizer.adapters.detach(name)


def test_a_merged_base_knows_its_language_in_evaluations_transcripts_and_streams(recognizer, monkeypatch):
    monkeypatch.setattr(recognizer, "info", BaseInfo("m", contexts=("full", "auto"), language="de", context="auto"))
    silent = corpus(SECONDS, langs=(None,))
    found = evaluate(recognizer, silent, decoding=SHORT).systems[0].transcripts
    assert set(found.languages) == {"de"} and found.texts == transcribe_corpus(recognizer, silent, lang="de", options=SHORT).texts
    assert [one.language for one in transcribe(recognizer, noise(1.0), decoding=SHORT)] == ["de"]
    assert stream_decoder(recognizer).language == "de"
