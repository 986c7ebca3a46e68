"""The scripts that make `data/mini` hold out what they must, and train on what they say."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import sys

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch

from scripts.mini import card, real, render, sound, splice, texts, voices
from scripts.mini.batches import IGNORED, Material, Stage
from scripts.mini.model import Recognizer
from scripts.mini.shards import Row, Shard, Writer, complete
from scripts.mini.tokens import Tokens, load
from scripts.synthesis import RESERVED_VARIANTS, SynthesisError, speak


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator([" the cat sat on the mat"] * 5, vocab_size=280, show_progress=False)
    bpe.save_model(str(folder))
    return Tokens(load(folder))


@pytest.fixture(scope="module")
def recognizer(tokens):
    torch.manual_seed(0)
    return Recognizer(tokens, 30).eval()


def shard(folder, n: int = 8, source: str = "synth"):
    random_ = np.random.default_rng(0)
    with Writer(folder) as writer:
        for number in range(n):
            samples = random_.standard_normal(8_000 + 800 * number).astype(np.float32) * 0.1
            writer.add(samples, text="" if source == "noise" else "the cat", lang="en", source=source, voice="v", start=0.1, end=0.4)
    return folder


def test_the_demo_language_and_the_demo_voices_are_never_used():
    assert "sw" not in texts.LANGUAGES and not RESERVED_VARIANTS & set(voices.usable_variants())


def test_espeak_says_something_and_refuses_what_it_does_not_have():
    samples = speak("hello", voice="en", variant="f1")
    assert samples.dtype == np.float32 and 0.2 < len(samples) / 16_000 < 3 and 0.01 < np.abs(samples).max() <= 1
    for wrong in ({"voice": "nowhere"}, {"voice": "en", "variant": "nobody"}):
        with pytest.raises(SynthesisError, match="has no"):
            speak("hello", **wrong)
    with pytest.raises(SynthesisError, match="nothing"):
        speak(" ", voice="en")


@pytest.fixture
def fortunes(tmp_path):
    """A folder as Debian's fortunes are laid out, with sentences enough for some to be held out."""
    subjects = ("the old cat", "my friend", "a small boat", "our teacher", "the river", "her brother", "this dog", "the queen")
    verbs = ("sees", "likes", "leaves", "finds", "draws", "forgets")
    objects = ("the house", "a green hill", "the long road", "some bread", "an open door", "his shoes", "the garden", "a red star")
    said = [" ".join(words) for words in itertools.product(subjects, verbs, objects)]
    (tmp_path / "fortunes").mkdir()
    (tmp_path / "fortunes" / "cats").write_text("\n%\n".join(f"{sentence.capitalize()}." for sentence in said))
    return texts.Sources(fortunes=tmp_path / "fortunes", catalogs=tmp_path / "none")


@pytest.mark.parametrize("style", [(), ("he is my friend", "we went to the house", "the house is old")])
@pytest.mark.parametrize("installed", [True, False])
def test_a_sentence_for_evaluation_is_never_drawn_for_training(fortunes, tmp_path, installed, style):
    sources = fortunes if installed else texts.Sources(tmp_path / "none", tmp_path / "none")
    every = texts.Texts(0, style, sources)
    assert ("en" not in every.missing()) == installed and bool(every.unseen["en"]) == installed and "fi" in every.missing()
    for lang in ("en", "fi"):
        drawn = {every.train(lang, random.Random(n), 0.0) for n in range(400)}
        assert len(drawn) > 50 and not {text for text in drawn if texts.held_out(text)}
        test, dev = every.tests(lang, 12), every.tests(lang, 12, "dev")
        assert test and dev and all(map(texts.held_out, test + dev)) and not set(test) & set(dev)


@pytest.mark.parametrize("raw, clean", [("It’s  LATE!", "it's late"), ("'quoted' words", "quoted words"), ("é", "é")])
def test_texts_keep_letters_and_apostrophes_only(raw, clean):
    assert texts.normalize(raw) == clean


def test_degraded_speech_keeps_its_length_and_repeats_with_its_seed():
    samples = np.sin(np.arange(16_000) / 20).astype(np.float32)
    one, two, other = (sound.degrade(samples, np.random.default_rng(seed), [samples]) for seed in (1, 1, 2))
    assert len(one) == len(samples) and np.abs(one).max() <= 1 and np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_shard_returns_what_was_written_and_an_unfinished_one_is_not_seen(tmp_path):
    read = Shard(shard(tmp_path / "a"))
    assert len(read.rows) == 8 and read.rows[1].frames == 55 and read.features(read.rows[7]).shape == (85, 80)
    with pytest.raises(ZeroDivisionError), Writer(tmp_path / "b"):
        raise ZeroDivisionError
    assert [path.name for path in complete(tmp_path)] == ["a"]


