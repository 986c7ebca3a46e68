"""Nothing frozen is computed twice: below the lowest site there is no gradient, and an encoder without sites is run once for every sound."""

import numpy as np
import pytest
import torch

from asrpeft import cache
from asrpeft.adapters.ctc import CTCHead
from asrpeft.audio import cached
from asrpeft.corpus import Corpus
from asrpeft.training import checkpoints, frozen_encoder, train
from asrpeft.training.examples import Examples, TrainingData
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones, utterance

DECODER = "decoder.*.q_proj,decoder.*.v_proj"


@pytest.fixture
def disk(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.setattr(cached, "WORTH_S", 60.0)  # states alone, however busy the machine is
    return cache.current()


@pytest.fixture
def encoded(monkeypatch):
    """How many rows each call of the encoder has."""
    rows, encode = [], frozen_encoder.Recognizer.encode
    monkeypatch.setattr(frozen_encoder.Recognizer, "encode", lambda self, features, frames: rows.append(len(features)) or encode(self, features, frames))
    return rows


def run(*, where=DECODER, method="lora", corpus=None, seed=0, checkpoint=None, resume=False, head=False, change=None, **changes):
    recognizer = tiny_recognizer()
    if change is not None:
        with torch.no_grad():
            change(recognizer.base)
    torch.manual_seed(1)
    adapter = recognizer.adapt(method, name="x", lang="en", where=where)
    corpus = corpus or tones(6)
    if head:
        adapter.ctc = CTCHead.for_texts(16, [u.text for u in corpus])
    done = train(
        recognizer,
        "x",
        TrainingData(corpus, recognizer.prompt(lang="en")),
        checkpoint=checkpoint,
        resume=resume,
        options=options(**{"lr": 0.01, "epochs": 7, "augment": "standard", "batch_seconds": 4.0, "seed": seed} | changes),
    )
    return {name: tensor.clone() for name, tensor in adapter.state_dict().items()}, done


def close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "method, where, changes",
    [
        ("lora", DECODER, {}),
        ("prompt", None, {}),
        ("full", "decoder.layers.1.fc1", {}),
        ("lora", DECODER, {"loss": "ce+0.3*ctc", "head": True}),
        ("lora", "decoder", {"workers": 1}),
    ],
)
def test_an_adapter_is_what_it_would_be_without_a_cache(disk, monkeypatch, method, where, changes):
    found, done = run(method=method, where=where, **changes)
    assert disk.usage().files == {"states": 6 * frozen_encoder.VARIANTS}
    monkeypatch.setenv(cache.FOLDER, "off")
    wanted, before = run(method=method, where=where, **changes)
    close(found, wanted)
    assert (done.steps, done.rows, done.dropped) == (before.steps, before.rows, before.dropped)


def test_the_encoder_is_run_once_for_every_sound_and_in_another_run_not_at_all(disk, encoded):
    first, _ = run()
    assert encoded == [1] * 6 * frozen_encoder.VARIANTS  # of 7 epochs
    encoded.clear()
    again, _ = run()
    assert not encoded and all(torch.equal(first[name], again[name]) for name in first)
    run(seed=1)
    assert encoded  # other augmentation


@pytest.mark.parametrize("variants, computed", [(1, 6), (2, 12), (0, 0)])
def test_how_many_ways_each_utterance_is_heard_can_be_said_and_is_on_record(disk, encoded, variants, computed):
    _, done = run(variants=variants)
    assert done.variants == variants and sum(rows == 1 for rows in encoded) == computed and disk.usage().files.get("states", 0) == computed


def test_fixed_variants_are_heard_where_the_encoder_is_not_frozen_too(disk):
    heard = []
    for variants in (2, 0):
        recognizer = tiny_recognizer()
        data = Examples.for_training(TrainingData(tones(3), recognizer.prompt(lang="en")), recognizer, options=options(augment="standard"))
        data.variants = variants
        heard.append([data.example(1, epoch).features for epoch in range(6)])
    fixed, fresh = heard
    assert torch.equal(fixed[0], fixed[2]) and torch.equal(fixed[1], fixed[5]) and torch.equal(fixed[1], fresh[1])
    assert any(fresh[0].shape != other.shape or not torch.equal(fresh[0], other) for other in fresh[2::2])


