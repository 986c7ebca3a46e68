"""Data that must not meet: refused where recordings are shared, told where speakers or sentences are, known by the adapter."""

import json
import warnings
from dataclasses import replace

import pytest

from asrpeft.adapters.inspect import inspect
from asrpeft.corpus import Corpus
from asrpeft.errors import BadInput
from asrpeft.jobs.amounts import amounts
from asrpeft.jobs.compare import compare
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.finetune import finetune
from asrpeft.jobs.leakage import SharedRecordings
from asrpeft.jobs.speakers import speakers
from asrpeft.options import AdapterOptions, Checks, Data, GrowingData, Guard, OutputOptions, SpeakerData, TrainingGuard
from asrpeft.training import Message
from tests.bases import tiny_recognizer
from tests.training.tones import options, tone, utterance


def part(first: int, n: int, *, name: str, speaker: str | None = None, text: str = "", ids: str = "u") -> Corpus:
    """`n` utterances whose sounds, ids and sentences are those of their numbers; speakers of the part's own."""
    rows = (utterance(i, seconds=0.3, audio=tone(200 + 3 * i, 0.3), speaker=f"{speaker or name}{i % 2}", text=f"{text}ab {i}") for i in range(first, first + n))
    return Corpus([replace(u, id=f"{ids}{u.id}") for u in rows], name=name)


TRAIN, DEV, TEST = part(0, 6, name="train"), part(6, 2, name="dev"), part(8, 4, name="test")
HOW = {"training": options(steps=1), "lang": "en"}


def renamed(corpus: Corpus, name: str) -> Corpus:
    """The same recordings under other ids, texts and speakers."""
    return Corpus([replace(u, id=f"x{u.id}", text=f"other {u.text}", speaker="x") for u in corpus], name=name)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"eval": TRAIN}, "6 of the 6 recordings of the evaluation data 'train' are in the training data 'train'"),
        ({"eval": Corpus([*TEST, *renamed(TRAIN[:2], "x")], name="mixed")}, "2 of the 6 recordings of the evaluation data 'mixed'"),
        ({"eval": DEV}, "recordings of the evaluation data 'dev' are in the development data 'dev'"),
        ({"dev": TRAIN}, "recordings of the development data 'train' are in the training data"),
        ({"guard": TrainingGuard(TRAIN, lang="en")}, "recordings of the guard data 'train' are in the training data"),
        ({"guard": TrainingGuard(DEV, lang="en")}, "recordings of the guard data 'dev' are in the development data"),
        ({"guard": TrainingGuard(TEST, lang="en", max_loss=1.0, dev=TRAIN)}, "recordings of the choosing guard data 'train'"),
    ],
)
def test_a_run_whose_parts_share_recordings_is_refused_before_it_trains(parts, said, tmp_path):
    recognizer, events = tiny_recognizer(), []
    with pytest.raises(BadInput, match=f"{said}.*--allow-overlap"):
        finetune(recognizer, Data(TRAIN, **{"dev": DEV, **parts}, overlap="refuse"), out=tmp_path / "a", progress=events.append, **HOW)
    assert not len(recognizer.adapters) and not list(tmp_path.iterdir()) and not any(type(e).__name__ == "Step" for e in events)


def test_knowingly_it_goes_on_and_says_so_at_both_ends_and_in_the_result(tmp_path):
    events = []
    with pytest.warns(SharedRecordings, match="4 of the 4 recordings") as warned:
        done = finetune(tiny_recognizer(), Data(TRAIN, dev=DEV, eval=renamed(TRAIN[:4], "test")), out=tmp_path / "a", progress=events.append, **HOW)
    assert warned[0].filename == __file__
    report = json.loads(json.dumps(done.to_json()))
    said = "4 of the 4 recordings of the evaluation data 'test' are in the training data 'train' too"
    assert any(isinstance(e, Message) and said in e.text for e in events) and any(said in note for note in report["eval"]["notes"])
    assert [(one["recordings"], one["speakers"]) for one in report["overlap"]] == [(4, 0)]


