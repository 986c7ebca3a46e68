"""Learn the token table of a Whisper checkpoint that lacks it, everything else frozen; for measuring only, never shipped.

    python -m scripts.bench.relearn_tokens FOLDER --speech DIR --out runs/tokens --utterances 8000 --steps 2000

A Whisper's token table E (vocabulary, dim) is what its decoder reads and, tied, what it writes with. Where a checkpoint has all but
that, its blocks still say what they expect: E is learned by teacher forcing through the frozen decoder, on encoder states that
are computed once.

    logits = E h_t      loss = Σ −log softmax(E h_t)[y_t]      h_t = decoder(E y_<t, states)

Only rows of tokens that occur in the training texts are learned; the others stay zero, and take part in the softmax as such (each
has logit 0), so that the loss is that of the whole table. Speech: English sentences from the project's own synthesizer
(`scripts.mini`) and the adults of speechocean762's training part (Zhang et al., 2021, arXiv:2104.01378) in a few augmented copies, a tenth
of whose speakers are held out for the cross-entropy; WER is on its test part, whose speakers nobody was trained on.

Everything lies in --out: states (half precision; shards that are there are not made again), table.safetensors after every `--save`
steps with the state of Adam, and best.safetensors, the table whose held-out cross-entropy was lowest, with which the test is done. The same command
goes on from there to the same table. At the end the whole recognizer is there as model/, a checkpoint that every verb of asrpeft takes, to
measure with (`real_decoder.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from asrpeft import load
from asrpeft.adapters.export import export_base
from asrpeft.audio.features import SAMPLE_RATE, log_mel
from asrpeft.corpus import Corpus
from asrpeft.files import replace_file
from asrpeft.jobs.evaluate import evaluate
from asrpeft.options import DecodingOptions, TrainingOptions
from asrpeft.recognizer import IGNORED, Encoded, Recognizer, context_frames
from asrpeft.training.examples import Examples, TrainingData
from asrpeft.training.precision import autocast, has_bf16
from scripts.bench.ctc_start import DEV_SHARE
from scripts.bench.real_encoder import TASKS, part
from scripts.mini import sound, voices
from scripts.mini.render import MAX_SECONDS, surround, trim
from scripts.mini.texts import Texts
from scripts.synthesis import SynthesisError

SHARD = 200  # utterances in a file of states
BEAMS = 4  # of the second test: one row that loops for its whole length says little of the table, and weighs as much as thirty others
START = 0.005  # deviation of a fresh row: the cross-entropy begins at log V, 11 nats; at 0.02, where its logits are large, at 16 to 22
WARMUP = 0.1  # of the steps, without which, or at a rate of 4e-3, the loss rises again after the first: the states that E writes from are large
TABLE, BEST, MODEL = "table.safetensors", "best.safetensors", "model"
Clip = tuple[np.ndarray, str]  # samples (n,) float32 at 16 kHz, and what is said


# -- what is said ---------------------------------------------------------------------------------------------------------------
def english(style: Sequence[str]) -> Texts:
    """What the synthesizers say: sentences of the system's texts, and made ones in the style (and with the words) of `style`."""
    texts = Texts(0, style)
    if "en" in texts.missing():
        print(
            "The system has no English texts: only generated sentences are said, with few words. On Debian: apt-get install fortunes fortune-mod.",
            file=sys.stderr,
        )
    return texts


def synthesized(n: int, seed: int, texts: Texts) -> Iterator[Clip]:
    """English sentences by the synthesizers and voices that `data/mini` is trained with, half of them disturbed."""
    rng, numbers, babble = random.Random(seed), np.random.default_rng(seed), deque[np.ndarray](maxlen=20)
    made = 0
    while made < n:
        text = texts.train("en", rng, 0.1)
        try:
            samples, _ = voices.say(text, "en", rng)
        except SynthesisError:
            continue  # a voice that is not installed: the next one may be
        samples = surround(trim(samples), numbers)[0]
        if not 0.3 * SAMPLE_RATE <= len(samples) <= MAX_SECONDS * SAMPLE_RATE:
            continue
        babble.append(samples)
        yield sound.degrade(samples, numbers, list(babble), strength=1.0 if rng.random() < 0.5 else 0.0).astype(np.float32), text
        made += 1