def test_the_encoder_equals_that_of_transformers_at_full_context(recognizer):
    features = torch.randn(1, 80, 3_000)
    with torch.inference_mode():
        torch.testing.assert_close(recognizer.encode(features), recognizer.whisper.model.encoder(features).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_cached_greedy_search_equals_the_most_likely_tokens_one_by_one(recognizer, tokens):
    with torch.inference_mode():
        encoded = recognizer.encode(torch.randn(2, 80, 100))
        found = recognizer.greedy(encoded, [tokens.sot, tokens.transcribe], tokens.eot, limit=6)
        for row in range(2):
            ids = [tokens.sot, tokens.transcribe]
            for _ in range(6):
                ids.append(int(recognizer.decode(encoded[row : row + 1], torch.tensor([ids]))[0, -1].argmax()))
            assert found[row] == [t for t in ids[2:] if t != tokens.eot][: len(found[row])]


@pytest.mark.parametrize("source", ["synth", "noise"])
def test_labels_are_the_next_tokens_and_noise_is_no_speech(tmp_path, tokens, source):
    material = Material(tmp_path, tokens, ["", *"thecat "])
    random_ = np.random.default_rng(0)
    row = Row(0, 60, "" if source == "noise" else "the cat", "en", source, "v", 0.1, 0.5, -1.0)
    material.rows[source].append((None, row))  # what previous text is drawn from
    for _ in range(80):
        ids, labels = material.targets(row, 60, random_)
        assert len(ids) == len(labels) and labels[-1] == tokens.eot
        start = ids.index(tokens.sot)
        assert all(label == IGNORED for label in labels[:start])
        if source == "noise":
            assert labels[start] == tokens.no_speech
        else:
            assert labels[start:-1] == ids[start + 1 :]


def test_misheard_inputs_keep_their_length_and_every_special_token(tmp_path, tokens):
    material, row = Material(tmp_path, tokens, [""]), Row(0, 60, "the cat", "en", "real", "v", 0.1, 0.5, -1.0)
    ids = [tokens.sot, tokens.transcribe, *tokens.text("the cat sat on the mat" * 20), tokens.no_timestamps]
    heard = material.misheard(ids, row, np.random.default_rng(0))
    changed = [before for before, after in zip(ids, heard) if before != after]
    assert len(heard) == len(ids) and all(t < tokens.eot for t in changed + heard[2:-1])
    assert 0.15 < len(changed) / len(ids) < 0.45 and heard[:2] == ids[:2] and heard[-1] == ids[-1]


def test_a_step_holds_every_frame_of_its_rows_and_silence_after_them(tmp_path, tokens):
    shard(tmp_path / "a", 60)
    material = Material(tmp_path, tokens, ["", *sorted(set("the cat"))])
    material.refresh()
    steps = list(material.steps(Stage(14.0, 0.0, 0.0, False), 200, 20.0, np.random.default_rng(0)))
    assert sum(len(batch.ids) for step in steps for batch in step) > 100
    for batch in (batch for step in steps for batch in step):
        assert batch.features.shape[-1] % 10 == 0 and int(batch.frames.max()) <= batch.features.shape[-1] // 2
        first = batch.features[0, :, 2 * int(batch.frames[0]) :]
        assert first.numel() == 0 or float(first.max() - first.min()) == 0.0


def test_the_card_shows_the_error_rate_against_the_steps(tmp_path):
    looks = [{"step": 100 * n, "dev_en": 90 - n, "dev_it": 80 - n, "dev_real": 95.0} for n in range(1, 21)]
    (tmp_path / "log").write_text("\n".join(json.dumps(entry) for entry in ({"step": 1, "ce": 9.0}, *looks)))
    lines = card.curve(tmp_path / "log").splitlines()
    assert len(lines) == 2 + 8 and lines[2] == "| 100 | 84 % | 95 % |" and lines[-1] == "| 2,000 | 65 % | 95 % |"


def test_real_speech_may_come_from_the_hubs_loader(tmp_path):
    audio = io.BytesIO()
    soundfile.write(audio, np.zeros(800, np.float32), 8_000, format="WAV")
    rows = [{"text": "MARK IS GOING", "speaker": "0003", "age": age, "audio": {"bytes": audio.getvalue(), "path": "a.wav"}} for age in (6, 40)]
    (tmp_path / "corpus").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "corpus" / "train-00000.parquet")
    found = real.read(f"hub:{tmp_path / 'corpus'}:train")
    assert [u.text for u in found] == ["mark is going"] * 2 and [u.age for u in real.adults(found)] == [40]
    assert found[0].samples().shape == (1_600,)


