"""Utterances → what the recognizer trains on: features, contexts, decoder inputs, labels.

The shift of labels against inputs (see `asrpeft.training.batch`) is made here, once, so that nothing has to be stripped later. Everything
random is keyed by (seed, utterance, epoch).
Rows below 0 are sound in which nobody speaks, with an empty transcript; see `asrpeft.training.nonspeech`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asrpeft.adapters.conditions import Told
from asrpeft.audio.augment import Augmentation, generator
from asrpeft.audio.features import MAX_SECONDS, SAMPLE_RATE, log_mel
from asrpeft.corpus import Corpus, Skipped, Utterance
from asrpeft.corpus.mix import draws
from asrpeft.decoding.batch import earlier_text
from asrpeft.errors import BadAudio
from asrpeft.options import TrainingOptions
from asrpeft.recognizer import IGNORED, Recognizer, context_frames, speech_frames
from asrpeft.training import nonspeech
from asrpeft.training.batch import Batch, Example, StepData, StepKey, collate
from asrpeft.training.frozen_encoder import EncoderStates

Prompt = Sequence[int] | Callable[[Utterance], Sequence[int]]


@dataclass(frozen=True)
class TrainingData:
    """What an adapter is trained on, or held against while it is.

    Attributes:
        corpus: recordings and their transcripts.
        prompt: the tokens before every transcript (see `Recognizer.prompt`), or a function from the utterance to them.
        nonspeech: recordings in which nobody speaks: half of the rows without speech that the options ask for are taken from
            them, the others made on the spot.
    """

    corpus: Corpus
    prompt: Prompt
    nonspeech: Corpus | None = None


class Examples(Dataset[StepData]):
    """A corpus as examples, made when they are asked for; decoded audio is kept while there is room, and features that are asked for again.

    Attributes:
        corpus: the utterances that can be used.
        skipped: those that cannot, because their transcript does not fit the decoder.
        before: the tokens of what was said before each, where that is known.
        prompt_dropout: of the rows of an epoch, so many are not told it.
        variants: each utterance is heard in so many ways, one epoch after another; 0: in another way in every epoch.
        states: where the states of a frozen encoder are kept; rows whose states are found there have no features.
        told: what the adapter is told of each row.
    """

    variants: int = 0
    prompt_dropout: float = 0.5
    states: EncoderStates | None = None
    told: Told | None = None

    def __init__(
        self,
        data: TrainingData,
        recognizer: Recognizer,
        *,
        context: str,
        reserved: int = 0,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        cache_mb: int = 1024,
        nonspeech_share: float = 0.0,
    ):
        """Prepare the texts and prompts of a corpus.

        Args:
            context: `auto` or `full`.
            reserved: positions of the decoder that virtual tokens take.
            augmentation: None for the speech as it is, without jitter of the context.
            nonspeech_share: of the rows that are drawn, so many hold no speech.
        """
        corpus, prompt = data.corpus, data.prompt
        self.nonspeech_share, self.recordings = nonspeech_share, data.nonspeech
        self.context, self.seed = context, seed
        self.n_mels, self.end, self.augmentation = recognizer.n_mels, recognizer.end, augmentation
        room = recognizer.max_tokens - reserved
        # Whisper writes " one two": transcripts begin with a space.
        texts = [tuple(recognizer.encode_text(" " + " ".join(u.text.split()))) for u in corpus]
        prompts = [tuple(prompt(u) if callable(prompt) else prompt) for u in corpus]
        fits = [len(p) + len(t) <= room for p, t in zip(prompts, texts)]
        before = [tuple(earlier_text(recognizer, u.before)) for u in corpus]
        before = [_ending(one, room - len(p) - len(t)) for one, p, t in zip(before, prompts, texts)]  # never at the cost of the transcript
        self.skipped = tuple(
            Skipped(u.id, f"its transcript has {len(t)} tokens; {room - len(p)} fit the decoder")
            for u, p, t, fit in zip(corpus, prompts, texts, fits)
            if not fit
        )
        self.corpus = Corpus([u for u, fit in zip(corpus, fits) if fit], name=corpus.name, skipped=(*corpus.skipped, *self.skipped))
        self.prompts = [p for p, fit in zip(prompts, fits) if fit]
        self.texts = [t for t, fit in zip(texts, fits) if fit]
        self.before = [b for b, fit in zip(before, fits) if fit]
        self._cache: dict[int, np.ndarray | BadAudio] = {}
        self._features: dict[tuple[int, int | None], tuple[Tensor, int, int]] = {}
        self._room = cache_mb * 1_000_000

    @classmethod
    def for_training(cls, data: TrainingData, recognizer: Recognizer, *, options: TrainingOptions, reserved: int = 0) -> Examples:
        made = cls(
            data,
            recognizer,
            context=options.context,
            reserved=reserved,
            seed=options.seed,
            augmentation=options.augmentation(),
            cache_mb=options.cache_mb,
            nonspeech_share=options.nonspeech_share,
        )
        made.prompt_dropout = made.prompt_dropout if options.prompt_dropout is None else options.prompt_dropout
        return made

    def __len__(self) -> int:
        return len(self.corpus)

    def drawn(self, epoch: int) -> list[int]:
        """The rows of an epoch: places in the corpus. The second time that a place is drawn in it, `len(self)` is added, the
        third time twice that, so that its chance is another. Below 0: clips without speech. What weighs nothing in the loss is not drawn."""
        n = len(self)
        rows = list(range(n))
        if any(u.weight != 1 for u in self.corpus):
            times = [draws(u.weight, u.id, seed=self.seed, epoch=epoch) for u in self.corpus]
            rows = [place + copy * n for place, count in enumerate(times) for copy in range(count)]
        rows = [row for row in rows if self.corpus[row % n].loss_weight]
        silent = len(rows) * self.nonspeech_share / (1 - self.nonspeech_share)
        return [*rows, *range(-nonspeech.rounded(silent, self.seed, epoch), 0)]

    def heard(self, epoch: int | None) -> int | None:
        """What the sound of an epoch is keyed by: its number, or that of the variant."""
        return epoch % self.variants if epoch is not None and self.variants else epoch

    def frames(self, epoch: int | None, rows: Sequence[int] | None = None) -> list[int]:
        """What each utterance, or each of `rows`, will cost in encoder frames as it is heard in `epoch`, by the length its corpus gives."""
        epoch = self.heard(epoch)
        return [self._context(row, self._length(row, epoch), epoch) for row in (range(len(self)) if rows is None else rows)]

    def _length(self, row: int, epoch: int | None) -> int:
        """Samples at 16 kHz of a row as it is heard, by the length its corpus gives.

        Of speech that is played slower too: a batch that was filled by other lengths than it then has is padded to the one that grew most.
        """
        if row < 0:
            return round(self._silent_seconds(row, epoch) * SAMPLE_RATE)
        n = round(min(self.corpus[row % len(self)].duration, MAX_SECONDS) * SAMPLE_RATE)
        return n if self.augmentation is None or epoch is None else round(n / self.augmentation.speed_of(n, self.key(row), epoch))

    def key(self, row: int) -> str:
        """What the random numbers of a row are keyed by, beside seed and epoch."""
        if row < 0:
            return f"{nonspeech.ID}{-row}"
        copy, place = divmod(row, len(self))
        return self.corpus[place].id + (f"\x1f{copy}" if copy else "")

    def _context(self, row: int, n_samples: int, epoch: int | None) -> int:
        return context_frames(n_samples, self.context, jitter_seed=None if epoch is None else f"{self.seed}-{self.key(row)}-{epoch}")

    def samples(self, index: int) -> Tensor:
        """(n,) float32 at 16 kHz. Raises: BadAudio, again each time it is asked for."""
        found = self._cache.get(index)
        if found is None:
            try:
                found = self.corpus[index].samples()
            except BadAudio as error:
                found = error
            size = getattr(found, "nbytes", 0)
            if size <= self._room:
                self._room -= size
                self._cache[index] = found
        if isinstance(found, BadAudio):
            raise found
        return torch.from_numpy(found)

    def example(self, row: int, epoch: int | None) -> Example:
        """An utterance as it is heard in `epoch`; None: as it is, without any chance. `row` is a place in the corpus, or one of
        `drawn`.

        Raises: BadAudio if it cannot be read, or is longer than 30 s.
        """
        index, key, prompt = row % len(self), self.key(row), self.prompt(row, epoch)
        epoch = self.heard(epoch)
        if row < 0:
            return self._silent(row, epoch, prompt)
        utterance, text = self.corpus[index], self.texts[index]
        inputs, labels = (*prompt, *text), (*(IGNORED,) * (len(prompt) - 1), *text, self.end)
        weight = 1.0 if epoch is None else utterance.loss_weight
        by_audio = self.told is not None and self.told.conditions.sources  # which is then needed
        kept = None if self.states is None or by_audio else self.states.key(self, row, epoch)
        if self.states is not None and kept is not None and (found := self.states.find(kept)) is not None:
            nothing = torch.zeros(self.n_mels, 0)
            facts = self._facts(utterance, nothing, 0, key, epoch)
            return Example(utterance.id, utterance.text, nothing, len(found[0]), found[1], inputs, labels, kept, found[0], facts, weight)
        features, context, speech = self._sound(row, epoch)
        facts = self._facts(utterance, features, speech, key, epoch)
        return Example(utterance.id, utterance.text, features, context, speech, inputs, labels, kept, facts=facts, weight=weight)

    def _sound(self, row: int, epoch: int | None) -> tuple[Tensor, int, int]:
        """(features (mels, 2·context), context, frames of speech) of a place in the corpus; kept, while there is room, where it is heard so again.

        Raises: BadAudio as `samples`.
        """
        again = epoch is None or bool(self.variants)
        if again and (row, epoch) in self._features:
            return self._features[row, epoch]
        samples, key, changed = self.samples(row % len(self)), self.key(row), self.augmentation if epoch is not None else None
        if changed is not None and epoch is not None:
            samples = changed.samples(samples, key, epoch)
        context = self._context(row, len(samples), epoch)
        speech = min(context, speech_frames(len(samples)))
        features = log_mel(samples, n_mels=self.n_mels, n_frames=2 * context)
        if changed is not None and epoch is not None:
            features = changed.features(features, 2 * speech, key, epoch)
        if again and features.nbytes <= self._room:
            self._room -= features.nbytes
            self._features[row, epoch] = features, context, speech
        return features, context, speech

    def prompt(self, row: int, epoch: int | None) -> tuple[int, ...]:
        """The tokens before what a row says: in an epoch a part of the rows is not told what had been said before; without one all are."""
        index = row % len(self) if row >= 0 else self._beside(row, self.heard(epoch))
        before = self.before[index]
        if before and epoch is not None:
            drawn = float(torch.rand((), generator=generator(self.seed, self.key(row), epoch, "prompt")))
            before = () if drawn < self.prompt_dropout else before
        return (*before, *self.prompts[index])

    def _facts(self, utterance: Utterance | None, features: Tensor, speech: int, key: str, epoch: int | None) -> Mapping[str, Any]:
        return {} if self.told is None else self.told.of(utterance, features, 2 * speech, key, epoch, seed=self.seed)

    # -- rows in which nobody speaks -------------------------------------------------------------------------------------
    def _beside(self, row: int, epoch: int | None) -> int:
        """The place of the utterance whose prompt such a row takes, and after whose length its own is drawn."""
        rng = generator(self.seed, self.key(row), epoch, "beside")
        return int(torch.randint(len(self), (), generator=rng))

    def _silent_seconds(self, row: int, epoch: int | None) -> float:
        return nonspeech.length(self.corpus[self._beside(row, epoch)].duration, self.seed, row, epoch)

    def _silent(self, row: int, epoch: int | None, prompt: tuple[int, ...]) -> Example:
        """A row in which nobody speaks.

        Raises: BadAudio if it is a recording that cannot be read.
        """
        seconds = self._silent_seconds(row, epoch)
        if self.recordings is not None and row % 2:
            samples = nonspeech.cut(self.recordings, seconds, self.seed, row, epoch)
        else:
            samples = nonspeech.clip(seconds, self.seed, row, epoch)
        context = self._context(row, len(samples), epoch)
        speech = min(context, speech_frames(len(samples)))
        labels = (*(IGNORED,) * (len(prompt) - 1), self.end)
        features = log_mel(samples, n_mels=self.n_mels, n_frames=2 * context)
        return Example(self.key(row), "", features, context, speech, prompt, labels, facts=self._facts(None, features, speech, self.key(row), epoch))

    def batch(self, rows: Sequence[int], epoch: int | None) -> tuple[Batch | None, list[Skipped]]:
        """(the batch of those rows that can be read, the others)."""
        good, bad = [], []
        for row in rows:
            try:
                good.append(self.example(row, epoch))
            except BadAudio as error:
                bad.append(Skipped(self.key(row) if row < 0 else self.corpus[row % len(self)].id, str(error)))
        return collate(good, end=self.end), bad

    def __getitem__(self, key: StepKey) -> StepData:
        made = [self.batch(rows, key.epoch) for rows in key.batches if rows]
        return StepData(key, tuple(batch for batch, _ in made if batch is not None), tuple(s for _, bad in made for s in bad))


def _ending(before: tuple[int, ...], room: int) -> tuple[int, ...]:
    """The mark of earlier text and as much of the text's end as has room."""
    return (before[0], *before[1:][-(room - 1) :]) if before and room > 1 else ()
