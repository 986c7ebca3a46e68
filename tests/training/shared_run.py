"""A run that saves its weights, for one process or several: … tests/training/shared_run.py FILE."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from asrpeft.training import Choice, TrainingData, train
from tests.bases import tiny_recognizer
from tests.training.tones import options, tones


def run() -> dict[str, torch.Tensor]:
    recognizer = tiny_recognizer()
    torch.manual_seed(3 + Accelerator().process_index)  # the others must take over the first one's start
    adapter = recognizer.adapt("lora", name="x", lang="en", where="attention,conv")
    settings = options(steps=4, lr=0.01, augment="standard")
    train(recognizer, "x", TrainingData(tones(7), recognizer.prompt(lang="en")), options=settings, choice=Choice(tones(3)))
    return {n: t.detach().clone() for n, t in adapter.state_dict().items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    weights = run()
    save_file(weights, Path(sys.argv[1]) / f"{Accelerator().process_index}-of-{Accelerator().num_processes}.safetensors")
