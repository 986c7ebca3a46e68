"""Adapter folders: what is written, what comes back, and everything that can be wrong with one."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asrpeft.adapters.adapter import FORMAT, MANIFEST, TENSORS, Manifest, read
from asrpeft.adapters.ctc import CTCHead
from asrpeft.adapters.fingerprint import fingerprint, same, same_shape
from asrpeft.errors import AsrpeftError, BadAdapter, BadInput, Failure, WrongBase
from asrpeft.methods import configure, method
from tests.bases import tiny_base, tiny_recognizer
from tests.methods.cases import batch, pass_through, perturb, recognizer


def saved(tmp_path, method="lora", **settings):
    model = recognizer().float()
    adapter = perturb(model.adapt(method, name="a", **({"rank": 2} if method == "lora" else {}) | settings))
    return model, adapter, adapter.save(tmp_path / "a")


def manifest_of(folder) -> dict:
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def edit(folder, **changes):
    (folder / MANIFEST).write_text(json.dumps(manifest_of(folder) | changes), encoding="utf-8")


def unbind(folder):
    """Take the digest out: what is wrong beside it must be found without its help."""
    (folder / MANIFEST).write_text(json.dumps({key: value for key, value in manifest_of(folder).items() if key != "digest"}), encoding="utf-8")


# -- what comes back ---------------------------------------------------------------------------------------------------
def test_a_manifest_comes_back_as_it_was(tmp_path):
    model = recognizer()
    adapter = model.adapt("lora", name="a", rank=3, where="encoder.layers.{0..1}.fc1,conv", lang="Swahili", task="translate", context="auto")
    model.adapters.describe("a", training={"steps": 7, "seconds": 1.5}, parent=None)
    folder = adapter.save(tmp_path / "ä b", scores={"wer": 0.25})
    result, _ = read(folder)
    assert result == Manifest(
        method="lora",
        config=dict(vars(configure(method("lora"), {"rank": 3}))),
        where=["encoder.layers.{0..1}.fc1", "conv"],
        base_id="tiny",
        base_fingerprint=model.adapters.fingerprint,
        sites=["encoder.conv1", "encoder.conv2", "encoder.layers.0.fc1", "encoder.layers.1.fc1"],
        format=FORMAT,
        language="sw",
        task="translate",
        context="auto",
        training={"steps": 7, "seconds": 1.5},
        scores={"wer": 0.25},
    )
    assert recognizer().adapters.load(folder).name == "ä b"
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, TENSORS]


def test_a_ctc_head_and_a_language_vector_come_along(tmp_path):
    model = recognizer()
    adapter = perturb(model.adapt("lora", name="a", rank=1, lang="Klingon"))
    adapter.ctc = CTCHead.for_texts(16, ["qapla' ñ"])
    adapter.save(tmp_path / "a")
    back = recognizer().adapters.load(tmp_path / "a")
    assert back.ctc.vocabulary == adapter.ctc.vocabulary and torch.equal(back.ctc.weight, adapter.ctc.weight)
    assert torch.equal(back.language.v, adapter.language.v) and back.manifest.language_slot == "<|yo|>"
    assert back.head_parameters() == adapter.head_parameters() == 17 * len(adapter.ctc.vocabulary)
    assert back.trained_parameters() == back.formula_size()


def test_a_path_keeps_its_meaning_when_patterns_change(tmp_path):
    """`sites` says which layers, so a file means the same where a later version reads `where` differently."""
    _, _, folder = saved(tmp_path, where="conv")
    edit(folder, where=["all"])
    assert list(recognizer().adapters.load(folder).layers) == ["encoder.conv1", "encoder.conv2"]


# -- which base --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_fingerprint_survives_a_change_of_dtype(dtype):
    base = tiny_base()
    for start in (torch.float32, torch.bfloat16):
        there = fingerprint(base.to(start))
        assert same(there, fingerprint(base.to(dtype))) and same(fingerprint(base.to(torch.float16)), fingerprint(base.to(torch.bfloat16)))
        base = tiny_base()


def test_a_fingerprint_tells_bases_of_one_shape_apart_and_slight_fine_tuning_too():
    one, other, wide = fingerprint(tiny_base(0)), fingerprint(tiny_base(1)), fingerprint(tiny_base(0, width=32))
    assert same_shape(one, other) and not same(one, other) and not same_shape(one, wide)
    tuned = tiny_base(0)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01 * parameter.abs().mean())
    assert not same(one, fingerprint(tuned))
    assert len(one) < 2_000


def test_the_fingerprint_sees_every_tensor_however_many_there_are():
    many = torch.nn.ModuleDict({f"layer{n}": torch.nn.ModuleDict({str(k): torch.nn.Linear(2, 2) for k in range(12)}) for n in range(20)})
    one = fingerprint(many)
    for name, parameter in many.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(1)
        assert not same(one, fingerprint(many)), name
        with torch.no_grad():
            parameter.copy_(kept)
    assert same(one, fingerprint(many))


@pytest.mark.parametrize("wrong", [{"context": "Auto"}, {"task": "transcrbe"}])
def test_what_could_not_be_loaded_again_is_refused_before_it_is_made(wrong):
    model = tiny_recognizer()
    with pytest.raises(BadInput, match="choose (full or auto|transcribe or translate)"):
        model.adapt("lora", name="a", rank=1, lang="sw", **wrong)
    assert len(model.adapters) == 0


def test_a_loaded_adapter_drops_nothing_out_while_it_transcribes(tmp_path):
    model = tiny_recognizer()
    adapter = perturb(model.adapt("lora", name="a", lang="sw", dropout=0.5))
    folder = adapter.train().save(tmp_path / "a")
    model.adapters.detach("a")
    model.adapters.load(folder)
    given = torch.randn(2, model.n_mels, 80), torch.tensor([40, 40])
    with model.route("a"), torch.no_grad():
        assert torch.equal(model.encode(*given).states, model.encode(*given).states)


def test_an_adapter_of_another_base_is_refused_with_the_base_it_wants(tmp_path):
    _, _, folder = saved(tmp_path)
    other = tiny_recognizer(1, source=40)
    for base_id, remedy in (("mini-7", r"that it was trained on\. Its"), ("someone/whisper-kids", "with --model someone/whisper-kids")):
        edit(folder, base_id=base_id)
        with pytest.raises(WrongBase, match=f"trained on '{base_id}'.*{remedy}.*--force"):
            other.adapters.load(folder)
    assert len(other.adapters) == 0
    assert other.adapters.load(folder, force=True).name == "a"


def test_force_does_not_help_where_shapes_differ(tmp_path):
    _, _, folder = saved(tmp_path)
    for force in (False, True):
        with pytest.raises(WrongBase, match="shapes do not fit"):
            tiny_recognizer(0, source=40, width=32).adapters.load(folder, force=force)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_adapter_loads_onto_its_base_in_half_precision(tmp_path, dtype):
    model, _, folder = saved(tmp_path)
    features, contexts, tokens = batch()
    want = pass_through(model, "a", features.float(), contexts, tokens)[0]
    half = tiny_recognizer(source=40)
    half.base.to(dtype)
    half = type(half)(half.base, half.tokenizer, half.info)
    half.adapters.load(folder)
    got = pass_through(half, ["a", None, "a", "a"], features, contexts, tokens)[0]
    assert got.dtype == dtype and all(p.dtype == torch.float32 for p in half.adapters.parameters())
    assert float((got[0].float() - want[0]).detach().abs().mean()) < 0.05  # layer-normalized states, of size one


# -- what can be wrong -------------------------------------------------------------------------------------------------
def tensors_as(change):
    def spoil(folder):
        save_file(change(load_file(folder / TENSORS)), folder / TENSORS)

    return spoil


def spoil_some(held, change):
    name = next(iter(held))
    return held | {name: change(held[name])}


BROKEN = {
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "asrpeft adapter import"),
    "manifest is not json": (lambda f: (f / MANIFEST).write_text("{"), "JSON"),
    "manifest is not text": (lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe{}"), "JSON"),
    "manifest is a list": (lambda f: (f / MANIFEST).write_text("[1]"), "format version"),
    "manifest is nested too deep": (lambda f: (f / MANIFEST).write_text("[" * 100_000), "JSON"),
    "manifest is huge": (lambda f: (f / MANIFEST).write_bytes(b" " * (17 << 20)), "at most"),
    "manifest is a folder": (lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()), "has no"),
    "no format": (lambda f: edit(f, format=None), "format version"),
    "format is true": (lambda f: edit(f, format=True), "format version"),
    "newer format": (lambda f: edit(f, format=FORMAT + 1), "Upgrade asrpeft"),
    "no method": (lambda f: (f / MANIFEST).write_text(json.dumps({k: v for k, v in manifest_of(f).items() if k != "method"})), "incomplete"),
    "method is a list": (lambda f: edit(f, method=["lora"]), "unusable method"),
    "unknown method": (lambda f: edit(f, method="../../etc/passwd"), "no method"),
    "config is a list": (lambda f: edit(f, config=[1]), "unusable config"),
    "unknown setting": (lambda f: edit(f, config={"rank": 2, "evil": 1}), "no setting 'evil'"),
    "rank is text": (lambda f: edit(f, config={"rank": "two"}), "whole number"),
    "rank is infinite": (lambda f: edit(f, config={"rank": float("inf")}), "whole number"),
    "alpha is not a number": (lambda f: edit(f, config={"rank": 2, "alpha": float("nan")}), "alpha=nan is not a number"),
    "a rank of a billion": (lambda f: edit(f, config={"rank": 10**9}), "describes .* numbers and the file holds"),
    "a rank beyond any integer": (lambda f: edit(f, config={"rank": 10**40}), "describes .* numbers and the file holds"),
    "another rank": (lambda f: edit(f, config={"rank": 1}), "wrong shape"),
    "no sites": (lambda f: edit(f, sites=[]), "unusable sites"),
    "sites twice": (lambda f: edit(f, sites=manifest_of(f)["sites"] * 2), "unusable sites"),
    "sites are numbers": (lambda f: edit(f, sites=[1, 2]), "unusable sites"),
    "unknown site": (lambda f: edit(f, sites=["../../weights"]), "does not have"),
    "a site of another kind": (lambda f: edit(f, sites=["encoder.layer_norm"]), "does not fit"),
    "fewer sites": (lambda f: edit(f, sites=manifest_of(f)["sites"][:1]), "unknown"),
    "fingerprint is odd": (lambda f: edit(f, base_fingerprint="abc:!!!"), "unusable base_fingerprint"),
    "fingerprint is cut": (lambda f: edit(f, base_fingerprint=manifest_of(f)["base_fingerprint"][:-3]), "unusable base_fingerprint|other weights"),
    "unknown context": (lambda f: edit(f, context="medium"), "There is no context"),
    "context is a list": (lambda f: edit(f, context=["full"]), "There is no context"),
    "language is a number": (lambda f: edit(f, language=3), "unusable language"),
    "unknown language slot": (lambda f: edit(f, language_slot="<|xx|>"), "language token"),
    "a language slot without a vector": (lambda f: edit(f, language_slot="<|yo|>"), "language.v"),
    "a ctc vocabulary without a head": (lambda f: edit(f, ctc_vocabulary=["<blank>", "a"]), "CTC head of 2 entries"),
    "a ctc vocabulary without a blank": (lambda f: edit(f, ctc_vocabulary=["a"]), "unusable ctc_vocabulary"),
    "a ctc vocabulary of a hundred thousand": (
        lambda f: edit(f, ctc_vocabulary=["<blank>", *map(chr, range(1000, 50_000)), *map(chr, range(60_000, 111_000))]),
        "100,001 entries",
    ),
    "a note nested without end": (lambda f: edit(f, training={"note": json.loads("[" * 300 + "]" * 300)}), "nested more than 50 deep"),
    "a ctc vocabulary of a million": (lambda f: edit(f, ctc_vocabulary=["<blank>", *map(str, range(1_000_000))]), "about 1,.* values"),
    "half of a surrogate pair": (lambda f: edit(f, language="\ud800"), "JSON: .*surrogates"),
    "a rank of zero": (lambda f: edit(f, config={"rank": 0}), "rank"),
    "a rank below zero": (lambda f: edit(f, config={"rank": -2}), "rank"),
    "a rank of four thousand digits": (lambda f: edit(f, config={"rank": int("9" * 4000)}), "cannot be used"),
    "a setting is an object": (lambda f: edit(f, config={"rank": {"a": 1}}), "whole number"),
    "digest is text": (lambda f: edit(f, digest="sha256"), "unusable digest"),
    "training is text": (lambda f: edit(f, training="x"), "unusable training"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), "cannot be read"),
    "tensors are empty": (lambda f: (f / TENSORS).write_bytes(b""), "cannot be read"),
    "tensors are cut short": (lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-10]), "cannot be read"),
    "tensors are noise": (lambda f: (f / TENSORS).write_bytes(os.urandom(500)), "cannot be read"),
    "tensors claim a huge header": (lambda f: (f / TENSORS).write_bytes((2**60).to_bytes(8, "little") + b"{}"), "cannot be read"),
    "tensors have a header that fills memory": (
        lambda f: (f / TENSORS).write_bytes((9 << 20).to_bytes(8, "little") + b"{" + b" " * (9 << 20)),
        "header has 9,437,184 bytes",
    ),
    "tensors are a folder": (lambda f: ((f / TENSORS).unlink(), (f / TENSORS).mkdir()), "not a file"),
    "tensors are a pipe": (lambda f: ((f / TENSORS).unlink(), os.mkfifo(f / TENSORS)), "not a file"),
    "tensors are a pickle": (lambda f: torch.save({"a": 1}, f / TENSORS), "cannot be read"),
    "one is missing": (tensors_as(lambda t: dict(list(t.items())[1:])), "missing|describes"),
    "one too many": (tensors_as(lambda t: t | {"sites.x.y": torch.ones(2)}), "unknown"),
    "one is not finite": (tensors_as(lambda t: spoil_some(t, lambda x: x / 0)), "finite"),
    "one holds whole numbers": (tensors_as(lambda t: spoil_some(t, lambda x: x.int())), "wrong kind"),
    "one has another shape": (tensors_as(lambda t: spoil_some(t, lambda x: x.T.contiguous())), "wrong shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(case, tmp_path):
    _, _, folder = saved(tmp_path, where="fc1")
    spoil, why = BROKEN[case]
    unbind(folder)
    spoil(folder)
    model = recognizer()
    with pytest.raises(AsrpeftError, match=why) as caught:
        model.adapters.load(folder)
    assert isinstance(caught.value, (BadAdapter, WrongBase))
    assert len(model.adapters) == 0 and not model.adapters.sites
    assert not any(m._forward_hooks for m in model.base.modules())


@pytest.mark.parametrize("path", ["nowhere", "a/adapter.json", "x" * 300, "a\0b"])
def test_a_path_that_is_no_folder_is_refused(path, tmp_path):
    saved(tmp_path)
    with pytest.raises(BadAdapter, match="no adapter folder"):
        recognizer().adapters.load(tmp_path / path)


# -- the digest --------------------------------------------------------------------------------------------------------
def flip(path, bit):
    held = bytearray(path.read_bytes())
    held[bit // 8] ^= 1 << bit % 8
    path.write_bytes(held)


def test_any_flipped_bit_of_the_tensors_is_refused(tmp_path):
    _, _, folder = saved(tmp_path, where="fc1")
    model, path = recognizer(), folder / TENSORS
    size, rng = path.stat().st_size, random.Random(0)
    body = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for bit in (8 * body, 8 * size - 1, *(rng.randrange(8 * body, 8 * size) for _ in range(41))):
        flip(path, bit)
        with pytest.raises(BadAdapter, match="damaged or exchanged adapter.safetensors.*Copy the adapter again|finite"):
            model.adapters.load(folder)
        flip(path, bit)
    assert model.adapters.load(folder).name == "a"


def test_the_digest_of_the_tensors_is_what_sha256sum_prints(tmp_path):
    _, _, folder = saved(tmp_path)
    assert manifest_of(folder)["digest"]["tensors"] == f"sha256:{hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()}"


def test_the_tensors_of_another_adapter_of_the_same_form_are_refused(tmp_path):
    _, adapter, folder = saved(tmp_path)
    other = perturb(adapter, 7).save(tmp_path / "b")
    (folder / TENSORS).write_bytes((other / TENSORS).read_bytes())
    with pytest.raises(BadAdapter, match="exchanged"):
        recognizer().adapters.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: {"config": values["config"] | {"alpha": 17.0}},
        lambda values: {"sites": values["sites"][::-1]},
        lambda values: {"ctc_vocabulary": [values["ctc_vocabulary"][0], *values["ctc_vocabulary"][:0:-1]]},
        lambda values: {"base_fingerprint": recognizer(1).adapters.fingerprint},
        lambda values: {"digest": values["digest"] | {"meaning": "sha256:0"}},
    ],
    ids=["alpha", "sites", "vocabulary", "base", "digest"],
)
def test_what_says_how_the_tensors_are_used_cannot_be_changed_beside_them(change, tmp_path):
    model = recognizer()
    adapter = perturb(model.adapt("lora", name="a", rank=1))
    adapter.ctc = CTCHead.for_texts(16, ["ab"])
    folder = adapter.save(tmp_path / "a")
    edit(folder, **change(manifest_of(folder)))
    with pytest.raises(BadAdapter, match="adapter.json whose format, method, config.* take `digest` out"):
        recognizer().adapters.load(folder)
    unbind(folder)
    assert read(folder)[0].digest == {}, "and loads as it is, on request"


def test_everything_else_may_be_edited_by_hand_and_the_file_laid_out_anew(tmp_path):
    _, _, folder = saved(tmp_path)
    report = manifest_of(folder) | {
        "base_id": "x",
        "parent": "p",
        "language": "de",
        "task": "translate",
        "context": "auto",
        "training": {"by": "me"},
        "scores": {"wer": 0.1},
        "notes": "mine",
    }
    report["config"]["alpha"] = int(report["config"]["alpha"])  # as some programs write 16.0
    (folder / MANIFEST).write_text(json.dumps(dict(reversed(report.items()))), encoding="utf-8")
    assert recognizer().adapters.load(folder).manifest.scores == {"wer": 0.1}


def test_an_adapter_that_was_saved_before_there_was_a_digest_loads_and_gets_one_when_it_is_saved_again(tmp_path):
    _, _, folder = saved(tmp_path)
    unbind(folder)
    model = recognizer()
    adapter = model.adapters.load(folder)
    assert read(adapter.save(tmp_path / "b"))[0].digest.keys() == {"tensors", "meaning"}


def test_unknown_manifest_fields_of_this_format_are_passed_over(tmp_path):
    _, _, folder = saved(tmp_path)
    edit(folder, color="green")
    assert recognizer().adapters.load(folder).name == "a"


# -- writing -----------------------------------------------------------------------------------------------------------
def test_an_adapter_is_not_written_over_without_being_told_so(tmp_path):
    model, adapter, folder = saved(tmp_path)
    with pytest.raises(BadInput, match="overwrite"):
        adapter.save(folder)
    perturb(adapter, 5)
    adapter.save(folder, overwrite=True)
    held = load_file(folder / TENSORS)
    assert all(torch.equal(held[n], t) for n, t in adapter.tensors()[1].items())
    assert [p.name for p in tmp_path.iterdir()] == ["a"], "something was left beside it"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_replaced(tmp_path, overwrite):
    _, adapter, folder = saved(tmp_path)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="notes.txt"):
        adapter.save(folder, overwrite=overwrite)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / TENSORS).exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_numbers_are_never_saved(value, tmp_path):
    _, adapter, folder = saved(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with torch.no_grad():
        next(adapter.parameters())[0] = value
    with pytest.raises(Failure, match="'a' is not saved: 1 of .* not finite numbers .*lower --lr"):
        adapter.save(folder, overwrite=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_unknown_manifest_field_is_a_mistake_of_the_program(tmp_path):
    _, adapter, _ = saved(tmp_path)
    with pytest.raises(TypeError, match="color"):
        adapter.save(tmp_path / "b", color="green")
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a child process that shares the adapter")
def test_killed_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    """The process ends in the middle of the second file: what was there before is there after, whole."""
    _, adapter, folder = saved(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    perturb(adapter, 9)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "write_text", lambda *a, **k: os._exit(9))
        try:
            adapter.save(folder, overwrite=True)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert recognizer().adapters.load(folder).name == "a"
