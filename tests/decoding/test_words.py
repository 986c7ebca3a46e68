"""When words were said: by CTC alignment, else by their share of the letters."""

from __future__ import annotations

import pytest
import torch

from asrpeft.adapters.ctc import BLANK, CTCHead
from asrpeft.decoding.words import Word, align, spread


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
    assert [(w.text, w.start, w.end) for w in words] == [("hi", pytest.approx(0.06), pytest.approx(0.12)), ("you", pytest.approx(0.24), pytest.approx(0.36))]
    assert all(0.9 < w.probability <= 1 for w in words)


def test_capitals_and_unspeakable_words_find_their_place():
    head, states = head_and_states(list("___h_i___ ______you____"))
    words = align(head, states, "Hi 42 You 7")
    assert [w.text for w in words] == ["Hi", "42", "You", "7"]
    assert [w.probability is None for w in words] == [False, True, False, True]
    times = [t for w in words for t in (w.start, w.end)]
    assert times == sorted(times) and words[-1].end == pytest.approx(len(states) / 50)
    several = align(head, states, "1 2 Hi you")
    assert several[0].start == 0 and several[0].end == several[1].start < several[2].start


def test_a_text_that_does_not_fit_is_not_aligned():
    head, states = head_and_states(list("_hi_"))
    assert align(head, states, "hi to all of you") is None
    assert align(head, states, "42") is None and align(head, states, "") is None


def test_spread_gives_words_their_share_of_the_letters():
    words = spread(" a bcd ", 1.0, 4.0)
    assert [(w.text, w.start, w.end) for w in words] == [("a", 1.0, 2.0), ("bcd", 2.0, 4.0)]
    assert spread("  ", 0, 1) == () and words[0].probability is None
    assert Word("a", 1, 2).later(0.5) == Word("a", 1.5, 2.5)
