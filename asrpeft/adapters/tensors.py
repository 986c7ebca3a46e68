"""Reading safetensors files that anyone may have written: no pickle, and no more memory than the file is long."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

HEADER_BYTES = 8 << 20  # a header takes about 100 bytes a tensor, and in Python a kilobyte: 80,000 of them are enough


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises: ValueError, saying why, for what is no such file, is damaged, or holds something that no adapter holds.
    """
    try:
        if not path.is_file():
            raise ValueError("it is not there" if not path.exists() else "it is not a file")
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > HEADER_BYTES:
            raise ValueError(f"its header has {header:,} bytes; at most {HEADER_BYTES:,} are read")
        return load_file(path)
    except ValueError:
        raise
    except Exception as error:  # a SafetensorError, and what PyTorch makes of dtypes and shapes that it does not have
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from None


def not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """The names of those that hold anything but finite numbers. (Whole numbers are: masks and indices that a method keeps.)"""
    return [name for name, t in tensors.items() if t.is_complex() or (t.is_floating_point() and not bool(t.float().isfinite().all()))]