def recorded(recognizer: Recognizer, corpus: Corpus, epoch: int | None, seed: int) -> Iterator[Clip]:
    """A corpus as training hears it in `epoch`; None: as it was recorded."""
    augmentation = None if epoch is None else TrainingOptions(seed=seed).augmentation()
    examples = Examples(TrainingData(corpus, recognizer.prompt(lang="en")), recognizer, context="auto", seed=seed, augmentation=augmentation)
    for row, utterance in enumerate(examples.corpus):
        samples = examples.samples(row)
        changed = samples if augmentation is None or epoch is None else augmentation.samples(samples, utterance.id, epoch)
        yield np.asarray(changed, np.float32), utterance.text


# -- encoder states, computed once --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shards:
    """States of many utterances. `frames`: one array a file, (all frames, dim); `rows`: (file, first frame, frames, text) of each."""

    frames: tuple[np.ndarray, ...]
    rows: tuple[tuple[int, int, int, str], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Shards:
        rows, frames = [], []
        for number, path in enumerate(paths):
            frames.append(np.load(path, mmap_mode="r"))
            first = 0
            for n, text in json.loads(path.with_suffix(".json").read_text(encoding="utf-8")):
                rows.append((number, first, n, text))
                first += n
        return cls(tuple(frames), tuple(rows))

    def batch(self, chosen: Sequence[int], device: torch.device | str = "cpu") -> Encoded:
        states = [torch.from_numpy(np.asarray(self.frames[file][first : first + n], np.float32)) for file, first, n, _ in (self.rows[i] for i in chosen)]
        lengths = torch.tensor([len(one) for one in states])
        inside = torch.arange(int(lengths.max())) < lengths[:, None]
        return Encoded(torch.nn.utils.rnn.pad_sequence(states, batch_first=True).to(device), lengths, inside.to(device))


@torch.no_grad()
def write_states(recognizer: Recognizer, clips: Iterator[Clip], path: Path) -> Path:
    """The states of a shard's clips, in an array and a list of (frames, text); nothing where they are there."""
    if path.with_suffix(".json").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    parts, told = [], []
    for samples, text in clips:
        n = context_frames(len(samples), "auto")
        features = log_mel(torch.from_numpy(samples), n_mels=recognizer.n_mels, n_frames=2 * n)
        with autocast("auto", recognizer.device, recognizer.dtype):
            states = recognizer.encode(features[None], torch.tensor([n])).states[0]
        parts.append(states.float().cpu().numpy().astype(np.float16))
        told.append([n, text])
    np.save(path, np.concatenate(parts))
    path.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")  # last: it says that the array is whole
    return path


# -- the table ----------------------------------------------------------------------------------------------------------------------
class Learner:
    """The table under training, and the frozen decoder that it is learned through.

    Attributes:
        known: ids of the tokens that are learned, in order; table: (known, dim), their rows.
        step: optimizer steps taken.
    """

    def __init__(self, recognizer: Recognizer, texts: Sequence[str], *, seed: int):
        self.recognizer, self.seed, self.step = recognizer, seed, 0
        self.prompt = recognizer.prompt(lang="en")
        self.tokens = {text: tuple(recognizer.encode_text(" " + text)) for text in dict.fromkeys(texts)}
        self.known = sorted({token for tokens in self.tokens.values() for token in tokens} | {*self.prompt, recognizer.end})
        self.place = {token: place for place, token in enumerate(self.known)}
        self.missing = recognizer.base.config.vocab_size - len(self.known)
        torch.manual_seed(seed)
        dim = recognizer.base.config.d_model
        self.table = (torch.randn(len(self.known), dim) * START).to(recognizer.device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.table], betas=(0.9, 0.98))

    def targets(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(inputs, labels) (rows, tokens) as places in `known`; a token that was never seen in training is no target."""
        end, rows = self.place[self.recognizer.end], []
        for text in texts:
            tokens = self.tokens.get(text) or self.recognizer.encode_text(" " + text)
            rows.append([self.place.get(token, -1) for token in (*self.prompt, *tokens)])
        longest = max(map(len, rows))
        inputs = torch.tensor([[max(0, place) for place in row] + [end] * (longest - len(row)) for row in rows])
        wanted = [[IGNORED] * (len(self.prompt) - 1) + row[len(self.prompt) :] + [end] + [IGNORED] * (longest - len(row)) for row in rows]
        return inputs, torch.tensor([[place if place >= 0 else IGNORED for place in row] for row in wanted])

    def loss(self, encoded: Encoded, texts: Sequence[str], *, replaced: float = 0.0, rng: np.random.Generator | None = None) -> tuple[Tensor, int]:
        """(summed cross-entropy over the whole vocabulary, targets).

        `replaced`: of the tokens that the decoder reads, so many are others, drawn by `rng`: what was said before is then no sure sign of what
        comes, and the few sentences are not learned by heart.
        """
        inputs, labels = self.targets(texts)
        if replaced and rng is not None:
            others = torch.from_numpy(rng.integers(0, len(self.known), inputs.shape))
            change = torch.from_numpy(rng.random(inputs.shape) < replaced)
            change[:, : len(self.prompt)] = False
            inputs = torch.where(change, others, inputs)
        inputs, labels = inputs.to(self.recognizer.device), labels.to(self.recognizer.device)
        decoder = self.recognizer.base.model.decoder
        with autocast("auto", self.recognizer.device, self.recognizer.dtype), self.recognizer.adapters.ambient.set(cross_mask=encoded.cross_mask):
            hidden = decoder(inputs_embeds=F.embedding(inputs, self.table), encoder_hidden_states=encoded.states, use_cache=False).last_hidden_state
        kept = labels != IGNORED
        logits = hidden[kept].float() @ self.table.T
        # The rows that are zero: each has logit 0, and all of them together log(missing).
        rest = logits.new_full((len(logits), 1), math.log(self.missing) if self.missing else -math.inf)
        return F.cross_entropy(torch.cat([logits, rest], 1), labels[kept], reduction="sum"), int(kept.sum())

    def take_step(self, data: Shards, *, batch: int, lr: float, total: int, replaced: float = 0.0) -> float:
        """One optimizer step over rows drawn by (seed, step); the loss a token."""
        rng = np.random.default_rng((self.seed, self.step))
        chosen = rng.integers(0, len(data), batch).tolist()
        summed, n = self.loss(data.batch(chosen, self.recognizer.device), [data.rows[i][3] for i in chosen], replaced=replaced, rng=rng)
        share = min(1.0, (self.step + 1) / max(1.0, WARMUP * total)) * (1 + math.cos(math.pi * self.step / total)) / 2
        self.optimizer.param_groups[0]["lr"] = lr * share
        self.optimizer.zero_grad()
        (summed / n).backward()
        self.optimizer.step()
        self.step += 1
        return float(summed.detach()) / n

    @torch.no_grad()
    def cross_entropy(self, data: Shards, *, batch: int = 48) -> float:
        """Nats a token of held-out speech."""
        summed = n = 0.0
        for first in range(0, len(data), batch):
            chosen = range(first, min(first + batch, len(data)))
            part, count = self.loss(data.batch(chosen, self.recognizer.device), [data.rows[i][3] for i in chosen])
            summed, n = summed + float(part), n + count
        return summed / n

    # -- on disk --
    def save(self, path: Path) -> None:
        state = self.optimizer.state.get(self.table, {})
        tensors = {"table": self.table.detach().cpu(), "known": torch.tensor(self.known), "step": torch.tensor(self.step)}
        tensors |= {f"adam.{key}": value.cpu() for key, value in state.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, serialized(tensors))

    def resume(self, path: Path) -> bool:
        """Whether there was something to go on from.

        Raises: ValueError where the table is that of other tokens.
        """
        if not path.is_file():
            return False
        found = load_file(path)
        if found["known"].tolist() != self.known:
            raise ValueError(f"{path.name} holds the table of other training texts. Choose another --out.")
        with torch.no_grad():
            self.table.copy_(found["table"])
        self.step = int(found["step"])
        if "adam.exp_avg" in found:
            moments = {key.removeprefix("adam."): value for key, value in found.items() if key.startswith("adam.")}
            # Adam counts its steps in a tensor that stays on the processor.
            self.optimizer.state[self.table] = {key: value if key == "step" else value.to(self.table.device) for key, value in moments.items()}
        return True

    def give(self, recognizer: Recognizer, table: Tensor) -> None:
        """Write a table into a base: it is tied, so that the output has it too."""
        with torch.no_grad():
            weight = recognizer.base.model.decoder.embed_tokens.weight
            weight.zero_()
            weight[self.known] = table.to(weight)


def learn(
    learner: Learner,
    data: Shards,
    held: Shards,
    path: Path,
    *,
    steps: int,
    batch: int,
    lr: float,
    save: int,
    replaced: float = 0.0,
    tell: Callable[[dict[str, Any]], None],
) -> Tensor:
    """Take the steps that are left of `steps`, and save after every `save` of them; returns the table that held-out speech liked best."""
    best, began = path.with_name(BEST), time.monotonic()
    if not learner.resume(path):
        best.unlink(missing_ok=True)  # another run's
    while learner.step < steps:
        loss = learner.take_step(data, batch=batch, lr=lr, total=steps, replaced=replaced)
        if learner.step % save == 0 or learner.step == steps:
            found = learner.cross_entropy(held)
            learner.save(path)
            if found < (float(load_file(best)["held_out"]) if best.is_file() else math.inf):
                replace_file(best, serialized({"table": learner.table.detach().cpu(), "held_out": torch.tensor(found), "step": torch.tensor(learner.step)}))
            tell({"step": learner.step, "loss": loss, "held_out": found, "seconds": round(time.monotonic() - began)})
    return load_file(best)["table"] if best.is_file() else learner.table.detach()


def speech(recognizer: Recognizer, given: argparse.Namespace) -> tuple[Shards, Shards]:
    """(training, held-out) states: those that are missing are made."""
    states, task = given.out / "states", TASKS["adults"]
    train, dev = part(task, given.speech, "train").split_by_speaker(DEV_SHARE, given.seed)
    texts = english([u.text for u in train])
    paths = [
        write_states(recognizer, synthesized(SHARD, 1000 * given.seed + n, texts), states / f"synthesized-{n:03}.npy") for n in range(given.utterances // SHARD)
    ]
    paths += [write_states(recognizer, recorded(recognizer, train, epoch, given.seed), states / f"recorded-{epoch}.npy") for epoch in range(given.copies)]
    held = write_states(recognizer, recorded(recognizer, dev, None, given.seed), states / "held-out.npy")
    return Shards.read(paths), Shards.read([held])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a Whisper checkpoint without its token table: a folder")
    parser.add_argument("--speech", type=Path, required=True, help="the folder of the corpora, as of real_encoder.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=8000, help="synthesized ones")
    parser.add_argument("--copies", type=int, default=3, help="of the recorded ones, each augmented otherwise")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--replaced", type=float, default=0.2, help="of the tokens that the decoder reads, so many are replaced by others")
    parser.add_argument("--save", type=int, default=50, help="steps between evaluations on held-out speech, each with a save")
    parser.add_argument("--test", type=int, default=200, help="utterances of unheard adults to transcribe at the end; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda, …; auto: an accelerator where there is one")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    recognizer = load(given.base, device=given.device)
    data, held = speech(recognizer, given)
    learner = Learner(recognizer, [text for *_, text in data.rows], seed=given.seed)
    print(json.dumps({"utterances": len(data), "held_out": len(held), "tokens": len(learner.known)}), flush=True)
    table = learn(
        learner,
        data,
        held,
        given.out / TABLE,
        steps=given.steps,
        batch=given.batch,
        lr=given.lr,
        save=given.save,
        replaced=given.replaced,
        tell=lambda row: print(json.dumps(row), flush=True),
    )
    learner.give(recognizer, table)
    recognizer.info = replace(recognizer.info, contexts=("full", "auto"))  # the table was learned on short contexts
    export_base(recognizer, given.out / MODEL, about={"token_table": "relearned, for measuring only"}, overwrite=True)
    if given.test:
        test = part(TASKS["adults"], given.speech, "test").shuffle(given.seed)[: given.test]
        for beams in (1, BEAMS):
            how = DecodingOptions(context="auto", autocast=has_bf16(recognizer.device), beams=beams)
            found = evaluate(recognizer, test, lang="en", decoding=how).systems[0].score
            kept = {key: found.to_json()[key] for key in ("wer", "wer_interval", "cer", "deletions", "insertions", "words", "utterances")}
            most = sum(min(row.counts.errors, row.counts.words) for row in found.rows) / sum(row.counts.words for row in found.rows)
            print(json.dumps({"beams": beams, **kept, "wer_of_at_most_every_word": most}), flush=True)


if __name__ == "__main__":
    main()