def test_shared_speakers_and_sentences_are_told_and_refused_nowhere():
    same = part(8, 4, name="test", speaker="train")
    said = Corpus([replace(u, text=TRAIN[0].text) if i == 0 else u for i, u in enumerate(same)], name="test")
    events = []
    done = finetune(tiny_recognizer(), Data(TRAIN, dev=DEV, overlap="refuse", eval=said), progress=events.append, **HOW)
    texts = " ".join(e.text for e in events if isinstance(e, Message))
    assert "2 of the 2 speakers of the evaluation data 'test' are in the training data 'train'" in texts
    assert "1 of the 4 sentences of the evaluation data 'test' is in the training data" in texts
    assert done.to_json()["overlap"][0]["speakers"] == 2


def test_parts_that_share_nothing_say_nothing():
    events = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", SharedRecordings)
        done = finetune(tiny_recognizer(), Data(TRAIN, dev=DEV, overlap="refuse", eval=TEST), progress=events.append, **HOW)
    assert "overlap" not in done.to_json() and not any("evaluation data" in e.text for e in events if isinstance(e, Message))


def test_sentences_that_were_held_out_of_one_corpus_by_speaker_are_no_news():
    corpus = Corpus([replace(u, text=f"ab {i % 3}", speaker=f"s{i % 4}") for i, u in enumerate(part(0, 8, name="c"))], name="c")
    events = []
    finetune(tiny_recognizer(), Data(corpus, overlap="refuse"), progress=events.append, **HOW)
    assert not any("sentences of the development data" in e.text for e in events if isinstance(e, Message))


# -- what the adapter knows ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters") / "a"
    finetune(tiny_recognizer(), Data(TRAIN, dev=DEV), out=folder, **HOW)
    return folder


def loaded(folder):
    recognizer = tiny_recognizer()
    recognizer.adapters.load(folder, name="a")
    return recognizer


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        (renamed(TRAIN[:3], "test"), "3 of the 3 recordings of the evaluation data 'test' are in what 'a' was trained on"),
        (DEV, "what chose the weights of 'a'"),
    ],
)
def test_an_adapter_knows_what_it_was_trained_on_and_what_chose_its_weights(trained, corpus, said):
    with pytest.raises(BadInput, match=f"{said}.*--allow-overlap"):
        evaluate(loaded(trained), corpus, adapters=["a"], lang="en", checks=Checks(overlap="refuse"))
    with pytest.warns(SharedRecordings):
        found = evaluate(loaded(trained), corpus, adapters=["a"], lang="en")
    assert any(said in note for note in found.notes) and found.to_json()["overlap"][0]["recordings"] == len(corpus)


def test_what_the_adapter_never_heard_is_scored_without_a_word_and_known_speakers_are_told(trained):
    assert evaluate(loaded(trained), TEST, adapters=["a"], lang="en", checks=Checks(overlap="refuse")).notes == ()
    found = evaluate(loaded(trained), part(8, 4, name="test", speaker="train"), adapters=["a"], lang="en", checks=Checks(overlap="refuse"))
    assert any("2 of the 2 speakers of the evaluation data 'test' are in what 'a' was trained on" in note for note in found.notes)


def test_guard_data_and_named_training_data_are_compared_too(trained):

    with pytest.raises(BadInput, match="guard data 'train' are in what 'a' was trained on"):
        evaluate(loaded(trained), TEST, adapters=["a"], lang="en", checks=Checks(guard=Guard(TRAIN, "en"), overlap="refuse"))
    with pytest.raises(BadInput, match="recordings without speech 'dev' are in what chose"):
        evaluate(loaded(trained), TEST, adapters=["a"], lang="en", checks=Checks(nonspeech=DEV, overlap="refuse"))
    with pytest.raises(BadInput, match="are in the training data 'test'"):
        evaluate(loaded(trained), TEST, adapters=["a"], lang="en", checks=Checks(train=TEST, overlap="refuse"))


