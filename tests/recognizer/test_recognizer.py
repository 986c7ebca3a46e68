"""The recognizer: length-aware encoding, prompts and languages, audio contexts, its state."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from asrpeft.errors import BadAudio, BadInput
from asrpeft.recognizer import BaseInfo, Recognizer, context_frames, speech_frames
from asrpeft.recognizer.context import FULL
from tests.bases import ByteTokenizer, tiny_base, tiny_recognizer


# -- encoding ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_mels", [8, 80, 128])
@torch.no_grad()
def test_full_context_gives_what_transformers_encoder_gives(n_mels):
    model = tiny_recognizer(n_mels=n_mels)
    features = torch.randn(2, n_mels, 3000)
    want = model.base.model.encoder(features).last_hidden_state
    got = model.encode(features, torch.tensor([1500, 1500]))
    assert got.mask is None and got.cross_mask is None
    assert torch.equal(got.states, want)
    tokens = torch.randint(0, 60, (2, 4))
    assert torch.equal(model.decode(got, tokens)[0], model.base(features, decoder_input_ids=tokens).logits)


@torch.no_grad()
def test_rows_of_different_contexts_equal_themselves_alone():
    """What lies beyond a row's context is noise here, and must not be read: not by the convolutions, nor by attention, nor by the decoder."""
    model = tiny_recognizer().double()
    frames = torch.tensor([50, 200, 123, 1])
    features, tokens = torch.randn(4, 8, 400, dtype=torch.float64), torch.randint(0, 60, (4, 5))
    out = model(features, frames, tokens)
    assert out.encoded.mask.sum(1).tolist() == frames.tolist() == out.encoded.frames.tolist()
    for i, n in enumerate(frames.tolist()):
        alone = model(features[i : i + 1, :, : 2 * n], frames[i : i + 1], tokens[i : i + 1])
        assert alone.encoded.mask is None
        assert_close(out.encoded.states[i, :n], alone.encoded.states[0], atol=1e-10, rtol=1e-8)
        assert_close(out.logits[i], alone.logits[0], atol=1e-10, rtol=1e-8)
    taken = out.encoded.take(torch.tensor([2, 2, 0]))
    assert taken.frames.tolist() == [123, 123, 50] and taken.mask.shape == (3, 200)
    assert_close(model.decode(taken, tokens[[2, 2, 0]])[0], out.logits[[2, 2, 0]], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize(
    "shape, frames, why",
    [
        ((1, 9, 100), [50], "Features are"),
        ((1, 8, 101), [50], "even number"),
        ((8, 100), [50], "Features are|Contexts"),
        ((1, 8, 100), [51], "do not fit"),
        ((2, 8, 100), [50], "do not fit"),
        ((1, 8, 3002), [1501], "at most 1500"),
    ],
)
def test_features_that_do_not_fit_are_refused(shape, frames, why):
    with pytest.raises(BadInput, match=why):
        tiny_recognizer().encode(torch.randn(*shape), torch.tensor(frames))


def test_dropped_layers_and_dropout_act_in_training_only():
    base = tiny_base()
    for part in (base.model.encoder, base.model.decoder):
        part.dropout = 0.5
    model = Recognizer(base, ByteTokenizer(), BaseInfo(id="x"))
    features, frames = torch.randn(1, 8, 100), torch.tensor([50])
    assert torch.equal(model.encode(features, frames).states, model.encode(features, frames).states)
    model.train()
    assert not torch.equal(model.encode(features, frames).states, model.encode(features, frames).states)


# -- contexts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "seconds, want",
    [
        (0.1, 50),
        (0.5, 50),
        (0.51, 100),
        (1.0, 100),
        (1.5, 100),
        (1.6, 150),
        (9.4, 500),
        (29.0, 1500),
        (29.6, 1500),
        (30.0, 1500),
    ],
)
def test_the_automatic_context_is_the_speech_and_half_a_second_on_a_grid_of_seconds(seconds, want):
    n = int(seconds * 16_000)
    assert context_frames(n, "auto") == want
    assert context_frames(n, "full") == FULL
    assert speech_frames(n) <= context_frames(n, "auto") - 25 or want == FULL


