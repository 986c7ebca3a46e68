"""A merged checkpoint: plain `transformers` loads it and gives the routed adapter's logits."""

from __future__ import annotations

import json
import resource

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.export import export_merged
from asrpeft.decoding import make_row
from asrpeft.errors import BadInput, BadRoute, CannotMerge
from asrpeft.methods import method, names
from asrpeft.recognizer import load
from tests.methods.cases import perturb, small
from tests.recognizer.checkpoint import tiny_checkpoint

GIVEN = (torch.randn(2, 8, 80, generator=torch.Generator().manual_seed(0)), torch.tensor([[257, 261, 263, 267, 40], [257, 258, 263, 267, 9]]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "tiny", source=40)


@pytest.fixture(scope="module")
def loaded(folder):
    return load(folder, device="cpu")


@pytest.fixture
def model(loaded):
    """The base, loaded once: an export leaves it as it was, which every test of a method looks at."""
    yield loaded
    for name in loaded.adapters.names():
        loaded.adapters.detach(name)


def logits(model, features, tokens):
    with torch.no_grad():
        return model(features, decoder_input_ids=tokens).logits


@pytest.mark.parametrize("name", [name for name in names() if method(name).mergeable])
def test_plain_transformers_loads_it_and_gives_the_routed_logits(name, model, tmp_path):
    adapter = perturb(model.adapt(name, name="a", lang="Klingon", **small(name)), by=0.05)
    adapter.ctc = CTCHead.for_texts(16, ["ab"])
    with model.route("a"):
        want = logits(model.base, *GIVEN)
    before = {n: t.clone() for n, t in model.base.state_dict().items()}
    out = export_merged(model, "a", tmp_path / "merged")
    assert all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items()) and model.adapters.merged == ()
    plain = WhisperForConditionalGeneration.from_pretrained(out).eval()
    assert plain.config._attn_implementation != "asrpeft" and "asrpeft" not in (out / "config.json").read_text()
    assert (logits(plain, *GIVEN) - logits(model.base, *GIVEN)).abs().max() > 1e-3
    assert_close(logits(plain, *GIVEN), want, atol=2e-3, rtol=1e-3)
    assert plain.generation_config.lang_to_id == model.languages
    report = json.loads((out / "asrpeft.json").read_text())
    assert report["language_slots"] == {"<|yo|>": "klingon"} and report["merged"]["adapter"] == "a" and report["contexts"] == ["full"]


def test_plain_transformers_reads_its_tokenizer_and_its_features(model, tmp_path):
    model.adapt("lora", name="a", lang="Klingon")
    processor = WhisperProcessor.from_pretrained(export_merged(model, "a", tmp_path / "merged"))
    assert processor.tokenizer("né").input_ids == model.tokenizer("né").input_ids and processor.feature_extractor.feature_size == 8


def test_it_loads_here_too_with_its_ctc_head_and_context(folder, tmp_path):
    model = load(folder, device="cpu")
    adapter = perturb(model.adapt("lora", name="a", lang="sw", context="auto"))
    adapter.ctc = CTCHead.for_texts(16, ["ab"])
    again = load(export_merged(model, "a", tmp_path / "merged"), device="cpu")
    assert again.info.contexts == ("full", "auto") and again.info.languages == ("sw",) and again.info.id.endswith("+a")
    assert again.ctc.vocabulary == adapter.ctc.vocabulary and torch.equal(again.ctc.weight, adapter.ctc.weight)
    with pytest.raises(Exception, match="has other weights"):
        again.adapters.load(adapter.save(tmp_path / "adapter"))


def beginning(out, **changes):
    """The tokens with which plain `transformers` begins a transcript of the checkpoint in `out`."""
    plain = WhisperForConditionalGeneration.from_pretrained(out).eval()
    generation = plain.generation_config
    made = plain._retrieve_init_tokens(GIVEN[0][:1], batch_size=1, generation_config=generation, config=plain.config, num_segment_frames=80, kwargs={})
    return made[0].tolist()


@pytest.mark.parametrize("adapter", [{"lang": "sw"}, {"lang": "sw", "task": "translate"}, {"lang": "klingon"}, {"lang": "en", "context": "auto"}])
def test_plain_transformers_begins_as_the_adapter_was_trained_to_without_being_told(adapter, folder, tmp_path):
    model = load(folder, device="cpu")
    model.adapt("lora", name="a", **adapter)
    out = export_merged(model, "a", tmp_path / "merged")
    assert beginning(out) == model.prompt(lang=None, task=adapter.get("task", "transcribe"), adapter="a")
    assert model.generation.to_dict().get("language") is None  # the base itself is left as it was
    again = load(out, device="cpu")
    known = again.language_for(None), again.task_for(None), again.context_for(None)
    assert known == (adapter["lang"], adapter.get("task", "transcribe"), adapter.get("context", "full"))
    row = make_row(again, np.zeros(8_000, np.float32))
    assert list(row.prompt) == beginning(out) and row.frames == (50 if "context" in adapter else 1500)
    # An adapter of its own language on the merged base keeps it.
    again.adapt("lora", name="b", lang="de")
    assert again.prompt(lang=None, adapter="b")[1] == again.language_token("de")


