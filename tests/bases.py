"""Small bases for the tests, made on the spot: Whisper's shape with random weights, and the tokenizers that go with them."""

from __future__ import annotations

import functools
import io
import pickle

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

LANGUAGES = ("en", "de", "sw", "yo")


def tiny_config(*, n_mels: int = 8, width: int = 16, text: int = 60, layers: int = 2, source: int = 1500) -> WhisperConfig:
    """A two-layer Whisper of width 16: ids 0..text-1 are text, then the special tokens in Whisper's order."""
    special = 2 + len(LANGUAGES) + 2 + 4 + 1501
    return WhisperConfig(
        vocab_size=text + special,
        num_mel_bins=n_mels,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_source_positions=source,
        max_target_positions=64,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        bos_token_id=text,
        eos_token_id=text,
        pad_token_id=text,
        decoder_start_token_id=text + 1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def draw_from(seed: int) -> None:
    """`torch.manual_seed` for tests, which draw on the processor alone: for accelerators that were never started it keeps a formatted trace."""
    torch.default_generator.manual_seed(seed)


def tiny_base(seed: int = 0, **shape) -> WhisperForConditionalGeneration:
    """A random tiny base. Its weights are large enough that every layer matters. What is drawn after it follows from the seed, too."""
    made, drawn = _made(seed, tuple(sorted(shape.items())))
    torch.set_rng_state(drawn)
    return made.copy()


class Template:
    """A module that nobody changes, to be copied: a sixth of what `copy.deepcopy` costs, and tests make thousands of bases."""

    def __init__(self, module: torch.nn.Module):
        self.tensors: list[torch.Tensor] = []
        places, file = {}, io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, one, tensors=self.tensors):
                if not isinstance(one, torch.Tensor):
                    return None
                if id(one) not in places:  # kept in `tensors`, so that its id stays its own
                    places[id(one)] = len(tensors)
                    tensors.append(one)
                return places[id(one)]

        Pickler(file, protocol=5).dump(module)
        self.rest = file.getvalue()

    def copy(self) -> torch.nn.Module:
        """A copy with tensors of its own; those that were tied are tied."""
        made: dict[int, torch.Tensor] = {}

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, place, tensors=self.tensors):
                if place not in made:
                    one, tensor = tensors[place], tensors[place].detach().clone()
                    made[place] = torch.nn.Parameter(tensor, one.requires_grad) if isinstance(one, torch.nn.Parameter) else tensor
                return made[place]

        return Unpickler(io.BytesIO(self.rest)).load()


@functools.lru_cache(maxsize=64)
def _made(seed: int, shape: tuple[tuple[str, int], ...]) -> tuple[Template, torch.Tensor]:
    """A base to copy, and where the numbers drawn for it end."""
    draw_from(seed)
    config = tiny_config(**dict(shape))
    base = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if "embed_positions" not in name and "layer_norm" not in name:
                parameter.normal_(std=0.25)
    text = config.eos_token_id
    languages = {f"<|{code}|>": text + 2 + i for i, code in enumerate(LANGUAGES)}
    after = text + 2 + len(LANGUAGES)
    base.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id=languages,
        task_to_id={"translate": after, "transcribe": after + 1},
        no_timestamps_token_id=after + 5,
        decoder_start_token_id=text + 1,
        eos_token_id=text,
        bos_token_id=text,
        pad_token_id=text,
        max_length=64,
        begin_suppress_tokens=None,
        suppress_tokens=None,
        return_timestamps=False,
    )
    return Template(base), torch.get_rng_state()


def tiny_recognizer(seed: int = 0, **shape):
    """A recognizer on a random tiny base, with a tokenizer of single bytes."""
    from asrpeft.recognizer import BaseInfo, Recognizer

    return Recognizer(tiny_base(seed, **shape), ByteTokenizer(), BaseInfo(id="tiny", contexts=("full", "auto"), languages=("en",)))


class ByteTokenizer:
    """Letters as their place in the alphabet: enough for tests that never look at what is said."""

    unk_token, unk_token_id = "<unk>", -1

    def __call__(self, text: str, add_special_tokens: bool = False):
        return type("Ids", (), {"input_ids": [ord(c) % 60 for c in text]})

    def decode(self, tokens, skip_special_tokens: bool = True) -> str:
        return "".join(chr(97 + t % 26) for t in tokens if t < 60)

    def convert_ids_to_tokens(self, ids) -> list[str]:
        return [self.decode([t]) for t in ids]

    def convert_tokens_to_ids(self, text: str) -> int:
        return -1