@pytest.mark.parametrize("seconds, most", [(0.5, 1), (2.0, 1), (8.0, 1), (20.0, 2)])
def test_jitter_depends_on_its_seed_alone_and_is_in_proportion_to_the_speech(seconds, most):
    n = round(seconds * 16_000)
    own = context_frames(n, "auto")
    made = [context_frames(n, "auto", jitter_seed=f"utt:{i}") for i in range(400)]
    assert min(made) == own and max(made) <= own + 50 * most and len(set(made)) > 1
    assert sum(made) / 400 - own == pytest.approx(50 * 0.05 * seconds, rel=0.25, abs=2.5)
    assert len({context_frames(n, "auto", jitter_seed="a") for _ in range(5)}) == 1
    assert context_frames(470_000, "auto", jitter_seed="b") == FULL


def test_too_long_or_unknown_contexts_are_refused():
    with pytest.raises(BadAudio, match="30 s"):
        context_frames(480_001, "auto")
    with pytest.raises(BadInput, match="'full' or 'auto'"):
        context_frames(1000, "short")


def test_a_base_never_tuned_to_short_contexts_is_not_run_on_them():
    model = Recognizer(tiny_base(), ByteTokenizer(), BaseInfo(id="plain"))
    assert model.context_for(None) == "full"
    model.check_context("full", None)
    with pytest.raises(BadInput, match="never trained on short"):
        model.check_context("auto", None)
    model.adapt("lora", name="short", context="auto")
    model.adapt("lora", name="long")
    assert (model.context_for("short"), model.context_for("long")) == ("auto", "full")
    model.check_context("auto", "short")
    with pytest.raises(BadInput, match="'long' was never trained"):
        model.check_context("auto", "long")
    with pytest.raises(BadInput, match="no audio context"):
        model.check_context("medium", None)


# -- languages ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "written, code",
    [
        ("sw", "sw"),
        ("Swahili", "sw"),
        ("SWAHILI", "sw"),
        ("<|sw|>", "sw"),
        (" swahili ", "sw"),
        ("german", "de"),
        ("yoruba", "yo"),
        ("English", "en"),
    ],
)
def test_a_language_is_known_by_code_name_and_token(written, code):
    model = tiny_recognizer()
    assert model.language_token(written) == model.languages[f"<|{code}|>"]
    assert model.adapt("lora", name="a", rank=1, lang=written).manifest.language == code


def test_aliases_are_known():
    from asrpeft.recognizer.languages import code_of

    assert code_of("Castilian") == "es" and code_of("flemish") == "nl" and code_of("<|haw|>") == "haw" and code_of("klingon") is None


def test_an_unknown_language_is_refused_with_what_is_close_and_what_there_is():
    model = tiny_recognizer()
    with pytest.raises(BadInput, match="Did you mean swahili.*It has 4: de, en, sw, yo.*fine-tuned"):
        model.prompt(lang="swahilli")
    with pytest.raises(BadInput, match="no token for the language 'fr'"):
        model.prompt(lang="fr")
    with pytest.raises(BadInput, match="--lang"):
        model.prompt(lang=None)
    with pytest.raises(BadInput, match="no task 'sing'"):
        model.prompt(lang="en", task="sing")


def test_a_prompt_is_start_language_task_and_no_timestamps():
    model = tiny_recognizer()
    assert model.prompt(lang="sw") == [61, 64, 67, 71]
    assert model.prompt(lang="sw", task="translate", timestamps=True) == [61, 64, 66]
    model.adapt("lora", name="a", rank=1, lang="sw")
    assert model.prompt(lang=None, adapter="a") == [61, 64, 67, 71] and model.prompt(lang="de", adapter="a")[1] == 63


