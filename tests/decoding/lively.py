"""Random bases that write something worth comparing: rows that differ from each other and end at different lengths."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from asrpeft.decoding.greedy import greedy
from asrpeft.recognizer import Recognizer
from tests.bases import draw_from, tiny_recognizer


def features(rows: int = 6, *, mels: int = 8, seed: int = 1, frames: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """(rows, mels, 2·T) noise of growing loudness, and contexts; full ones unless given."""
    noise = torch.randn(rows, mels, 400, generator=torch.Generator().manual_seed(seed))
    contexts = torch.full((rows,), 200) if frames is None else torch.tensor(list(frames))
    return noise[..., : 2 * int(contexts.max())] * torch.linspace(0.2, 3.0, rows)[:, None, None], contexts


def lively_recognizer(seed: int = 0, *, source: int = 200, **shape) -> Recognizer:
    """`tiny_recognizer` with weights that make the text depend on the audio and the position, and with an end token
    that rows reach at different steps."""
    weights, drawn = _lively(seed, source, tuple(sorted(shape.items())))
    recognizer = tiny_recognizer(seed, source=source, **shape)
    recognizer.base.load_state_dict(weights)
    torch.set_rng_state(drawn)
    return recognizer


@functools.lru_cache(maxsize=32)
def _lively(seed: int, source: int, shape: tuple[tuple[str, int], ...]) -> tuple[dict[str, Tensor], Tensor]:
    """The weights of such a recognizer, and where the numbers drawn for them end: it decodes to find its end token."""
    recognizer = tiny_recognizer(seed, source=source, **dict(shape))
    decoder = recognizer.base.model.decoder
    with torch.no_grad():
        draw_from(seed)
        decoder.embed_positions.weight.normal_(std=1.5)
        drawn = torch.get_rng_state()
        decoder.embed_tokens.weight[recognizer.end + 1 :] *= 0.2
        for layer in decoder.layers:
            layer.encoder_attn.v_proj.weight *= 6
            layer.encoder_attn.q_proj.weight *= 3
        x, frames = features()
        texts = [list(h.tokens) for h in greedy(recognizer, recognizer.encode(x, frames), [recognizer.prompt(lang="sw")] * len(x))]
        firsts = {token: [text.index(token) if token in text else 99 for text in texts] for token in range(recognizer.end)}
        spread = {token: len(set(places)) * (min(places) > 3) for token, places in firsts.items()}
        chosen = max(spread, key=spread.get)
        table = decoder.embed_tokens.weight
        table[[chosen, recognizer.end]] = table[[recognizer.end, chosen]]
    return {name: tensor.clone() for name, tensor in recognizer.base.state_dict().items()}, drawn


def generated(recognizer: Recognizer, x: Tensor, *, lang: str = "sw", **options) -> list[list[int]]:
    """What `transformers` writes after the prompt, without the end token."""
    prompt = recognizer.prompt(lang=lang, timestamps=options.get("return_timestamps", False))
    out = recognizer.base.generate(x, language=lang, task="transcribe", force_unique_generate_call=True, **options).tolist()
    assert all(row[: len(prompt)] == prompt for row in out)
    texts = [row[len(prompt) :] for row in out]
    return [row[: row.index(recognizer.end)] if recognizer.end in row else row for row in texts]


def looping_recognizer() -> Recognizer:
    """A base that writes the same token for ever: it knows no positions, hears no audio, and must not end."""
    recognizer = lively_recognizer(0)
    with torch.no_grad():
        recognizer.base.model.decoder.embed_positions.weight.zero_()
        for layer in recognizer.base.model.decoder.layers:
            layer.encoder_attn.out_proj.weight.zero_()
    recognizer.generation.suppress_tokens = [recognizer.end]
    return recognizer
