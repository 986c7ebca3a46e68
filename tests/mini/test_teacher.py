"""A real encoder teaches that of `data/mini`: what it hears, what is learned from it, and that nothing of it stays."""

from __future__ import annotations

import argparse
import io
import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tokenizers import ByteLevelBPETokenizer
from transformers import WhisperConfig, WhisperForConditionalGeneration

from scripts.mini import build, card, dev, export, model, pack, prepare, real, render, splice, texts, train
from scripts.mini import teacher as teaching
from scripts.mini.batches import IGNORED, Material, Stage
from scripts.mini.model import Recognizer
from scripts.mini.shards import Row, Shard, Writer
from scripts.mini.splice import Splicer
from scripts.mini.teacher import FLOOR, GAP, LOUDEST, WINDOW, Lesson, Teacher, heard_states, packed, taught_states
from scripts.mini.tokens import Tokens, load
from scripts.mini.train import Plan, Run, loss

MINI = Path(__file__).parents[2] / "data" / "mini"
CHARACTERS = ["", *" abcdeht"]
EVERYTHING = Stage(14.0, 0.3, 0.0, True, heard=0.3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A pupil of a few thousand parameters."""
    for name, value in {"WIDTH": 32, "HEADS": 2, "ENCODER_LAYERS": 2, "DECODER_LAYERS": 1, "INNER": 48}.items():
        monkeypatch.setattr(model, name, value)
    monkeypatch.setattr(train, "BEGINNING_STEPS", 1)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Shards of a few utterances of each kind, and a tokenizer and characters for them."""
    folder, rng = tmp_path_factory.mktemp("work"), np.random.default_rng(0)
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator([" the cat had a bad bed"] * 5, vocab_size=280, show_progress=False)
    (folder / "tokenizer").mkdir()
    bpe.save_model(str(folder / "tokenizer"))
    (folder / "characters.json").write_text(json.dumps(CHARACTERS))
    for name, source, text in (("synth-000", "synth", "the cat"), ("heard-00", "heard", ""), ("noise", "noise", "")):
        with Writer(folder / "shards" / name, paired=True) as shard:
            for n in range(12):
                tone = np.sin(np.arange(6_400 + 400 * n) * (0.05 + 0.02 * n)).astype(np.float32) * 0.3
                disturbed = tone + rng.standard_normal(len(tone)).astype(np.float32) * 0.1
                shard.add(disturbed, text=text, lang="en", source=source, voice=f"v{n % 3}", start=0.1, end=0.3, clean=tone)
    return folder


@pytest.fixture(scope="module")
def tokens(work):
    return Tokens(load(work / "tokenizer"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A whole, tiny Whisper."""
    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=60,
        d_model=16,
        encoder_layers=4,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_mel_bins=80,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
    )
    folder = tmp_path_factory.mktemp("teacher")
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


def teacher(checkpoint, taught: str = "last") -> Teacher:
    return Teacher.read(checkpoint, taught, dtype=torch.float32)


def material(work, tokens, *, paired: bool = True) -> Material:
    found = Material(work / "shards", tokens, CHARACTERS, paired=paired)
    found.refresh()
    return found


def batches(work, tokens, n: int = 3, *, paired: bool = True, stage: Stage = EVERYTHING):
    drawn = material(work, tokens, paired=paired).steps(stage, 40, 4.0, np.random.default_rng(3))
    return [batch for _, step in zip(range(n), drawn) for batch in step]


def test_utterances_lie_in_windows_of_their_own_places_with_silence_between():
    frames = [700, 700, 300, 0, WINDOW, 40, 40]
    places, windows = packed(frames)
    spans = [span.tolist() for span in places.split(frames) if len(span)]
    assert windows == 4 and len(set(places.tolist())) == sum(frames)
    for before, after in zip(spans, spans[1:]):
        assert after[0] >= before[-1] + 1 and (after[0] % WINDOW == 0 or after[0] - before[-1] > GAP)
    assert all(span == list(range(span[0], span[-1] + 1)) and span[0] // WINDOW == span[-1] // WINDOW for span in spans)


def test_the_teacher_hears_full_windows_in_which_every_voice_is_as_loud(checkpoint, monkeypatch):
    heard = []
    monkeypatch.setattr(teaching, "layers", lambda encoder, features: heard.append(features) or [torch.zeros(len(features), WINDOW, 16)])
    clean = torch.full((2, 80, 20), -3.0)
    clean[0, 5, 4], clean[1, 7, 2] = 0.9, -0.4
    teacher(checkpoint).states(clean, torch.tensor([4, 2]))
    window = heard[0]
    assert window.shape == (1, 80, 2 * WINDOW) and window.min() == FLOOR
    found = (window > FLOOR).nonzero().tolist()
    assert found == [[0, 5, 4], [0, 7, 2 * (4 + GAP) + 2]] and window[window > FLOOR].tolist() == pytest.approx([LOUDEST] * 2)


def test_one_utterance_has_the_states_that_transformers_gives_it(checkpoint):
    whole = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval().model.encoder
    clean = torch.rand(1, 80, 60) - 1.0
    clean = clean + LOUDEST - clean.max()
    features = torch.full((1, 80, 2 * WINDOW), FLOOR)
    features[:, :, :60] = clean
    with torch.no_grad():
        expected = whole(features).last_hidden_state[0, :30]
    torch.testing.assert_close(teacher(checkpoint).states(clean, torch.tensor([30]))[-1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("taught, n, expected", [("last", 4, [(3, 3)]), ("all", 4, [(0, 0), (1, 1), (2, 2), (3, 3)]), ("all", 2, [(0, 1), (1, 3)])])
def test_layers_are_taught_by_those_at_their_height(checkpoint, taught, n, expected):
    assert teacher(checkpoint, taught).pairs(n) == expected


def test_the_maps_begin_at_the_least_squares_solution(work, tokens, checkpoint):
    torch.manual_seed(0)
    pupil, guide = Recognizer(tokens, len(CHARACTERS)).eval(), teacher(checkpoint, "all")
    lesson, some = Lesson(guide.pairs(2), 32, guide.width), batches(work, tokens)
    lesson.begin(pupil, guide, some)
    with torch.no_grad():
        heard = [torch.cat(layer) for layer in zip(*(heard_states(pupil, batch) for batch in some))]
        taught = [torch.cat(layer) for layer in zip(*(taught_states(guide, batch) for batch in some))]
    found = float(lesson(heard, taught).detach())
    assert 0 < found < 1 and len(heard[0]) == len(taught[0]) == sum(int(batch.taught.sum()) for batch in some)
    for linear in lesson.maps:  # any other maps are worse
        with torch.no_grad():
            linear.bias += 0.1
    assert float(lesson(heard, taught).detach()) > found


def test_a_run_with_a_teacher_lowers_its_loss_and_keeps_nothing_of_it(work, checkpoint, tmp_path):
    run = begun(work, tmp_path, Plan(steps=12, scale=0.05, peak=3e-3, heard=0.3), teacher(checkpoint))
    run.train()
    told = [json.loads(line) for line in (tmp_path / "train.log").read_text().splitlines()]
    assert told[-1]["lesson"] < 0.9 * told[0]["lesson"] and run.step == 12
    theirs = [tensor for tensor in load_file(checkpoint / "model.safetensors").values() if tensor.ndim == 2]
    export.export(tmp_path, tmp_path / "out")
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    kept = [*kept["model"].values(), *kept["average"].values(), *kept["lesson"].values(), *load_file(tmp_path / "out" / "model.safetensors").values()]
    assert not any(ours.shape == tensor.shape and torch.allclose(ours.float(), tensor, atol=1e-3) for ours in kept for tensor in theirs)
    assert not any("lesson" in name or "maps" in name for name in load_file(tmp_path / "out" / "model.safetensors"))


def begun(work, folder, plan, guide=None) -> Run:
    """A run in a folder of its own."""
    folder.mkdir(exist_ok=True)
    for name in ("tokenizer", "characters.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to(work / name)
    return Run(folder, work / "shards", plan, teacher=guide)


def test_a_run_that_was_cut_goes_on_to_the_same_weights(work, checkpoint, tmp_path):
    plan = Plan(steps=5, scale=0.05, begun=0.4, heard=0.3, seed=2)
    whole = begun(work, tmp_path / "whole", plan, teacher(checkpoint))
    whole.train()
    cut = begun(work, tmp_path / "cut", Plan(**vars(plan) | {"piece": 0.0}), teacher(checkpoint))
    cut.train()  # one step
    assert cut.step == 1
    again = begun(work, tmp_path / "cut", plan, teacher(checkpoint))
    again.train()
    assert again.step == 5 and all(torch.equal(a, b) for a, b in zip(again.model.state_dict().values(), whole.model.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(again.lesson.state_dict().values(), whole.lesson.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(again.average.state_dict().values(), whole.average.state_dict().values()))


def test_what_the_teacher_says_fades_before_the_end():
    weights = [Plan(teaching=2.0).lesson_weight(progress) for progress in (0.0, 0.6, 0.7, 0.85, 1.0)]
    assert weights[:2] == [2.0, 2.0] and 0 < weights[2] < 2 and weights[3:] == [0.0, 0.0]


def test_a_pupil_hears_the_same_with_and_without_a_teacher(work, tokens):
    for ours, alone in zip(batches(work, tokens), batches(work, tokens, paired=False)):
        assert torch.equal(ours.features, alone.features) and torch.equal(ours.labels, alone.labels)
        assert alone.clean is None and ours.clean.shape == ours.features.shape and not torch.equal(ours.clean, ours.features)


def test_speech_without_a_text_teaches_the_encoder_alone_and_noise_nothing(work, tokens):
    for stage, source in ((Stage(14.0, 0.0, 0.0, False, heard=0.97), "heard"), (Stage(14.0, 0.0, 0.0, False), "noise")):
        drawn = material(work, tokens)
        drawn.rows["synth"] = []
        if source == "noise":
            drawn.rows["heard"] = []
        rows = [pair for pair in drawn.rows[source]]
        batch = drawn.batch(1.0, [drawn.example(*pair, stage, np.random.default_rng(0)) for pair in rows], stage, np.random.default_rng(0))
        assert bool(batch.taught.any()) == (source == "heard") and not any(batch.characters)
        if source == "heard":
            pupil = Recognizer(tokens, len(CHARACTERS))
            value, _ = loss(pupil, batch, 1.0, pupil.encode(batch.features))
            assert float(value.detach()) == 0.0 and (batch.labels == IGNORED).all()


def test_a_shard_keeps_what_was_not_disturbed_frame_by_frame(work):
    shard = Shard(work / "shards" / "synth-000")
    pair = shard.features(shard.rows[2], paired=True)
    assert pair.shape == (shard.rows[2].frames, 160) and np.array_equal(pair[:, :80], shard.features(shard.rows[2]))
    assert not np.array_equal(pair[:, :80], pair[:, 80:])


def test_the_teacher_hears_another_pace_but_no_other_throat(work, tokens):
    drawn, row = material(work, tokens), Row(0, 50, "", "en", "real", "v", 0.0, 0.5, -9.0)
    ramp = np.repeat(np.arange(80, dtype=np.float32)[None], 50, 0)
    found = [drawn.perturbed(row, np.concatenate([ramp, ramp], 1), EVERYTHING, np.random.default_rng(n)) for n in range(8)]
    assert len({len(one) for one in found}) > 3 and all(np.allclose(one[:, 80:], ramp[0], atol=1e-4) for one in found)
    assert any(not np.allclose(one[:, :80], one[:, 80:], atol=0.5) for one in found)


def test_speech_put_together_anew_is_so_for_the_teacher_too(work):
    shard = Shard(work / "shards" / "synth-000")
    splicer = Splicer({shard.name: {row.offset: [0, 20, row.frames] for row in shard.rows}})
    splicer.add(shard)
    _, features = splicer.draw(shard, shard.rows[0], 5.0, np.random.default_rng(0), paired=True)
    alone = Splicer(splicer.cuts)
    alone.add(shard)
    _, ours = alone.draw(shard, shard.rows[0], 5.0, np.random.default_rng(0))
    assert np.array_equal(features[:, :80], ours) and features.shape[1] == 160


@pytest.mark.skipif(not (MINI / "tokenizer.json").exists(), reason="data/mini is not in this checkout")
def test_training_goes_on_with_the_tokens_and_characters_of_a_model(tmp_path):
    from transformers import WhisperTokenizer

    prepare.adopt(tmp_path, MINI)
    ours, theirs = Tokens(load(tmp_path / "tokenizer")), Tokens(WhisperTokenizer.from_pretrained(MINI))
    for said in ("hello my friend", "żółć добрый день", "it's ŋ"):
        assert ours.text(said) == theirs.text(said)
    assert ours.languages == theirs.languages and ours.time_zero == theirs.time_zero and len(ours.tokenizer) == len(theirs.tokenizer)
    characters = json.loads((tmp_path / "characters.json").read_text(encoding="utf-8"))
    assert characters[0] == "" and len(characters) == len(load_file(MINI / "ctc.safetensors")["bias"])


def test_only_the_encoder_travels_and_teaches_the_same(checkpoint, tmp_path):
    teaching.pack(checkpoint, tmp_path / "teacher")
    assert all(name.startswith("model.encoder.") for name in load_file(tmp_path / "teacher" / "model.safetensors"))
    clean, frames = torch.rand(1, 80, 40) - 1, torch.tensor([20])
    one, two = (teacher(folder).states(clean, frames)[-1] for folder in (checkpoint, tmp_path / "teacher"))
    torch.testing.assert_close(one, two, atol=2e-2, rtol=2e-2)


def recorded(path: Path, ages: list[int]) -> str:
    audio = io.BytesIO()
    soundfile.write(audio, np.sin(np.arange(8_000) / 9).astype(np.float32) * 0.3, 16_000, format="WAV")
    rows = [{"text": "the cat", "speaker": f"s{n}", "age": age, "audio": {"bytes": audio.getvalue()}} for n, age in enumerate(ages)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


def test_what_is_heard_alone_has_no_text(tmp_path):
    assert [(u.speaker, u.text, u.age) for u in real.heard(recorded(tmp_path / "a.parquet", [8, 30]))] == [("s0", "", 8), ("s1", "", 30)]


def test_dev_speakers_are_adults_and_children_and_in_no_training(tmp_path):
    train, dev = real.split(real.read(recorded(tmp_path / "a.parquet", [30] * 60 + [9] * 30)))
    assert (len(real.adults(dev)), len(real.children(dev))) == (10, 5) and not {u.speaker for u in train} & {u.speaker for u in dev}
    assert len(train) + len(dev) == 90
    few, held = real.split(real.read(recorded(tmp_path / "b.parquet", [30] * 10)))
    assert (len(few), len(held)) == (8, 2)  # of few speakers a fifth


def test_a_pack_holds_what_it_was_asked_for_and_no_more_than_it_may(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(
        pack, "said", lambda *_, **__: (("the cat", "en", "flite-slt", np.sin(np.arange(16_000) / 9).astype(np.float32)) for _ in range(10_000))
    )
    monkeypatch.setattr(pack, "Texts", lambda seed, style: texts.Texts(seed, style, texts.Sources(tmp_path, tmp_path)))
    speech, out = recorded(tmp_path / "speech.parquet", [30] * 6 + [7]), tmp_path / "pack"
    given = ["pack", "--out", str(out), "--speech", speech, "--heard", speech, "--teacher", str(checkpoint), "--megabytes"]
    monkeypatch.setattr("sys.argv", [*given, "0.25"])
    pack.main()
    told = json.loads(capsys.readouterr().out)
    assert 0.2e6 < pack.size(out) <= 0.25e6 and told["made"] > 20 and {u.age for u in real.read(str(out / pack.REAL))} == {30, 7}
    assert all(u.text == "" for u in real.heard(str(out / pack.HEARD)))
    given = build.parts_of(argparse.Namespace(pack=out, speech="mine", heard=None, made=None, texts=None, teacher=None))
    assert (given.speech, given.heard, given.texts) == ("mine", str(out / pack.HEARD), out / pack.TEXTS)
    assert (given.teacher, given.made) == (out / pack.TEACHER, out / pack.MADE)
    monkeypatch.setattr("sys.argv", ["pack", "--out", str(out), "--teacher", str(checkpoint), "--megabytes", "0.01"])
    with pytest.raises(SystemExit, match="fewer --hours-heard"):
        pack.main()


@pytest.mark.parametrize("there, ended, waits", [({"synth-000", "real-00"}, False, False), ({"heard-00"}, True, False), (set(), True, True)])
def test_training_begins_with_what_it_needs_or_with_all_that_could_be_rendered(tmp_path, there, ended, waits):
    for name in there:
        (tmp_path / name).mkdir()
    rendering = SimpleNamespace(poll=lambda: 1 if ended else None)
    with pytest.raises(SystemExit, match="without a shard") if waits else nullcontext():
        build.wait(rendering, tmp_path, {"synth-000", "real-00"})


def test_what_was_synthesized_elsewhere_is_disturbed_anew_in_each_copy(tmp_path):
    samples = np.sin(np.arange(12_000) / 9).astype(np.float32) * 0.3
    pack.written(tmp_path / "made.parquet", [{"text": "the cat", "lang": "it", "voice": "w", "audio": {"bytes": pack.opus.encode(samples, serial=0)}}] * 2)
    for copy in (0, 1):
        render.packed(tmp_path / f"made-{copy}", tmp_path / "made.parquet", copy=copy, seed=1, paired=True)
    one, two = (Shard(tmp_path / f"made-{copy}") for copy in (0, 1))
    assert [(row.text, row.lang, row.source) for row in one.rows] == [("the cat", "it", "synth")] * 2
    assert one.rows[0].frames != two.rows[0].frames or not np.array_equal(one.frames[:50], two.frames[:50])


def test_texts_of_one_system_are_said_on_another(tmp_path):
    (tmp_path / "fortunes").mkdir()
    (tmp_path / "fortunes" / "cats").write_text(
        "\n%\n".join(f"The cat number {a} of {b}." for a in ("one", "two", "three") for b in ("Rome", "Paris", "us", "them"))
    )
    there = texts.Texts(0, (), texts.Sources(tmp_path / "fortunes", tmp_path))
    there.write(tmp_path / "texts.json.gz", 1_000)
    here = texts.Texts(0, (), texts.Sources(tmp_path, tmp_path, drawn=tmp_path / "texts.json.gz"))
    assert here.sentences == there.sentences and len(here.sentences["en"]) > 5 and here.missing() == there.missing()


def test_shards_are_made_several_at_a_time_in_their_order(tmp_path, capsys):
    def job(folder: Path, n: int) -> None:
        folder.mkdir()

    render.render(tmp_path, [(f"synth-00{n}", job, (n,), {}) for n in range(3)], at_once=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["synth-000", "synth-001", "synth-002"] and len(capsys.readouterr().out.split()) == 3


def test_words_are_cut_by_the_model_that_a_run_goes_on_from_and_in_shards_that_come_later(work, tmp_path, monkeypatch):
    monkeypatch.setattr(splice, "find", lambda model, shard, characters: {0: [0, 10, 20]})
    run = begun(work, tmp_path, Plan(steps=1, begun=0.4, scale=0.05))
    run.material.root = tmp_path / "shards"
    for number in range(2):
        with Writer(tmp_path / "shards" / f"real-0{number}") as shard:
            shard.add(np.zeros(6_400, np.float32), text="the cat", lang="en", source="real", voice="v", start=0.0, end=0.4)
        run.splice()
        assert list(splice.load(tmp_path / "cuts.json")) == [f"real-0{n}" for n in range(number + 1)] == [name for name, _ in run.material.splicer.speakers]


def test_processes_make_the_batches_that_a_thread_makes(work, tmp_path, request):
    request.addfinalizer(partial(torch.multiprocessing.set_sharing_strategy, torch.multiprocessing.get_sharing_strategy()))
    plan = Plan(steps=4, begun=0.4, scale=0.05, heard=0.3)
    found = [begun(work, tmp_path / str(loaders), Plan(**vars(plan) | {"loaders": loaders})).steps() for loaders in (0, 1)]
    lists = [[next(run) for _ in range(2)] for run in found]
    assert [place for _, place, _ in lists[1]] == [0, 1] and lists[1][0][2][0].features.dtype == torch.float16
    for batch in lists[1][0][2]:
        assert batch.features.shape[1] == 80 and len(batch.ids) == len(batch.labels)


def test_of_several_blocks_the_teacher_hears_one(work, checkpoint, tmp_path):
    run = begun(work, tmp_path, Plan(steps=4, begun=0.4, scale=0.05, taught_every=2, heard=0.3), teacher(checkpoint))
    taught = {}
    for block, _, step in run.steps():
        if block == 4:
            break
        taught.setdefault(block, []).extend(step)
    assert all(batch.clean is not None for block in (0, 2) for batch in taught[block])
    untaught = [batch for block in (1, 3) for batch in taught[block]]
    assert all(batch.clean is None and (batch.labels != IGNORED).any(1).all() for batch in untaught)  # every row has a text, or is noise
    run.begin_lesson()
    assert run.gradients(taught[0][:1], 0.5)[0].lesson > 0 and run.gradients(untaught[:1], 0.5)[0].lesson == 0


def test_the_card_tells_who_taught_and_how_it_is_made_again():
    assert card.taught_by({}) == card.options({}) == card.begun({}) == ""
    training = {"from": "mini-3", "teacher": "openai/whisper-tiny.en", "heard": "Mboshi", "taught_every": 6, "share_real": 0.45, "changed_share": 0.8}
    told = card.taught_by(training)
    assert "openai/whisper-tiny.en" in told and "one in 6 utterances" in told and "speech of Mboshi" in told
    assert (
        card.options(training).split()
        == "\\ --from mini-3 --teacher TEACHER --heard HEARD.parquet --taught-every 6 --share-real 0.45 --changed-share 0.8".split()
    )
    assert card.begun({"from": "mini-3"}) == ", on top of mini-3" and "of what that changed 80 %" in card.begun(training)


def test_a_share_of_what_training_changed_lies_between_both_models(tmp_path, tokens):
    start, trained = Recognizer(tokens, len(CHARACTERS)), Recognizer(tokens, len(CHARACTERS))
    both = [(a.detach().clone(), b.detach().clone()) for a, b in zip(start.parameters(), trained.parameters())]
    export.interpolate(trained, start, 0.25)
    for (a, b), now in zip(both, trained.parameters()):
        torch.testing.assert_close(now, 0.75 * a + 0.25 * b)
    with pytest.raises(ValueError, match="give start"):
        export.export(tmp_path, tmp_path / "out", changed_share=0.5)


def test_what_is_exported_may_lie_between_a_run_and_what_it_began_with(work, tmp_path, monkeypatch, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        begun(work, tmp_path / name, Plan(steps=2, scale=0.05, seed=seed)).save()
        export.export(tmp_path / name, tmp_path / f"{name}-out")
    for share, same in ((0.0, "a"), (1.0, "b")):
        export.export(tmp_path / "b", tmp_path / "between", start=tmp_path / "a-out", changed_share=share)
        for file in ("model.safetensors", "ctc.safetensors"):
            one, other = load_file(tmp_path / "between" / file), load_file(tmp_path / f"{same}-out" / file)
            assert all(torch.equal(one[key], other[key]) for key in other)
    assert json.loads((tmp_path / "between" / "asrpeft.json").read_text())["training"]["changed_share"] == 1.0
    # … and the dev speakers say which share.
    shard = tmp_path / "dev"
    with Writer(shard) as dev_shard:
        for n in range(2):
            dev_shard.add(np.sin(np.arange(8_000) / (5 + n)).astype(np.float32), text="the cat", lang="en", source="real", voice=f"v{n}", start=0, end=0.5)
    given = ["dev", "--shard", str(shard), "--model", str(tmp_path / "a-out"), "--work", str(tmp_path / "b"), "--shares", "0,1"]
    monkeypatch.setattr("sys.argv", given)
    dev.main()
    start, whole, none, all_ = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [one.pop("model") for one in (none, all_)] == [f"{tmp_path / 'b'}, {share} of the change" for share in "01"]
    assert none == {key: value for key, value in start.items() if key != "model"} and all_ == {key: value for key, value in whole.items() if key != "model"}
