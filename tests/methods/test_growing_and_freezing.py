"""IncreLoRA's ranks grow to their budget, AFLoRA's matrices freeze, BiLoRA's levels keep to their data; what the others' plans and gates do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from asrpeft.errors import BadInput
from asrpeft.methods import Pool, configure, method
from asrpeft.methods.mixture.mix_lora import alike, gates, imbalance
from asrpeft.methods.plan import collected
from tests.bases import tiny_recognizer
from tests.methods.cases import bench, make_layer, recognizer
from tests.methods.test_plans import run, saved_with_its_ranks


def trained(name: str, steps: int = 10, lr: float = 0.02, keep: dict | None = None, **settings):
    model = tiny_recognizer()
    torch.manual_seed(0)
    adapter = model.adapt(name, name="x", lang="en", **{"where": "attention"} | settings)
    run(model, steps=steps, lr=lr, **keep or {})
    return model, adapter


def test_increloras_ranks_grow_to_the_budget_where_they_matter_and_the_file_holds_them(tmp_path):
    model, adapter = trained("increlora", rank=4, target=2, start=1, warmup=0.1, final=0.3)
    grown = {path: int(piece.alive.sum()) for path, piece in adapter.by_path().items()}
    assert sum(grown.values()) == 2 * len(grown) and set(grown.values()) - {1, 2}, "the budget is spent evenly, whatever matters"
    assert all(not bool(piece.lam[~piece.alive].any()) for piece in adapter.by_path().values()), "what has not been added has moved"
    back = saved_with_its_ranks(model, adapter, tmp_path)
    assert back.config.ranks == {path: len(piece.left()) for path, piece in back.by_path().items()}


def test_triadapts_ranks_grow_to_the_budget_where_changes_are_large_and_the_file_holds_them(tmp_path):
    model, adapter = trained("triadapt", rank=4, target=2, start=1, warmup=0.1, final=0.3)
    grown = {path: int(piece.active) for path, piece in adapter.by_path().items()}
    assert len(grown) < sum(grown.values()) <= 2 * len(grown) and len(set(grown.values())) > 1, "all grow alike, or none"
    assert float(adapter.pool["threshold"]) > 0
    for piece in adapter.by_path().values():
        low, up = piece.whole()
        assert bool((low == low.tril()).all() and (up == up.tril()).all()), "not triangular"
        assert not bool(low[:, int(piece.active) :].any()), "what has not been added has moved"
    assert saved_with_its_ranks(model, adapter, tmp_path).config.ranks == grown


def test_aflora_freezes_one_matrix_after_the_other_and_a_frozen_one_does_not_move():
    seen: list[tuple[list[bool], list[torch.Tensor]]] = []
    own = method("aflora").plan(configure(method("aflora"), {}))

    class Watched(type(own)):
        def after_step(self, adapter, *, step, progress, lr):
            pieces = adapter.by_path().values()
            seen.append(([bool(f) for piece in pieces for f in piece.frozen], [w.detach().clone() for piece in pieces for w in (piece.a, piece.b)]))

    kept = method("aflora").plan
    method("aflora").plan = classmethod(lambda cls, config: Watched(config))
    try:
        trained("aflora", rank=2, warmup=0.2, final=0.3)
    finally:
        method("aflora").plan = kept
    counts = [sum(frozen) for frozen, _ in seen]
    assert counts[0] == 0 and counts == sorted(counts) and counts[-3:] == [len(seen[0][0])] * 3 and len(set(counts)) > 3
    for (_, before), (frozen, after) in zip(seen, seen[1:]):
        for is_frozen, was, now in zip(frozen, before, after):
            assert torch.equal(was, now) == is_frozen


@pytest.mark.parametrize("name, settings", [("increlora", {"rank": 4, "target": 2, "start": 1}), ("aflora", {"rank": 2}), ("bilora", {"rank": 2})])
def test_an_interrupted_run_goes_on_to_the_same_ranks_and_the_same_frozen_matrices(name, settings, tmp_path):
    from asrpeft.training import loop

    _, whole = trained(name, **settings)
    original, taken = loop.Run.step, []

    def step(self, data):
        original(self, data)
        taken.append(1)
        if len(taken) == 6:
            raise KeyboardInterrupt

    loop.Run.step = step
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(name, keep={"checkpoint": tmp_path / "run", "checkpoint_s": 0}, **settings)
    finally:
        loop.Run.step = original
    _, resumed = trained(name, keep={"checkpoint": tmp_path / "run", "resume": True}, **settings)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key


def test_the_penalty_on_open_gates_shuts_them_and_the_report_counts():
    _, adapter = trained("gates", steps=12, lr=0.2, sparsity=50.0, noise=0.5)
    report = adapter.method.report(adapter.by_path())
    assert report["closed"] > 0.5 and sum(report["closed_by_layer"].values()) > 0
    _, adapter = trained("gates", steps=12, lr=0.02, sparsity=0.0)
    assert adapter.method.report(adapter.by_path())["closed"] == 0


def test_a_relaxed_rotation_is_held_near_a_rotation_by_its_penalty():
    off = []
    for orthogonal in (0.0, 30.0):
        _, adapter = trained("qgoft", orthogonal=orthogonal, lr=0.05)
        g = torch.cat([piece.g.detach().flatten(0, 1) for piece in adapter.by_path().values()])
        off.append(float((g @ g.mT - torch.eye(2)).square().sum(dim=(1, 2)).mean()))
    assert off[1] < 0.3 * off[0]


def test_givens_rotations_reach_every_input_of_a_block_from_every_other():
    layer = make_layer("linear without bias")  # eight inputs
    piece = method("qgoft")(layer, configure(method("qgoft"), {"relaxed": False}), Pool([layer]))
    with torch.no_grad():
        piece.theta.fill_(0.7)
        turned = piece.merged(torch.eye(8), None)[0]
    assert piece.theta.shape == (3, 4) and bool((turned.abs() > 1e-3).all())
    assert_close(turned @ turned.T, torch.eye(8), atol=1e-6, rtol=0.0)


# -- mixtures ----------------------------------------------------------------------------------------------------------
def test_of_the_gates_only_the_largest_act_and_dropout_leaves_one_open():
    torch.manual_seed(0)
    logits = torch.randn(50, 5)
    assert_close(gates(logits, top_k=0, dropout=0.0), logits.softmax(-1))
    two = gates(logits, top_k=2, dropout=0.0)
    assert bool(((two > 0).sum(-1) == 2).all()) and torch.equal(two.argmax(-1), logits.argmax(-1))
    assert_close(two[two > 0], logits.softmax(-1)[two > 0])
    half = gates(logits, top_k=0, dropout=0.5)
    assert 0.3 < float((half == 0).float().mean()) < 0.7 and bool((half.sum(-1) > 0.99).all())


def test_imbalance_is_one_where_experts_share_the_work_and_their_number_where_one_has_it_all():
    even = 9.0 * torch.eye(4).repeat(25, 1)
    assert_close(imbalance(even), torch.tensor(1.0), atol=1e-3, rtol=0.0)
    alone = torch.tensor([20.0, 0.0, 0.0, 0.0]).repeat(100, 1)
    assert_close(imbalance(alone), torch.tensor(4.0), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("name", ["mix_lora", "mix_ia3"])
def test_a_mixture_leaves_its_balance_loss_in_training_alone(name):
    b = bench(name, "linear", {"experts": 3, "balance": 0.5})
    with collected() as losses:
        b.run("ppp")
    assert losses == []
    b.train()
    with collected() as losses:
        b.run("ppp")
    assert len(losses) == 1 and 0.4 < float(losses[0]) < 1.6
    losses[0].backward()
    assert float(b.pieces["p"].router.grad.abs().max()) > 0


def test_experts_that_a_token_does_not_choose_do_nothing_for_it():
    b = bench("mix_lora", "linear", {"experts": 2, "rank": 1, "top_k": 1}).perturb()
    piece = b.pieces["p"]
    with torch.no_grad():
        chosen = torch.nn.functional.linear(b.x, piece.router).argmax(-1)
        before = b.run("ppp")[0]
        piece.b[:, 1] += 1.0  # the second expert's
        after = b.run("ppp")[0]
    moved = (after - before).abs().amax(-1) > 1e-4
    assert torch.equal(moved, chosen == 1) and 0 < int(moved.sum()) < moved.numel()


def test_intune_needs_factors_to_stand_between():
    with pytest.raises(BadInput, match="start='nystrom'"):
        configure(method("slora"), {"train": "N"})


def test_nystroms_start_is_the_weight_itself_where_the_weight_is_of_that_rank():
    torch.manual_seed(0)
    layer = make_layer("linear without bias")
    layer.module.weight.data = torch.cat([torch.eye(3), torch.randn(5, 3)]) @ torch.cat([torch.eye(3), torch.randn(3, 5)], dim=1)
    piece = method("slora")(layer, configure(method("slora"), {"rank": 3, "start": "nystrom"}), Pool([layer]))
    assert_close(piece.s * piece.b0 @ piece.n0 @ piece.a0, layer.matrix, atol=1e-4, rtol=1e-3)


def test_capaboosts_masks_give_more_rank_than_the_pair_has_and_quanta_full_rank():
    model = recognizer()
    boosted = model.adapt("capaboost", name="a", rank=2, masks=3, where="decoder.layers.0.fc1").by_path()["decoder.layers.0.fc1"]
    mixed = model.adapt("quanta", name="b", where="decoder.layers.0.fc1").by_path()["decoder.layers.0.fc1"]
    with torch.no_grad():
        for parameter in (*boosted.parameters(), *mixed.parameters()):
            parameter.add_(torch.randn_like(parameter))
        w = torch.zeros(32, 16, dtype=torch.float64)
        assert torch.linalg.matrix_rank(boosted.double().delta(w)) == 6
        assert torch.linalg.matrix_rank(mixed.double().delta(w)) == 16


# -- BiLoRA ------------------------------------------------------------------------------------------------------------
def test_bilora_moves_vectors_and_values_by_utterances_of_their_own(monkeypatch):
    """Each step is of one part of the utterances, the same in every epoch, and moves what belongs to that part alone."""
    from asrpeft.training import loop

    seen: list[tuple[int, set[str], list[list[torch.Tensor]]]] = []
    original = loop.Run.take

    def take(self, data, counts, loss):
        original(self, data, counts, loss)
        pieces = list(self.adapter.by_path().values())
        heard = {id_ for batch in data.batches for id_ in batch.ids}
        seen.append((data.key.part, heard, [[w.detach().clone() for w in own] for piece in pieces for own in ((piece.p, piece.q), (piece.lam,))]))

    monkeypatch.setattr(loop.Run, "take", take)
    trained("bilora", steps=8, rank=2)
    halves = [set().union(*(heard for part, heard, _ in seen if part == wanted)) for wanted in (0, 1)]
    assert not halves[0] & halves[1] and len(halves[0]) == len(halves[1]) == 4
    assert [part for part, *_ in seen] == [0, 1] * 4
    for (_, _, before), (part, _, after) in zip(seen, seen[1:]):
        moved = [any(not torch.equal(a, b) for a, b in zip(was, now)) for was, now in zip(before, after)]
        assert not any(moved[1 - part :: 2]) and (not part or all(moved[1::2])), "what the other part is for has moved"
    first = [w for own in seen[0][2][::2] for w in own]
    assert all(not torch.equal(a, b) for a, b in zip(first, [w for own in seen[-1][2][::2] for w in own])), "vectors never moved"


def test_experts_that_make_the_same_are_hard_to_tell_apart_and_contrast_counts_it_in_training():
    same = torch.randn(5, 7, 1, 4).expand(-1, -1, 3, -1)
    apart = 5 * torch.eye(3, 4) + 0.1 * torch.randn(5, 7, 3, 4)
    assert_close(alike(same), torch.tensor(3.0).log()) and float(alike(apart)) < 0.01
    b = bench("mix_lora", "linear", {"rank": 2, "experts": 2, "contrast": 0.5}).perturb().train()
    with collected() as losses:
        b.run("ppp")
    assert len(losses) == 1 and losses[0].requires_grad


@torch.no_grad()
def test_gumbel_gates_are_drawn_in_training_alone():
    b = bench("mix_lora", "linear", {"rank": 2, "experts": 3, "gate": "gumbel"}).perturb()
    still = b.run("ppp")[0]
    assert torch.equal(b.run("ppp")[0], still)
    drawn = [b.train().run("ppp")[0] for _ in range(2)]
    assert not torch.equal(*drawn) and not torch.equal(drawn[0], still)


def test_a_hyper_router_is_one_embedding_and_layers_of_one_embedding_have_one_router():
    first, second = (bench("mix_lora", "linear", {"rank": 2, "experts": 3, "router": "hyper", "embed": 5}, seed=seed).pieces["p"] for seed in (0, 1))
    assert first.router.shape == (5,) and first.routers().shape == (3, 8)
    assert not torch.equal(first.routers(), second.routers())
    first.router.data.copy_(second.router)
    assert torch.equal(first.routers(), second.routers()), "the network is drawn anew for each adapter"


@torch.no_grad()
def test_reslora_adds_the_same_matrixs_change_in_the_layers_below():
    model = recognizer()
    adapter = model.adapt("reslora", name="a", where="q_proj,fc1", rank=2)
    pieces, pool = adapter.by_path(), adapter.pool
    with torch.no_grad():
        pool["b_encoder_layers_0_fc1"].normal_()
    own, above = (pieces[f"encoder.layers.{i}.fc1"].delta(None) for i in (0, 1))
    assert float(own.abs().max()) > 0.01 and torch.equal(own, above)
    others = {path: piece.delta(None) for path, piece in pieces.items() if not path.startswith("encoder.layers.") or "fc1" not in path}
    assert others and not any(bool(dw.any()) for dw in others.values()), "another side's, or another matrix's, change was added"
    assert adapter.trained_parameters() == adapter.formula_size()


@torch.no_grad()
def test_context_lora_changes_special_tokens_by_one_pair_and_text_by_the_other():
    model = recognizer()
    adapter = model.adapt("context_lora", name="a", where="decoder.*.fc1,decoder.*.encoder_attn.k_proj", rank=2)
    pieces = adapter.by_path()
    assert [len(pieces[f"decoder.layers.0.{leaf}"].a) for leaf in ("fc1", "encoder_attn.k_proj")] == [2, 1]
    features, frames, text = torch.randn(1, 8, 80).double(), torch.tensor([40]), torch.tensor([[3, 4, 5]])
    prompted = torch.cat([torch.tensor([model.prompt(lang="en")]), text], dim=1)

    def moved(tokens, domain):
        for piece in pieces.values():
            piece.b.zero_()
            if len(piece.b) == 2:
                piece.b[domain].normal_()
        plain, changed = (model(features, frames, tokens, route=name).logits for name in (None, "a"))
        return ((plain - changed).abs().amax(-1) > 1e-6)[0].tolist()

    assert moved(text, 0) == [False] * 3 and moved(text, 1) == [True] * 3
    assert moved(prompted, 0)[0] and not moved(prompted, 1)[0], "the start token is no text"


def test_what_spreads_the_work_does_not_count_frames_that_only_pad():
    logits, real = torch.zeros(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    logits[..., 0] = torch.where(real, 9.0, 0.0)
    assert float(imbalance(logits, real)) > 3.9 > float(imbalance(logits))
    model = tiny_recognizer()
    model.adapt("mix_lora", name="x", where="encoder.*.q_proj", lang="en", experts=3, balance=1.0).train()
    features, frames, found = torch.randn(1, model.n_mels, 60), torch.tensor([30]), []
    for padded in (0, 40):
        with collected() as added:
            model(F.pad(features, (0, padded)), frames, route="x")
        found.append(float(sum(added)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
