"""When words were said: by CTC alignment, else by the decoder's attention, else by their share of the letters."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter

from asrpeft.adapters.ctc import BLANK, CTCHead
from asrpeft.decoding import make_row
from asrpeft.decoding.attention import attend, attention_to_audio, warp, word_starts
from asrpeft.decoding.batch import decode_aligned, text_prefix, word_times_of
from asrpeft.decoding.words import Word, align, from_onsets, spread, without_pauses
from asrpeft.options import DecodingOptions
from tests.decoding.lively import features, lively_recognizer


def head_and_states(frames: list[str]) -> tuple[CTCHead, torch.Tensor]:
    """A head that hears the given character on each frame."""
    vocabulary = [BLANK, *" abcdefghijklmnopqrstuvwxyz"]
    head = CTCHead(len(vocabulary), vocabulary)
    with torch.no_grad():
        head.weight.copy_(torch.eye(len(vocabulary)) * 10)
    return head, torch.eye(len(vocabulary))[[head.index.get(c, 0) for c in frames]]


def test_words_lie_where_their_characters_are_heard():
    head, states = head_and_states(list("___h_i___ __yy_oou____"))
    words = align(head, states, "hi you")
    assert [(w.text, w.start, w.end) for w in words] == [
        ("hi", pytest.approx(0.06), pytest.approx(0.12)),
        ("you", pytest.approx(0.24), pytest.approx(0.36)),
    ]
    assert all(w.probability is None for w in words)  # the head only says when: who wrote the text says how sure it was


def test_capitals_and_unspeakable_words_find_their_place():
    head, states = head_and_states(list("___h_i___ ______you____"))
    words = align(head, states, "Hi 42 You 7")
    assert [w.text for w in words] == ["Hi", "42", "You", "7"]
    times = [t for w in words for t in (w.start, w.end)]
    assert times == sorted(times) and words[-1].end == pytest.approx(len(states) / 50)
    several = align(head, states, "1 2 Hi you")
    assert several[0].start == 0 and several[0].end == several[1].start < several[2].start


def test_a_text_that_does_not_fit_is_not_aligned():
    head, states = head_and_states(list("_hi_"))
    assert align(head, states, "hi to all of you") is None
    assert align(head, states, "42") is None and align(head, states, "") is None


def test_words_of_a_ctc_head_begin_before_their_first_letter_is_named_but_not_within_another():
    words = (Word("so", 0.04, 0.2), Word("it", 0.5, 0.6), Word("goes", 0.62, 0.9))
    assert [(w.start, w.end) for w in from_onsets(words)] == [(0.0, 0.2), (pytest.approx(0.44), 0.6), (0.6, 0.9)]
    overlapping = (Word("a", 0.0, 0.5), Word("b", 0.4, 0.6))  # which no path gives: nothing is made worse
    assert [w.start for w in from_onsets(overlapping)] == [0.0, 0.4]


@pytest.mark.parametrize("noise", [0.0, 1e-3, 2e-2])
def test_words_begin_where_it_gets_loud_and_end_where_they_did(noise):
    samples = np.random.default_rng(0).normal(size=32_000) * noise
    for start, end in ((0.4, 0.7), (1.3, 1.8)):
        samples[int(16_000 * start) : int(16_000 * end)] += np.sin(np.arange(round(16_000 * (end - start))) / 5) * 0.3
    words = without_pauses((Word("one", 0.0, 0.72), Word("two", 0.72, 1.84)), samples.astype(np.float32))
    assert [(w.start, w.end) for w in words] == [(pytest.approx(0.4), 0.72), (pytest.approx(1.3), 1.84)]


def test_words_that_begin_with_their_sound_stay_as_do_those_in_silence_or_of_no_length():
    samples = np.sin(np.arange(16_000) / 5).astype(np.float32)
    words = (Word("a", 0.0, 0.5), Word("b", 0.5, 0.5), Word("c", 0.5, 1.4))
    assert without_pauses(words, samples) == words
    assert without_pauses(words, np.zeros(16_000, np.float32)) == words and without_pauses(words, np.zeros(0, np.float32)) == words


def test_spread_gives_words_their_share_of_the_letters():
    words = spread(" a bcd ", 1.0, 4.0)
    assert [(w.text, w.start, w.end) for w in words] == [("a", 1.0, 2.0), ("bcd", 2.0, 4.0)]
    assert spread("  ", 0, 1) == () and words[0].probability is None
    assert Word("a", 1, 2).later(0.5) == Word("a", 1.5, 2.5)


def test_attention_is_that_of_the_alignment_heads_as_transformers_computes_it():
    recognizer, (x, frames) = lively_recognizer(1), features(1)
    recognizer.generation.alignment_heads = [[0, 1], [1, 0]]
    tokens = [*recognizer.prompt(lang="sw"), 1, 2, 3, 4, 5, recognizer.end]
    with torch.no_grad():
        encoded = recognizer.encode(x, frames)
        ours = attention_to_audio(recognizer, encoded, tokens, adapter=None, n_frames=150)
        plain = copy.deepcopy(recognizer.base)
        plain.set_attn_implementation("eager")
        weights = plain.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=encoded.states, output_attentions=True).cross_attentions
    scores = torch.stack([weights[0][0, 1], weights[1][0, 0]])[..., :150]
    scores = scores / scores.sum(-1, keepdim=True)  # the frames after the sound are left out before the softmax
    want = median_filter(
        ((scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True, unbiased=False)).numpy(),
        size=(1, 1, 7),
        mode="mirror",
    ).mean(0)
    np.testing.assert_allclose(ours.numpy(), want, atol=2e-3)
    recognizer.generation.alignment_heads = None
    assert attention_to_audio(recognizer, encoded, tokens, adapter=None, n_frames=150) is None


def test_the_path_follows_the_attention():
    a = np.full((4, 40), -1.0)
    for token, (first, last) in enumerate([(0, 5), (5, 17), (17, 30), (30, 40)]):
        a[token, first:last] = 1.0
    assert warp(a).tolist() == [0, 5, 17, 30]


def test_words_begin_with_the_token_that_writes_their_first_letter():
    recognizer = lively_recognizer(0)
    pieces = {0: " ha", 1: "ba", 2: "ri", 3: " ya", 4: " ", 5: "asu", 6: "buhi"}
    recognizer.decode_text = lambda tokens: "".join(pieces.get(t, "") for t in tokens)
    assert word_starts(recognizer, [0, 1, 2, 99, 3, 4, 5, 6]) == [0, 4, 6]
    assert word_starts(recognizer, [99, 4]) == []


def test_without_a_ctc_head_words_are_timed_by_attention(monkeypatch):
    recognizer, (x, frames) = lively_recognizer(1), features(1)
    recognizer.generation.alignment_heads = [[0, 0]]
    pieces = {0: " ha", 1: "ba", 2: "ri", 3: " ya", 4: " ", 5: "asu", 6: "buhi"}
    monkeypatch.setattr(type(recognizer), "decode_text", lambda self, tokens: "".join(pieces.get(t, "") for t in tokens))
    prompt, tokens, seen = recognizer.prompt(lang="sw"), [0, 1, 2, 3, 4, 5, 6], []

    def walk(recognizer, encoded, whole, *, adapter, n_frames):
        seen.append((whole, adapter, n_frames))
        a = torch.full((len(whole), 160), -1.0)
        for i in range(len(tokens) + 1):  # the row that writes token i looks at frames 20·i …
            a[len(prompt) - 1 + i, 20 * i : 20 * i + 20] = 1.0
        return a

    monkeypatch.setattr("asrpeft.decoding.attention.attention_to_audio", walk)
    with torch.no_grad():
        words = attend(recognizer, recognizer.encode(x, frames), prompt, tokens, adapter=None, n_frames=160)
    assert [(w.text, w.start, w.end) for w in words] == [("habari", 0.0, 1.2), ("ya", 1.2, 2.0), ("asubuhi", 2.0, 2.8)]
    assert seen == [([*prompt, *tokens, recognizer.end], None, 160)]


def test_words_after_committed_ones_do_not_begin_with_the_audio(monkeypatch):
    """Committed words were said in the same audio: the path goes through them before it comes to the new ones."""
    recognizer = lively_recognizer(1)
    recognizer.generation.alignment_heads = [[0, 0]]
    pieces = {0: " ha", 1: "ba", 2: "ri", 3: " ya", 4: " ", 5: "asu", 6: "buhi"}
    monkeypatch.setattr(type(recognizer), "decode_text", lambda self, tokens: "".join(pieces.get(t, "") for t in tokens))
    monkeypatch.setattr(type(recognizer), "encode_text", lambda self, text: [0, 1, 2] if text == " habari" else [])
    row = make_row(recognizer, np.ones(51_200, np.float32), lang="sw")
    begun = len(row.prompt)

    def walk(recognizer, encoded, whole, *, adapter, n_frames):
        a = torch.full((len(whole), n_frames), -1.0)
        for i in range(len(whole) - begun + 1):
            a[begun - 1 + i, 20 * i : 20 * i + 20] = 1.0
        return a

    monkeypatch.setattr("asrpeft.decoding.attention.attention_to_audio", walk)
    found = SimpleNamespace(tokens=(3, 4, 5, 6), text=" ya asubuhi")
    words = word_times_of(recognizer, text_prefix(recognizer, row, "habari"), None, found)
    assert [(w.text, w.start, w.end) for w in words] == [("ya", 1.2, 2.0), ("asubuhi", 2.0, 2.8)]
    assert word_times_of(recognizer, text_prefix(recognizer, row, "habari"), None, SimpleNamespace(tokens=(), text="")) == ()


def test_attention_times_work_under_every_adapter_that_changes_the_decoders_input():
    recognizer, (x, frames) = lively_recognizer(1), features(1)
    recognizer.generation.alignment_heads = [[0, 1], [1, 0]]
    recognizer.adapt("prompt", name="prompt", tokens=5)
    recognizer.adapt("lora", name="lora", where="decoder")
    tokens = [*recognizer.prompt(lang="sw"), 1, 2, 3, recognizer.end]
    with torch.no_grad():
        recognizer.adapters["lora"].pieces["decoder/layers/0/encoder_attn/q_proj"].b.normal_()
        encoded = recognizer.encode(x, frames)
    found = {name: attention_to_audio(recognizer, encoded, tokens, adapter=name, n_frames=200) for name in (None, "prompt", "lora")}
    assert all(a.shape == (len(tokens), 200) for a in found.values())
    assert not torch.allclose(found[None], found["lora"]) and not torch.allclose(found[None], found["prompt"])


def test_a_row_that_ran_to_its_limit_beside_virtual_tokens_has_word_times(monkeypatch):
    recognizer = lively_recognizer()
    recognizer.generation.alignment_heads = [[0, 0], [1, 1]]
    recognizer.adapt("prompt", name="p", lang="sw", context="auto")
    row = make_row(recognizer, np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1, adapter="p")
    ((found, words),) = decode_aligned(recognizer, [row], options=DecodingOptions(stop_loops=False, suppress=(recognizer.end,)))
    assert not found.finished and [word.text for word in words] == found.text.split()


def test_sessions_in_threads_do_not_spoil_each_others_times():
    recognizer, (x, frames) = lively_recognizer(), features(2)
    recognizer.generation.alignment_heads = [[0, 0], [1, 1]]
    with torch.no_grad():
        encoded = [recognizer.encode(x[i : i + 1], frames[i : i + 1]) for i in range(2)]
    tokens = [[1, 2, 3], list(range(4, 20))]

    def ask(i):
        return attention_to_audio(recognizer, encoded[i], tokens[i], adapter=None, n_frames=50)

    alone = [ask(i) for i in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(ask, [0, 1] * 60)):
            torch.testing.assert_close(found, alone[i % 2])