def test_the_slot_of_a_new_language_is_one_the_base_was_not_trained_on():
    base = tiny_base()
    assert Recognizer(base, ByteTokenizer(), BaseInfo(id="x", languages=("en", "yo"))).spare_language()[0] == "<|sw|>"
    assert Recognizer(tiny_base(), ByteTokenizer(), BaseInfo(id="x", languages=("en", "de", "sw", "yo"))).spare_language()[0] == "<|yo|>"


def test_where_that_is_not_known_it_is_the_last_by_id_however_the_config_is_sorted():
    base = tiny_base()
    base.generation_config.lang_to_id = {"<|de|>": 63, "<|en|>": 62, "<|sw|>": 64, "<|yo|>": 61}  # as JSON with sorted keys has it
    assert Recognizer(base, ByteTokenizer(), BaseInfo(id="x")).spare_language() == ("<|sw|>", 64)
    base.generation_config.lang_to_id |= {"<|yue|>": 65}  # the last of large-v3, and heard much
    assert Recognizer(base, ByteTokenizer(), BaseInfo(id="x")).spare_language() == ("<|sw|>", 64)


def test_a_slot_that_a_merged_language_took_is_that_language_and_no_other():
    model = Recognizer(tiny_base(), ByteTokenizer(), BaseInfo(id="x", slots={"<|yo|>": "klingon"}))
    assert model.prompt(lang="Klingon")[1] == model.languages["<|yo|>"]
    assert model.adapt("lora", name="a", rank=1, lang="klingon").manifest.language_slot is None
    with pytest.raises(BadInput, match="no token for the language 'yo'"):
        model.prompt(lang="yo")
    assert model.adapt("lora", name="b", rank=1, lang="dothraki").manifest.language_slot == "<|sw|>"
    every = Recognizer(tiny_base(), ByteTokenizer(), BaseInfo(id="x", slots={f"<|{code}|>": code * 2 for code in ("de", "en", "sw", "yo")}))
    with pytest.raises(BadInput, match="taken the place of every"):
        every.spare_language()


# -- state -------------------------------------------------------------------------------------------------------------
def test_the_state_holds_the_base_once_and_the_adapters_beside_it():
    model = tiny_recognizer()
    names = set(model.base.state_dict())
    adapter = model.adapt("s2lora", name="a.b", rank=2)
    state = model.state_dict()
    assert {n.removeprefix("base.") for n in state if n.startswith("base.")} == names
    own = {n: t for n, t in state.items() if not n.startswith("base.")}
    assert sum(t.numel() for t in own.values()) == adapter.trained_parameters()
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [n for n in own]
    twin = tiny_recognizer(1)
    twin.adapt("s2lora", name="a.b", rank=2)
    twin.load_state_dict(state)
    assert all(torch.equal(t, state[n]) for n, t in twin.state_dict().items())


def test_moving_to_another_dtype_moves_base_and_adapters():
    model = tiny_recognizer(source=40)
    model.adapt("lora", name="a", rank=1, where="all")
    model.double()
    out = model(torch.randn(1, 8, 80), torch.tensor([40]), torch.tensor([[1, 2]]), route="a")
    assert out.logits.dtype == torch.float64 and model.dtype == torch.float64


@torch.no_grad()
def test_training_under_autocast_agrees_with_float32():
    model = tiny_recognizer(source=40)
    for name, method in {"a": "lora", "b": "prefix", "c": "prompt", "d": "ia3"}.items():
        torch.manual_seed(1)
        model.adapt(method, name=name)
    given = torch.randn(4, 8, 80), torch.tensor([40, 31, 22, 40]), torch.randint(0, 60, (4, 5))
    want = model(*given, route=["a", "b", "c", "d"]).encoded.states
    with torch.autocast("cpu", torch.bfloat16):
        got = model(*given, route=["a", "b", "c", "d"])
    mask = got.encoded.mask
    assert float((got.encoded.states[mask].float() - want[mask]).abs().mean()) < 0.1
    assert bool(got.logits.isfinite().all())