def test_a_synthesizer_that_crashes_costs_one_shard(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(render, "synthesized", lambda folder, *_, **__: os._exit(11) if folder.name == "synth-000" else folder.mkdir())
    monkeypatch.setattr(render, "Texts", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["render", "--out", str(tmp_path), "--shards", "2", "--copies", "0"])
    render.main()
    assert [path.name for path in complete(tmp_path)] == ["synth-001"]
    assert "synth-000 is left out: its process ended with 11" in capsys.readouterr().out


class Letters:
    """A recognizer that hears a letter where its feature is loudest: what the CTC head says is known beforehand."""

    training = False

    def eval(self):
        return self

    def train(self, mode: bool):
        return self

    def encode(self, features):
        return features.transpose(1, 2)[:, ::2]

    def ctc(self, encoded):
        return 20 * encoded[..., :4]


CHARACTERS = {"": 0, " ": 1, "a": 2, "b": 3}


def spelled(folder, texts_: list[str]) -> Shard:
    """A shard whose letters last four frames of features each, with four of silence after every one."""
    folder.mkdir()
    rows, frames = [], []
    for text in texts_:
        values = np.zeros((8 * len(text), 80), np.float16)
        values[:, 0] = 0.5
        for n, c in enumerate(text):
            values[8 * n : 8 * n + 4, CHARACTERS[c]] = 1.0 if c == " " else 5.0
        rows.append(Row(sum(map(len, frames)), len(values), text, "en", "real", "v", 0.0, len(values) / 100, -1.0))
        frames.append(values)
    np.concatenate(frames).tofile(folder / "frames.f16")
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(vars(row)) for row in rows))
    return Shard(folder)


def test_real_speech_is_cut_between_its_words(tmp_path):
    made = spelled(tmp_path / "real-00", ["ab ba", "a", "bbbb a"])
    cuts = splice.find(Letters(), made, CHARACTERS)
    for row in made.rows:
        letters = [made.features(row)[a:b, 2:4].sum() / 20 for a, b in zip(cuts[row.offset], cuts[row.offset][1:])]
        assert letters == [len(word) for word in row.text.split()]
    splice.save(tmp_path / "cuts.json", {"real-00": cuts})
    assert splice.load(tmp_path / "cuts.json") == {"real-00": cuts}


def runs(text: str) -> list[str]:
    return [c for c, _ in itertools.groupby(text)]


def test_what_is_put_together_anew_says_its_text(tmp_path):
    made = spelled(tmp_path / "real-00", ["ab ba aab", "a b", "bbb a"])
    splicer, random_, texts_ = splice.Splicer({"real-00": splice.find(Letters(), made, CHARACTERS)}), np.random.default_rng(0), set()
    assert splicer.draw(made, made.rows[0], 5.5, random_) is None  # a shard that it has not seen
    splicer.add(made)
    for _ in range(50):
        row, features = splicer.draw(made, made.rows[0], 0.6, random_)
        assert features.shape == (row.frames, 80)
        loud = (features[:, 1:4] > 0.9).argmax(1) + (features[:, 1:4] > 0.9).any(1)
        heard = "".join("? ab"[a] for a in loud if a > 1)
        assert runs(heard) == runs(row.text.replace(" ", ""))
        texts_.add(row.text)
    assert len(texts_ - {"ab ba aab", "a b", "bbb a"}) > 7


def test_real_speech_is_spliced_as_often_as_its_stage_says(tmp_path, tokens):
    read = spelled(tmp_path / "real-00", ["ab ba aab", "a b", "bbb a"])
    material = Material(tmp_path, tokens, list(CHARACTERS))
    material.refresh()
    material.splice({"real-00": splice.find(Letters(), read, CHARACTERS)})
    known, random_ = {row.text for row in read.rows}, np.random.default_rng(0)
    for share, least, most in ((0.0, 0, 0), (0.8, 60, 160)):
        rows = [material.example(read, read.rows[n % 3], Stage(5.5, 1.0, 0.0, False, spliced=share), random_)[0] for n in range(200)]
        assert least <= sum(row.text not in known for row in rows) <= most
