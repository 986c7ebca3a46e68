"""How to train: one frozen value, checked when it is made, stored with every checkpoint and adapter."""

from __future__ import annotations

import dataclasses
import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_type_hints

from asrpeft.errors import BadInput
from asrpeft.options.flag import Flag, flag_of

if TYPE_CHECKING:
    from asrpeft.audio.augment import Augmentation
    from asrpeft.training.losses import Loss

DEFAULT_EPOCHS = 10
HIGHEST_RATE = 1.0
MOST_WORKERS = 64
SEED = Flag("Fixes every random choice.", panel="The machine")
_LENGTH, _PACE, _SPEECH = "How long", "How fast it learns", "What it hears"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train an adapter. The length is given by one of `epochs`, `steps` and `minutes` (of training, without evaluation).

    Attributes:
        epochs, steps, minutes: how long; 10 epochs if none is given.
        lr: peak learning rate; None takes the method's own.
        head_lr: peak learning rate of an adapter's own CTC head; None takes 1e-3, or the adapter's rate where that is higher.
        optimizer: `adamw`, or another by name with its settings: `adafactor`, `galore,rank=64`. See `asrpeft.training.optimizers`.
        schedule: `cosine`, `linear` or `constant`, after the warm-up, or `onecycle`.
        warmup: share of the run in which the learning rate rises.
        weight_decay: on matrices only, unless the method says otherwise.
        clip: largest norm of the gradient; 0 does not clip.
        loss: `ce`, `ctc`, `ce+ctc`, or weighted: `ce+0.2*ctc`. See `asrpeft.training.losses`.
        nbest: hypotheses of each utterance that the losses `ln`, `ul` and `mwer` compare, found by a beam search in every step.
        label_smoothing: of the cross-entropy.
        batch_seconds: seconds of audio context in a batch, over all processes.
        accumulate: batches in an optimizer step.
        precision: `bf16`, `fp16`, `no`, or `auto`: bf16 where the hardware has it, fp16 on GPUs that have only that.
        context: `auto` trains on short, jittered contexts, `full` on 30 s. See `asrpeft.recognizer.context`.
        augment: `none`, `standard` or `strong`, with changes: `standard,noise=0.3,masking=0`. See `asrpeft.audio.augment`.
        variants: each utterance is heard in so many ways (speed, masks, padding), one epoch after another; 0: in another way in every epoch.
            None: 3 where no adapter acts in the encoder, whose states are then computed once for each and kept; else 0.
        dropout: of the base's activations while training.
        prompt_dropout: where rows know what was said before them (`DecodingOptions.prompt_column`), the share that is not told it, so that the adapter
            writes as well without; None: 0.5. What is told is no target.
        nonspeech_share: of the rows, so many are sound in which nobody speaks, with an empty transcript; 0 for none.
        seed: fixes every random choice.
        dev_every: steps between looks at the development data; None looks eight times.
        dev_utterances: at most so many of them are used.
        patience: looks without an improvement before training stops; None never stops early.
        checkpoint_s: seconds between checkpoints; 0 writes one after every step.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        average: of the weights that are evaluated and kept: `none`, `ema`, `ema=0.995`, `last` or `last=5` (evaluations).
        budget_seconds: seconds of audio that are computed at once: a batch that has more is computed in parts, with the same gradient.
            None finds what fits in memory.
        memory_gb: GiB that computing a step may take, of which the former is found; None: nine tenths of what is free on a GPU,
            half of what is available elsewhere.
        workers: processes that read and augment audio beside the one that trains; None: as many as the machine has cores to spare, 1 to 8.
        cache_mb: decoded audio, and features that are asked for again, kept in memory by each process that reads.
    """

    PANEL: ClassVar[str] = "Training"

    epochs: Annotated[int | None, Flag("Passes over the data (10 if no length is given).", instead_of="length")] = None
    steps: Annotated[int | None, Flag("Optimizer steps.", instead_of="length")] = None
    minutes: Annotated[float | None, Flag("Minutes of training.", instead_of="length")] = None
    lr: Annotated[float | None, Flag("Peak learning rate. Default: the method's own.")] = None
    head_lr: Annotated[float | None, Flag("Peak learning rate of a CTC head. Default: 1e-3, or the adapter's rate where that is higher.")] = None
    optimizer: Annotated[str, Flag("adamw, adafactor, galore, muon, sgd or adamw8bit, with settings after commas: galore,rank=64.")] = "adamw"
    schedule: Annotated[str, Flag("cosine, linear or constant, after the warm-up, or onecycle.")] = "cosine"
    warmup: Annotated[float, Flag("Share of the run in which the learning rate rises.")] = 0.1
    weight_decay: Annotated[float, Flag("Weight decay, on matrices only, unless the method says otherwise.")] = 0.01
    clip: Annotated[float, Flag("Largest norm of the gradient; 0 does not clip.")] = 1.0
    loss: Annotated[
        str,
        Flag(
            "ce, ctc, ce+ctc, or weighted: ce+0.2*ctc. Beside ce also those that press down what else the adapter would write: mwer (expected word errors), "
            "ln (the transcript against the others), ul (their wrong tokens), rival (the nearest wrong token; no search)."
        ),
    ] = "ce"
    nbest: Annotated[int, Flag("Hypotheses of each utterance for --loss mwer, ln and ul, found by a beam search in every step.")] = 4
    label_smoothing: Annotated[float, Flag("Label smoothing of the cross-entropy.")] = 0.0
    batch_seconds: Annotated[float, Flag("Seconds of audio in a batch.")] = 60.0
    accumulate: Annotated[int, Flag("Batches in an optimizer step.")] = 1
    precision: Annotated[str, Flag("auto, bf16, fp16 or no.")] = "auto"
    context: Annotated[str, Flag("Audio context: auto trains on what each utterance needs, full on 30 s.")] = "auto"
    augment: Annotated[str, Flag("none, standard or strong, with changes: standard,noise=0.3.")] = "standard"
    variants: Annotated[
        int | None,
        Flag(
            "Ways in which each utterance is heard (speed, masks, padding), one epoch after another; 0: another way in every epoch. Default: 0; where no "
            "adapter acts in the encoder 3, for each of which that is run once."
        ),
    ] = None
    dropout: Annotated[float, Flag("Dropout of the base's activations while training.")] = 0.0
    prompt_dropout: Annotated[
        float | None,
        Flag("With --prompt-column: the share of the training rows that is not told the text before it, drawn anew in every epoch. Default: 0.5."),
    ] = None
    nonspeech_share: Annotated[
        float,
        Flag(
            "Share of the training rows that are sound in which nobody speaks (silence, noise, hum, beeps, music, made on the spot), so that the adapter "
            "learns to write nothing there; 0 for none."
        ),
    ] = 0.05
    seed: Annotated[int, SEED] = 0
    dev_every: Annotated[int | None, Flag("Steps between looks at the dev data. Default: eight looks in a run.")] = None
    dev_utterances: Annotated[int, Flag("At most so many of the dev data are used.")] = 200
    patience: Annotated[int | None, Flag("Looks at the dev data without an improvement before training stops.")] = None
    checkpoint_s: Annotated[
        float,
        Flag(
            "Minutes between checkpoints, from which --resume goes on; 0 writes one after every step. One is written on Ctrl-C and SIGTERM too.",
            "--checkpoint-minutes",
            unit=60.0,
        ),
    ] = 60.0
    gradient_checkpointing: Annotated[bool, Flag("Recompute activations: less memory, a third more time.")] = False
    average: Annotated[str, Flag("Of the weights that are evaluated and kept: none, ema, ema=0.995, last, or last=5 (evaluations).")] = "none"
    budget_seconds: Annotated[
        float | None,
        Flag("Seconds of audio that are computed at once: a batch that has more is computed in parts, with the same gradient. Default: what fits in memory."),
    ] = None
    memory_gb: Annotated[
        float | None,
        Flag("GiB that computing a step may take, by which that is found. Default: nine tenths of what is free on a GPU, half of it elsewhere."),
    ] = None
    workers: Annotated[
        int | None,
        Flag(
            "Processes that read and augment audio beside the one that trains; 0 reads in that one. Default: as many as the machine has cores to spare, 1 to 8."
        ),
    ] = None
    cache_mb: Annotated[int, Flag("Megabytes of decoded audio kept in memory, by each process that reads.")] = 1024

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            object.__setattr__(self, name, _of_kind(name, getattr(self, name), kind))
        lengths = {name: getattr(self, name) for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None}
        if len(lengths) > 1:
            raise BadInput(f"The length of training is given {len(lengths)} times, by {' and '.join(f'--{n}' for n in lengths)}. Keep one.")
        if not lengths:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)
        self._check_numbers()
        self._check_names()

    def _check_numbers(self) -> None:
        for name in (
            "epochs",
            "steps",
            "minutes",
            "lr",
            "head_lr",
            "batch_seconds",
            "budget_seconds",
            "memory_gb",
            "accumulate",
            "dev_every",
            "dev_utterances",
            "patience",
            "nbest",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{_flag(name)} must be above 0, got {value}.")
        for name in ("lr", "head_lr"):
            if (getattr(self, name) or 0.0) > HIGHEST_RATE:
                raise BadInput(
                    f"{_flag(name)} {getattr(self, name):g} is no learning rate: a step moves each number by about as much, "
                    f"so at most {HIGHEST_RATE:g}. Methods learn well at 1e-4 to 2e-2."
                )
        if (self.workers or 0) > MOST_WORKERS:
            raise BadInput(f"--workers {self.workers}: at most {MOST_WORKERS} processes read; one keeps up with most bases.")
        for name in ("weight_decay", "clip", "checkpoint_s", "workers", "cache_mb", "variants"):
            if (getattr(self, name) or 0) < 0:
                raise BadInput(f"{_flag(name)} must not be negative, got {getattr(self, name)}.")
        for name in ("warmup", "dropout", "label_smoothing", "nonspeech_share"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"{_flag(name)} must be at least 0 and below 1, got {getattr(self, name)}.")
        if not 0 <= (self.prompt_dropout or 0) <= 1:
            raise BadInput(f"{_flag('prompt_dropout')} is a share of the rows, from 0 to 1, got {self.prompt_dropout}.")

    def _check_names(self) -> None:
        """What is called by name is looked up where it is registered, by those who are about to train: `--help` asks for nothing of it."""
        from asrpeft.recognizer.context import CONTEXTS
        from asrpeft.training.averaging import Averaging
        from asrpeft.training.optimizers import parse as parse_optimizer
        from asrpeft.training.precision import PRECISIONS
        from asrpeft.training.schedules import SCHEDULES

        for name, choices in (("schedule", tuple(SCHEDULES)), ("precision", PRECISIONS), ("context", CONTEXTS)):
            if getattr(self, name) not in choices:
                raise BadInput(f"There is no {name} {getattr(self, name)!r}; choose {', '.join(choices)}.")
        self.augmentation()
        self.terms()
        parse_optimizer(self.optimizer)
        Averaging.parse(self.average)

    def terms(self) -> Loss:
        """The loss that `loss` describes."""
        from asrpeft.training import losses

        return losses.parse(self.loss, label_smoothing=self.label_smoothing)

    def augmentation(self) -> Augmentation:
        """The augmentation that `augment` describes.

        Raises: BadInput for an unknown name, setting or value.
        """
        from asrpeft.audio.augment import augmentation

        first, *rest = [part.strip() for part in self.augment.split(",")] or [""]
        if "=" in first:
            first, rest = "none", [first, *rest]
        made = augmentation(first, seed=self.seed)
        changes: dict[str, Any] = {}
        for part in rest:
            name, equals, value = (text.strip() for text in part.partition("="))
            kinds = {f.name: getattr(made, f.name) for f in dataclasses.fields(made) if f.name != "seed"}
            if not equals or name not in kinds:
                raise BadInput(f"--augment {self.augment!r}: {part!r} is no setting; it takes NAME=VALUE with {', '.join(kinds)}.")
            try:
                several = tuple(float(number) for number in value.split("/"))
                if not all(map(math.isfinite, several)):
                    raise ValueError
                changes[name] = several if isinstance(kinds[name], tuple) else type(kinds[name])(float(value))
            except ValueError:
                raise BadInput(f"--augment {self.augment!r}: {value!r} is not a number (or numbers with / between them, as speeds=0.9/1/1.1).") from None
        return dataclasses.replace(made, **changes)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _kinds() -> dict[str, Any]:
    """The types of the fields, by name."""
    hints = get_type_hints(TrainingOptions)
    return {field.name: hints[field.name] for field in dataclasses.fields(TrainingOptions)}


def _flag(name: str) -> str:
    return flag_of(TrainingOptions, name)


def _of_kind(name: str, value: Any, kind: Any) -> Any:
    """The value as Python's own type, from whatever is a number of that kind.

    Raises: BadInput for a text where a number belongs, a number that is not finite, and the like.
    """
    kinds = set(get_args(kind)) or {kind}
    if value is None and type(None) in kinds:
        return None
    kind = next(k for k in (bool, int, float, str) if k in kinds)
    wanted = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}[kind]
    fits = isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))
    if not fits or (kind is float and not math.isfinite(value)):
        told = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}[kind]
        raise BadInput(f"{_flag(name)} must be {told}{' or None' if type(None) in kinds else ''}, got {value!r}.")
    return kind(value)