def test_audio_is_not_even_read_where_the_states_are_known(disk, monkeypatch):
    first, _ = run()
    monkeypatch.setattr("asrpeft.corpus.utterance.decode", None)
    again, _ = run()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_other_weights_of_the_encoder_have_other_states(disk, encoded):
    run()
    encoded.clear()
    run(change=lambda base: base.model.encoder.layers[1].fc2.bias[3].add_(0.01))
    assert len(encoded) == 6 * frozen_encoder.VARIANTS
    encoded.clear()
    run(change=lambda base: base.model.decoder.layers[1].fc2.bias[3].add_(0.01))
    assert not encoded


def test_an_interrupted_run_goes_on_to_the_same_weights_whatever_is_left_of_the_cache(disk, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    whole, _ = run(checkpoint_s=0.0)
    write = checkpoints.write
    for left in (True, False):
        disk.clear()

        def stopping(path, state, **parts):
            write(path, state, **parts)
            if state.step == 4:
                raise Stop

        monkeypatch.setattr(checkpoints, "write", stopping)
        path = tmp_path / f"checkpoint-{left}"
        with pytest.raises(Stop):
            run(checkpoint_s=0.0, checkpoint=path)
        monkeypatch.setattr(checkpoints, "write", write)
        if not left:
            disk.clear()
        again, _ = run(checkpoint_s=0.0, checkpoint=path, resume=True)
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_damaged_states_are_computed_anew(disk):
    first, _ = run()
    for path in disk.folder.glob("states/*/*"):
        path.write_bytes(path.read_bytes()[:-3])
    again, _ = run()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("where, changes", [("attention", {}), ("encoder.layers.1.fc2", {}), (DECODER, {"dropout": 0.1})])
def test_where_something_acts_in_the_encoder_its_states_are_not_kept(disk, encoded, where, changes):
    run(where=where, epochs=2, **changes)
    assert not disk.usage().files and all(rows > 1 for rows in encoded)


def test_what_does_not_fit_the_cache_is_encoded_each_time_to_the_same_weights(disk, encoded, monkeypatch):
    whole, _ = run()
    disk.clear(), encoded.clear()
    one = 50 * 16 * 4 * frozen_encoder.VARIANTS  # bytes of an utterance
    monkeypatch.setenv(cache.SIZE, str(3.5 * one / frozen_encoder.SHARE / 1e9))
    part, _ = run()
    kept = cache.current().usage().files["states"]
    assert len(encoded) > 6 * frozen_encoder.VARIANTS > kept and all(torch.equal(whole[name], part[name]) for name in whole)


def test_rows_without_speech_and_rows_drawn_twice_are_among_them(disk):
    corpus = Corpus.mix([(tones(4), 2.0), (Corpus([utterance(9)], name="more"), 0.5)])
    found, done = run(corpus=corpus, nonspeech_share=0.3)
    again, _ = run(corpus=corpus, nonspeech_share=0.3)
    assert all(torch.equal(found[name], again[name]) for name in found) and disk.usage().files["states"] >= 2 * 4 * frozen_encoder.VARIANTS


# -- gradients -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where, lowest", [("encoder.layers.1", 1), ("decoder", 2), ("decoder.layers.1", 3), ("encoder.layers.0.fc2,decoder", 0)])
def test_no_gradient_is_computed_below_the_lowest_site(where, lowest):
    recognizer = tiny_recognizer()
    recognizer.adapt("lora", name="x", lang="en", where=where)
    wants = []
    layers = [*recognizer.base.model.encoder.layers, *recognizer.base.model.decoder.layers]
    for layer in layers:
        layer.register_forward_hook(lambda module, args, made: wants.append((made[0] if isinstance(made, tuple) else made).requires_grad))
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 8, 100)).astype(np.float32))
    output = recognizer(features, torch.tensor([50, 40]), torch.zeros(2, 5, dtype=torch.long), route="x")
    assert wants == [place >= lowest for place in range(len(layers))] and output.hidden.requires_grad
    assert output.encoded.states.requires_grad == (lowest < 2)
