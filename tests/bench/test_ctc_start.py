"""A head learned in whitened coordinates is an ordinary head on the states themselves."""

import numpy as np
import torch

from asrpeft.adapters.ctc import CTCHead
from scripts.bench.ctc_start import States, character_errors, learn, read_head, whitened, whitening, write_head

TEXTS = ("abc", "cab", "bca", "aab")
MEANS = {"a": 0, "b": 1, "c": 2}


def states(copies: int, seed: int) -> States:
    """Frames that hold one letter each, two of a letter and then silence, in badly scaled coordinates."""
    rng, frames, lengths, texts = np.random.default_rng(seed), [], [], []
    for text in TEXTS * copies:
        rows = []
        for letter in text:
            for _ in range(2):
                rows.append(3.0 * np.eye(6)[MEANS[letter]])
            rows.append(3.0 * np.eye(6)[3])
        one = (np.array(rows) + rng.normal(0, 0.3, (len(rows), 6))) * [1, 1, 1, 1, 100, 0.01] + [0, 0, 0, 0, 50, 0]
        frames.append(one.astype(np.float16))
        lengths.append(len(rows))
        texts.append(text)
    counts = np.array(lengths)
    return States(np.concatenate(frames), np.cumsum(counts) - counts, counts, tuple(texts))


def test_whitened_states_have_mean_zero_and_no_direction_is_blown_up():
    found = states(20, 0)
    white = whitened(found, *whitening(found)).frames.astype(np.float64)
    assert np.abs(white.mean(0)).max() < 0.02
    assert np.linalg.eigvalsh(np.cov(white.T)).max() < 1.05


def test_the_head_reads_the_states_as_they_are():
    head, found = learn(states(20, 0), states(2, 1), ["<blank>", *" abc"], steps=150, lr=3e-2, batch=16, seed=0)
    assert found["dev_cer"] <= 0.2
    assert character_errors(head, states(2, 2)) <= 0.25


def test_a_head_is_written_and_read_to_the_bit(tmp_path):
    head = CTCHead(6, ["<blank>", " ", "á"])
    write_head(head, tmp_path / "head.safetensors", {})
    again = read_head(tmp_path / "head.safetensors")
    assert again.vocabulary == head.vocabulary and torch.equal(again.weight, head.weight) and torch.equal(again.bias, head.bias)
