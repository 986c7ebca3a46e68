"""Joint decoding: prefix probabilities of the CTC head, and what they change in beam search."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import ctc_loss

from asrpeft.adapters.ctc import CTCHead
from asrpeft.decoding import beam_search
from asrpeft.decoding.joint import NEVER, JointScores, PrefixScores
from asrpeft.errors import BadInput
from asrpeft.options import DecodingOptions
from asrpeft.recognizer import load
from asrpeft.recognizer.load import embedded
from tests.decoding.lively import features, lively_recognizer
from tests.decoding.test_greedy import perturb

NEWER = ["parallel", "encoder_prompt", "lst", "special_token", "dept", "dynamic_prompt", "mam", None]


@pytest.mark.parametrize("weight", [0.0, 0.3], ids=["beams", "joint"])
@torch.no_grad()
def test_rows_with_adapters_at_every_kind_of_place_are_searched_as_those_rows_alone(lively, weight):
    recognizer, _, _ = lively
    for number, name in enumerate(NEWER[:-1]):
        recognizer.adapt(name, name=name)
        perturb(recognizer, name, number)
    try:
        x, frames = features(8, frames=[50, 120, 150, 200, 80, 100, 200, 70])
        options = DecodingOptions(stop_loops=False, beams=3, max_new_tokens=15, ctc_weight=weight)

        def searched(rows):
            names = [NEWER[i] for i in rows]
            with recognizer.route(names):
                encoded = recognizer.encode(x[rows][..., : 2 * int(frames[rows].max())], frames[rows])
            return beam_search(recognizer, encoded, [recognizer.prompt(lang="sw")] * len(rows), adapters=names, options=options)

        together = searched(list(range(8)))
        for i in range(8):
            alone = searched([i])[0]
            assert together[i].tokens == alone.tokens and together[i].logprob == pytest.approx(alone.logprob, abs=1e-4), NEWER[i]
    finally:
        for name in NEWER[:-1]:
            recognizer.adapters.detach(name)


def logprobs(rows: int, frames: int, characters: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, frames, characters, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)


def spelled_by(path) -> tuple[int, ...]:
    return tuple(c for n, c in enumerate(path) if c and (n == 0 or path[n - 1] != c))


def test_prefix_and_whole_probabilities_are_the_sums_over_all_paths():
    table = logprobs(1, 5, 3)
    scores = PrefixScores(table, [5])
    strings = [g for n in range(5) for g in itertools.product((1, 2), repeat=n)]
    scores.compute([(0, g) for g in strings])
    begins, spells = dict.fromkeys(strings, 0.0), dict.fromkeys(strings, 0.0)
    for path in itertools.product(range(3), repeat=5):
        p = float(table[0, range(5), path].sum().exp())
        said = spelled_by(path)
        for g in strings:
            begins[g] += p * (said[: len(g)] == g)
            spells[g] += p * (said == g)
    for g in strings:
        if begins[g] == 0:
            assert scores(0, g) <= -1e29
        else:
            assert scores(0, g) == pytest.approx(torch.tensor(begins[g]).log().item(), abs=1e-5)
        if spells[g] > 0:
            assert scores.whole(0, g) == pytest.approx(torch.tensor(spells[g]).log().item(), abs=1e-5)


def test_whole_probabilities_equal_torch_ctc_loss_on_long_audio_and_silence_after_the_end_changes_nothing():
    table = logprobs(2, 400, 30, seed=1)
    text = tuple(torch.randint(1, 30, (60,), generator=torch.Generator().manual_seed(2)).tolist())
    text = (*text[:10], text[9], *text[10:])  # an equal pair needs a blank between
    for n in (400, 250):
        scores = PrefixScores(table, [400, n])
        scores.compute([(1, text)])
        expected = -ctc_loss(table[1:2, :n].transpose(0, 1), torch.tensor([text]), [n], [len(text)], reduction="sum")
        assert scores.whole(1, text) == pytest.approx(float(expected), rel=1e-5)


def test_a_string_longer_than_the_audio_is_impossible():
    scores = PrefixScores(logprobs(1, 3, 4), [3])
    scores.compute([(0, (1, 2, 3, 1))])
    assert scores.whole(0, (1, 2, 3, 1)) <= NEVER / 2


@pytest.fixture(scope="module")
def lively():
    recognizer, (x, frames) = lively_recognizer(3), features()
    torch.manual_seed(5)
    letters = sorted({c for c in recognizer.decode_text(range(recognizer.end)) if c.isprintable() and c != "\ufffd"} | {" "})
    recognizer.ctc = CTCHead(recognizer.base.config.d_model, ["<blank>", *letters])
    return recognizer, x, frames


def search(recognizer, x, frames, adapters=None, **result):
    with recognizer.route(adapters), torch.no_grad():
        encoded = recognizer.encode(x, frames)
    return beam_search(
        recognizer, encoded, [recognizer.prompt(lang="sw")] * len(x), adapters=adapters, options=DecodingOptions(stop_loops=False, max_new_tokens=12, **result)
    )


def test_hardly_any_weight_is_beam_search(lively):
    for ours, theirs in zip(search(*lively, beams=3, ctc_weight=1e-12), search(*lively, beams=3)):
        assert ours.tokens == theirs.tokens and ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_a_tokens_probability_is_its_share_of_the_vote_over_the_tokens_that_were_looked_at(lively):
    recognizer, x, frames = lively
    assert all(one.joint_logprobs == () for one in search(*lively, beams=3))
    # Hardly any vote: the decoder's own probabilities, among the four tokens that it likes best and the end.
    for row, one in enumerate(search(*lively, beams=1, ctc_weight=1e-12)):
        with torch.no_grad():
            encoded = recognizer.encode(x[row : row + 1], frames[row : row + 1])
            result = torch.tensor([[*recognizer.prompt(lang="sw"), *one.tokens]])
            logits = recognizer.decode(encoded, result)[0][0, len(recognizer.prompt(lang="sw")) - 1 :].float()
        wanted = [*one.tokens, recognizer.end][: len(one.token_logprobs)]
        assert len(one.joint_logprobs) == len(one.token_logprobs) > 3
        for step, (token, share) in enumerate(zip(wanted, one.joint_logprobs)):
            looked_at = sorted({*logits[step].topk(4).indices.tolist(), recognizer.end})
            assert share == pytest.approx(float(logits[step, token] - logits[step, looked_at].logsumexp(0)), abs=1e-3)
    voted, alone = (search(*lively, beams=3, ctc_weight=weight)[0] for weight in (0.5, 1e-12))
    assert voted.joint_logprobs[:1] != pytest.approx(alone.joint_logprobs[:1], abs=1e-3)


def test_weight_makes_transcripts_that_the_head_finds_likelier(lively):
    recognizer, x, frames = lively

    def opinion(found) -> float:
        with torch.no_grad():
            states = recognizer.encode(x, frames).states
        table = recognizer.ctc(states).detach()
        total = 0.0
        for row, one in enumerate(found):
            labels = recognizer.ctc.labels(one.text.lower().strip())
            total += -float(
                ctc_loss(table[row, : frames[row]][:, None], torch.tensor([labels]), [int(frames[row])], [len(labels)], reduction="sum", zero_infinity=True)
            )
        return total

    assert opinion(search(*lively, beams=4, ctc_weight=0.7)) > opinion(search(*lively, beams=4)) + 1


def test_a_row_of_a_mixed_batch_is_searched_as_that_row_alone_with_its_own_head(lively):
    recognizer, _, _ = lively
    recognizer.adapt("lora", name="own", where="encoder,decoder")
    perturb(recognizer, "own", 1)
    recognizer.adapters["own"].ctc = CTCHead(recognizer.base.config.d_model, ["<blank>", " ", *"abcdefghij"])
    try:
        adapters, contexts = ["own", None, "own"], [60, 120, 150]
        x, frames = features(3, frames=contexts)
        together = search(recognizer, x, frames, adapters, beams=3, ctc_weight=0.4)
        for i, name in enumerate(adapters):
            alone = search(recognizer, x[i : i + 1], frames[i : i + 1], [name], beams=3, ctc_weight=0.4)[0]
            assert together[i].tokens == alone.tokens and together[i].logprob == pytest.approx(alone.logprob, abs=1e-4)
    finally:
        recognizer.adapters.detach("own")


def test_without_a_head_joint_decoding_is_refused():
    recognizer, (x, frames) = lively_recognizer(3), features()
    with pytest.raises(BadInput, match=r"no CTC head.*--loss ce\+0.3\*ctc"):
        search(recognizer, x, frames, beams=2, ctc_weight=0.3)


@pytest.mark.parametrize("values", [{"ctc_weight": 1.1}, {"ctc_weight": -0.1}, {"ctc_weight": 0.3, "temperature": 0.5}])
def test_weights_that_mean_nothing_are_refused(values):
    with pytest.raises(BadInput, match="--ctc-weight"):
        DecodingOptions(stop_loops=False, **values)


@pytest.mark.skipif(embedded() is None, reason="data/mini is not in this checkout")
def test_text_bytes_spell_what_the_tokenizer_decodes():
    recognizer = load(None)
    tokens = recognizer.encode_text(" žluťoučký kůň says hello")
    assert recognizer.text_bytes(tokens).decode() == recognizer.decode_text(tokens) == " žluťoučký kůň says hello"
    assert recognizer.text_bytes([recognizer.start, recognizer.end]) == b""


def test_letters_that_the_head_does_not_know_cost_a_blind_guess_and_marks_nothing(lively):
    recognizer, x, frames = lively
    known = recognizer.ctc
    recognizer.ctc = CTCHead(recognizer.base.config.d_model, ["<blank>", " ", "a"])
    try:
        encoded = recognizer.encode(x[:1], frames[:1])
        joint = JointScores(recognizer, encoded, [recognizer.prompt(lang="sw")], [None], weight=0.5)
        tokens = {recognizer.decode_text([t]): t for t in range(recognizer.end)}
        scores = torch.full((1, recognizer.base.config.vocab_size), -50.0)
        scores[0, [tokens["z"], tokens["a"]]] = 0.0
        mixed, after = joint.mix([0], [joint.start(0)], scores, beams=2)
        assert after[0][tokens["z"]].strange == 1 and after[0][tokens["a"]].strange == 0
        assert float(mixed[0, tokens["z"]].detach()) == pytest.approx(-0.5 * torch.tensor(3.0).log().item())
    finally:
        recognizer.ctc = known
