"""What chooses among the weights of a run, and the weights that are the best so far."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from asrpeft import interruption
from asrpeft.adapters import Adapter
from asrpeft.errors import Failure
from asrpeft.training.checkpoints import State
from asrpeft.training.choice import Choice, DevResult, Rates, judge
from asrpeft.training.events import DevScore, GuardScore, Message, Progress

KEEPING = "Stopping: the state of the run is being kept. Once more stops at once."


class Selection:
    """The best weights so far, and what is known about them; its counts are those of the run's `state`.

    Args:   dev_loss: asked for the loss on the development data, where nothing else can choose.
    """

    def __init__(self, choice: Choice, adapter: Adapter, state: State, *, dev_loss: Callable[[], float], patience: int | None, progress: Progress):
        self.choice, self.adapter, self.state = choice, adapter, state
        self.dev_loss, self.patience, self.progress = dev_loss, patience, progress
        self.best: dict[str, Tensor] | None = None

    def evaluate(self) -> None:
        """Score the adapter on the development data, and keep its weights if they are the best so far that pass the guard."""
        state, choice = self.state, self.choice
        if choice.dev is None:
            state.due = False
            return
        found = choice.score() if choice.score is not None else self.dev_loss()
        result = judge(found, self.dev_loss) if isinstance(found, Rates) else None
        score, rank = (result.wer, result.rank) if result is not None else (float(found), (0, float(found)))  # type: ignore[arg-type]
        # Equal scores are common (100 % WER at first): the later weights are kept, but they are no improvement.
        before = None if state.best is None else tuple(state.rank or (0, state.best[0]))
        improved = before is None or rank < before
        best = improved or rank == before
        loss = choice.guard.loss() if best and choice.guard is not None else None
        with interruption.deferred(KEEPING):
            best = best and (loss is None or self._passes(loss))
            self._note(score, result, best)
            state.since_best = 0 if best and improved else state.since_best + 1
            if best:
                state.best, state.rank = (score, state.step), rank
                state.chosen_by = choice.kind if result is None else result.by
                self.best = weights_of(self.adapter)
            state.due = False

    def _note(self, score: float, result: DevResult | None, best: bool) -> None:
        self.state.evaluations.append((self.state.step, score))
        if result is None:
            self.progress(DevScore(self.state.step, score, self.choice.kind, best))
            return
        self.state.measures.append((self.state.step, result.wer, result.cer, result.loss))
        self.progress(DevScore(self.state.step, score, self.choice.kind, best, cer=result.cer, loss=result.loss, by=result.by))

    def _passes(self, loss: float) -> bool:
        """Whether what is lost on the guard data stays within its limit."""
        limit = self.choice.guard.max_loss if self.choice.guard is not None else float("inf")
        self.state.guard_evaluations.append((self.state.step, loss))
        self.progress(GuardScore(self.state.step, loss, limit, loss <= limit))
        return loss <= limit

    def check_guard(self) -> None:
        """Look whether any weights passed the guard.

        Raises: Failure where no evaluation gave weights that pass: an adapter that forgets too much is none.
        """
        guard = self.choice.guard
        if guard is None or self.state.best is not None:
            return
        step, loss = min(self.state.guard_evaluations, key=lambda one: one[1])
        raise Failure(
            f"No weights passed the guard: of {len(self.state.guard_evaluations)} evaluations the best (step {step}) lost "
            f"{100 * loss:.1f} points of WER on what the base could do, and {100 * guard.max_loss:g} are allowed. "
            f"No adapter was kept. Train for less, with a lower --lr or fewer parameters, mix some of that speech into "
            f"the training data, or allow more with --max-loss."
        )

    def out_of_patience(self) -> bool:
        if self.patience is None or self.state.since_best < self.patience:
            return False
        self.progress(Message(f"Stopping: {self.state.since_best} evaluations on the development data without an improvement."))
        return True

    def describe(self) -> Message | None:
        """What is kept, in a sentence; None where nothing was chosen."""
        state = self.state
        if state.best is None:
            return None
        score, step = state.best
        kept = f"Kept: the weights of step {step:,} of {state.step:,}, the best on the development data by"
        if state.chosen_by == "wer" or not state.measures:
            return Message(f"{kept} {f'{100 * score:.1f} % WER' if self.choice.kind == 'wer' else f'loss, {score:.4f}'}.")
        _, wer, cer, loss = next(one for one in state.measures if one[0] == step)
        if state.chosen_by == "cer":
            return Message(f"{kept} CER, {100 * cer:.1f} %: WER says little there ({100 * wer:.1f} %).")
        return Message(f"{kept} loss, {loss:.4f}: WER ({100 * wer:.1f} %) and CER ({100 * cer:.1f} %) say little there.")


def weights_of(adapter: Adapter) -> dict[str, Tensor]:
    """A copy of an adapter's state dict, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in adapter.state_dict().items()}