def test_a_merged_english_only_base_is_told_no_language(tmp_path):
    model = load(tiny_checkpoint(tmp_path / "tiny", source=40, english=True), device="cpu")
    model.adapt("lora", name="a", lang="en")
    out = export_merged(model, "a", tmp_path / "merged")
    assert beginning(out) == model.prompt(lang=None, adapter="a") == list(make_row(load(out, device="cpu"), np.zeros(800, np.float32)).prompt)


@pytest.mark.parametrize("values", [{"language": 3}, {"task": "sing"}, {"context": "half"}, "sw"])
def test_a_merged_folder_that_says_nonsense_of_what_was_merged_is_refused(values, folder, tmp_path):
    model = load(folder, device="cpu")
    model.adapt("lora", name="a", lang="sw")
    out = export_merged(model, "a", tmp_path / "merged")
    info = json.loads((out / "asrpeft.json").read_text())
    (out / "asrpeft.json").write_text(json.dumps(info | {"merged": values}))
    with pytest.raises(BadInput, match="cannot be used"):
        load(out, device="cpu")


def test_languages_learned_one_after_the_other_all_stay(folder, tmp_path):
    model = load(folder, device="cpu")
    perturb(model.adapt("lora", name="a", lang="klingon"))
    second = load(export_merged(model, "a", tmp_path / "one"), device="cpu")
    perturb(second.adapt("lora", name="b", lang="dothraki"))
    third = load(export_merged(second, "b", tmp_path / "two"), device="cpu")
    assert third.info.slots == {"<|yo|>": "klingon", "<|sw|>": "dothraki"}
    assert third.prompt(lang="klingon")[1] == third.languages["<|yo|>"] and third.prompt(lang="dothraki")[1] == third.languages["<|sw|>"]


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(folder, tmp_path):
    model = load(folder, device="cpu")
    model.adapt("prefix", name="p")
    model.adapt("lora", name="a")
    model.adapt("lora", name="b")
    with pytest.raises(CannotMerge, match="serve it routed"):
        export_merged(model, "p", tmp_path / "out")
    with pytest.raises(BadRoute, match="no adapter"):
        export_merged(model, "zz", tmp_path / "out")
    model.adapters.merge("b")
    with pytest.raises(CannotMerge, match="b is merged"):
        export_merged(model, "a", tmp_path / "out")
    export_merged(model, "b", tmp_path / "b")
    assert model.adapters.merged == ("b",)
    model.adapters.unmerge()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match="thesis.tex"):
        export_merged(model, "a", tmp_path / "taken", overwrite=True)
    assert model.adapters.merged == () and sorted(p.name for p in tmp_path.iterdir()) == ["b", "taken"]


@pytest.mark.parametrize("dtype, by, why", [("float32", float("nan"), "training diverged"), ("float16", 1e5, "merge with --dtype float32")])
def test_weights_that_are_not_finite_are_not_written(dtype, by, why, folder, tmp_path):
    model = load(folder, device="cpu", dtype=dtype)
    adapter = model.adapt("full", name="a", where="fc1")
    before = {n: t.clone() for n, t in model.base.state_dict().items()}
    with torch.no_grad():
        next(iter(adapter.pieces.values())).dw[0, 0] = by
    with pytest.raises(CannotMerge, match=f"layers.*fc1 would hold values that are not finite.*{why}"):
        export_merged(model, "a", tmp_path / "m")
    assert not (tmp_path / "m").exists() and model.adapters.merged == ()
    assert all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items())


def test_a_full_disk_ends_a_merge_with_a_message_and_leaves_nothing(folder, tmp_path):
    model = load(folder, device="cpu")
    perturb(model.adapt("lora", name="a"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="'.*m' cannot be written: .*Make room"):
            export_merged(model, "a", tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir()) and model.adapters.merged == ()


def test_a_half_precision_base_is_exported_in_half_precision(folder, tmp_path):
    model = load(folder, device="cpu", dtype="bfloat16")
    perturb(model.adapt("lora", name="a"))
    plain = WhisperForConditionalGeneration.from_pretrained(export_merged(model, "a", tmp_path / "m"))
    assert {tensor.dtype for tensor in plain.state_dict().values()} == {torch.bfloat16}
