"""What `asrpeft speakers` left in a folder is put to use: each utterance is heard by its own speaker's adapter."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from asrpeft.adapters.ctc import CTCHead
from asrpeft.cli.options import voice_of
from asrpeft.corpus import Corpus
from asrpeft.decoding import transcribe_corpus
from asrpeft.errors import BadAdapter, BadInput
from asrpeft.jobs.evaluate import evaluate
from asrpeft.jobs.voices import Voices
from asrpeft.options import DecodingOptions
from tests.decoding.lively import lively_recognizer
from tests.decoding.spoken import corpus
from tests.decoding.test_greedy import perturb

SECONDS = [0.6, 1.4, 0.9, 2.1, 1.2, 0.5]
SHORT = DecodingOptions(max_new_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Adapters of s0 (enabled) and s1 (not), and a pooled one; s2 has none."""
    made, out = lively_recognizer(1, source=1500), tmp_path_factory.mktemp("voices")
    for number, name in enumerate(["s0", "s1", "_pooled"]):
        made.adapt("lora", name=name, lang="sw", context="auto")
        perturb(made, name, number)
        made.adapters[name].save(out / name)
    report = {
        "speakers": [{"speaker": "s0", "adapter": "s0", "enabled": True}, {"speaker": "s1", "adapter": "s1", "enabled": False}],
        "pooled": {"adapter": "_pooled"},
        "by": "speaker",
    }
    (out / "speakers.json").write_text(json.dumps(report))
    return out


def change(folder: Path, to: Path, **changes) -> Path:
    shutil.copytree(folder, to)
    report = json.loads((to / "speakers.json").read_text())
    (to / "speakers.json").write_text(json.dumps(report | changes))
    return to


def test_enabled_adapters_hear_their_own_speakers_and_the_pooled_one_everybody_else(folder):
    recognizer, spoken = lively_recognizer(1, source=1500), corpus(SECONDS)
    heard = Voices.read(folder).attach(recognizer, spoken)
    assert recognizer.adapters.names() == ["_pooled", "s0"] and heard.summary(spoken) == "Of 3 speakers 1 were heard by their own adapter, 2 by the pooled one."
    found = evaluate(recognizer, spoken, adapters=["s0", heard], decoding=SHORT)
    assert [system["name"] for system in found.to_json()["systems"]] == ["base", "s0", "speakers"] and heard.summary(spoken) in found.notes
    own, pooled = (transcribe_corpus(recognizer, spoken, adapter=name, options=SHORT).texts for name in ("s0", "_pooled"))
    wanted = [a if u.speaker == "s0" else b for u, a, b in zip(spoken, own, pooled)]
    assert found.system("speakers").transcripts.texts == wanted and wanted not in (own, pooled)
    assert [test.b for test in found.tests] == ["s0", "speakers"]


def test_without_a_pooled_adapter_the_base_hears_everybody_else_in_the_speakers_language(folder, tmp_path):
    place = change(folder, tmp_path / "moved", pooled=None)
    recognizer, spoken = lively_recognizer(1, source=1500), corpus(SECONDS, langs=(None,))
    heard = Voices.read(place / "speakers.json").attach(recognizer, spoken)
    assert heard.otherwise is None and [heard(u) for u in spoken] == ["s0", None, None] * 2
    found = evaluate(recognizer, spoken, adapters=[heard], decoding=SHORT)
    assert set(found.systems[1].transcripts.languages) == {"sw"}
    alone = transcribe_corpus(recognizer, corpus(SECONDS), options=SHORT).texts
    assert [text for u, text in zip(spoken, found.systems[1].transcripts.texts) if u.speaker != "s0"] == [t for u, t in zip(spoken, alone) if u.speaker != "s0"]