def test_the_record_holds_digests_alone_and_can_be_left_out(trained, tmp_path):
    written = (trained / "adapter.json").read_text()
    record = json.loads(written)["training"]["record"]
    assert {"train", "dev"} == record.keys() and record["train"]["recordings"]["count"] == 6
    assert not any(word in json.dumps(record) for word in ("u000", "train0", "ab 0"))
    assert inspect(trained).training["record"] == {"train": {"recordings": 6, "ids": 6, "speakers": 2}, "dev": {"recordings": 2, "ids": 2, "speakers": 2}}
    finetune(tiny_recognizer(), Data(TRAIN, dev=DEV), out=OutputOptions(tmp_path / "b", record=False), **HOW)
    assert "record" not in json.loads((tmp_path / "b" / "adapter.json").read_text())["training"]


def test_an_adapter_that_goes_on_from_another_remembers_what_that_one_heard(trained, tmp_path):
    more = part(20, 4, name="more")
    with pytest.raises(BadInput, match="are in what the adapter that it starts from was trained on"):
        finetune(tiny_recognizer(), Data(more, dev=part(30, 2, name="held"), overlap="refuse", eval=TRAIN), method=AdapterOptions(init_adapter=trained), **HOW)
    finetune(
        tiny_recognizer(), Data(more, dev=part(30, 2, name="held"), overlap="refuse"), method=AdapterOptions(init_adapter=trained), out=tmp_path / "b", **HOW
    )
    recognizer = tiny_recognizer()
    recognizer.adapters.load(tmp_path / "b", name="b")
    for heard in (TRAIN, more):
        with pytest.raises(BadInput, match="'b' was trained on"):
            evaluate(recognizer, heard, adapters=["b"], lang="en", checks=Checks(overlap="refuse"))


# -- the other jobs --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("job", ["compare", "amounts"])
def test_contests_and_curves_refuse_what_a_run_refuses_before_anything_is_computed(job, monkeypatch):
    monkeypatch.setattr("asrpeft.jobs.trials.evaluate", lambda *given, **how: pytest.fail("computed"))
    data = GrowingData(TRAIN, dev=DEV, eval=TRAIN, fractions=(1.0,), overlap="refuse")
    with pytest.raises(BadInput, match="recordings of the evaluation data 'train' are in the training data"):
        if job == "compare":
            compare(tiny_recognizer(), data, methods=["lora"], **HOW)
        else:
            amounts(tiny_recognizer(), data, **HOW)


def test_a_contest_says_what_is_shared(tmp_path):
    found = compare(tiny_recognizer(), Data(TRAIN, dev=DEV, overlap="refuse", eval=part(8, 2, name="test", speaker="train")), methods=["ia3"], **HOW)
    assert any("speakers" in note for note in found.to_json()["notes"]) and found.to_json()["overlap"]


def test_a_speakers_own_sentences_are_tested_but_never_a_recording_that_trained(tmp_path):
    rows = [replace(u, speaker="ann", extra={"split": ("train", "dev", "test")[i % 3]}) for i, u in enumerate(part(0, 9, name="c"))]
    events = []
    speakers(tiny_recognizer(), SpeakerData(Corpus(rows, name="c"), overlap="refuse"), out=tmp_path / "a", progress=events.append, **HOW)
    assert not any("the test data" in e.text or "speakers of" in e.text for e in events if isinstance(e, Message))
    twice = [*rows, replace(rows[0], id="again", extra={"split": "test"})]
    with pytest.raises(BadInput, match="1 of the 4 recordings of the evaluation data 'all speakers, test' is in the training data"):
        speakers(tiny_recognizer(), SpeakerData(Corpus(twice, name="c"), overlap="refuse"), out=tmp_path / "b", **HOW)