def test_those_whom_a_base_without_a_ctc_head_hears_are_decoded_without_beside_adapters_that_vote(folder, tmp_path):
    recognizer, spoken = lively_recognizer(1, source=1500), corpus(SECONDS, broken=(1,))
    heard = Voices.read(change(folder, tmp_path / "apart", pooled=None)).attach(recognizer, spoken)
    recognizer.adapters["s0"].ctc = CTCHead(recognizer.base.config.d_model, ["<blank>", *"abcdefghijklmnopqrstuvwxyz "])
    joint = replace(SHORT, beams=2, ctc_weight=0.5)
    events = []
    found = evaluate(recognizer, spoken, adapters=[heard], decoding=joint, progress=lambda *step: events.append(step)).system("speakers").transcripts
    own = transcribe_corpus(recognizer, spoken, adapter="s0", options=joint).texts
    base = transcribe_corpus(recognizer, spoken, options=replace(joint, ctc_weight=0.0)).texts
    assert found.texts == [a if u.speaker == "s0" else b for u, a, b in zip(found.utterances, own, base)] and own != base
    assert [u.id for u in found.utterances] == ["u0", "u2", "u3", "u4", "u5"] and [one.id for one in found.skipped] == ["u1"]
    assert events[-1][:2] == (12, 12)


def test_only_those_who_speak_are_loaded_and_other_columns_and_old_paths_are_followed(folder, tmp_path):
    old = [{"speaker": "yard", "adapter": "adapters/voices/s0", "enabled": True}, {"speaker": "cave", "adapter": "lost", "enabled": True}]
    place = change(folder, tmp_path / "rooms", speakers=old, by="room")
    recognizer, spoken = lively_recognizer(1, source=1500), corpus(SECONDS)
    recognizer.adapters.load(folder / "s1", name="s0")  # another adapter that is called so
    heard = Voices.read(place).attach(recognizer, spoken)
    assert [heard(u) for u in spoken] == ["s0'", "_pooled"] * 3 and set(heard.adapters) == {"s0'", "_pooled"}
    with pytest.raises(BadInput, match="no column 'room'.*Add it"):
        Voices.read(place).attach(recognizer, Corpus([type(u)(**(vars(u) | {"extra": {}})) for u in spoken], name="x"))
    (missing,) = (one for one in [change(folder, tmp_path / "lost", speakers=[{"speaker": "s0", "adapter": "gone", "enabled": True}])])
    with pytest.raises(BadAdapter, match="no adapter folder"):
        Voices.read(missing).attach(recognizer, spoken)


def test_one_who_speaks_is_named_and_gets_what_would_be_used_for_them(folder, tmp_path):
    said = []
    assert voice_of(str(folder), "s0", None, say=said.append) == str(folder / "s0") and said == []
    assert voice_of(str(folder), "s1", None, say=said.append) == str(folder / "_pooled") and "the pooled adapter is used" in said[0]
    assert voice_of(str(change(folder, tmp_path / "none", pooled=None)), "s1", None, say=said.append) is None and "the base is used" in said[1]
    assert voice_of(None, None, "a", say=said.append) == "a" and voice_of(None, None, None, say=said.append) is None
    for given, why in (
        ((str(folder), None, None), "whose voice of s0, s1"),
        ((None, "s0", None), "belong together"),
        ((str(folder), "s0", "a"), "Keep one"),
        ((str(folder), "s9", None), "no speaker 's9'.*s0, s1"),
    ):
        with pytest.raises(BadInput, match=why):
            voice_of(*given, say=said.append)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "{}",
        '{"speakers": 3}',
        '{"speakers": [{"speaker": "a"}]}',
        '{"speakers": [], "pooled": "x"}',
        '{"speakers": [{"speaker": "a", "adapter": 3, "enabled": true}]}',
    ],
)
def test_a_file_that_says_nothing_of_use_is_refused(text, tmp_path):
    (tmp_path / "speakers.json").write_text(text)
    with pytest.raises(BadInput, match="cannot be used"):
        Voices.read(tmp_path)
    with pytest.raises(BadInput, match="holds no speakers.json"):
        Voices.read(tmp_path / "nowhere")
