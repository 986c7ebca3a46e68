"""The events of a training run, shown: a bar for steps, a line for each evaluation on the development data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asrpeft.cli.progress import bar
from asrpeft.report.words import per_cent
from asrpeft.training.events import DevScore, Event, GuardScore, Message, Scoring, Skipped, Step

_NAMED = 3  # unreadable files named one by one; the rest are counted


def rates_of(event: DevScore) -> str:
    """`87.3 % WER (best so far)`; with CER, and loss, where WER says nothing, and by which of them it is the best."""
    parts = [per_cent(event.score) + " WER" if event.kind == "wer" else f"loss {event.score:.4f}"]
    if event.by in ("cer", "loss"):
        parts.append(f"{per_cent(event.cer)} CER")
    if event.by == "loss":
        parts.append(f"loss {event.loss:.4f}")
    by = f", by {event.by.upper() if event.by == 'cer' else event.by}" if len(parts) > 1 else ""
    return ", ".join(parts) + (f" (best so far{by})" if event.best else "")


@contextmanager
def reporting(*, quiet: bool, say: Callable[[str], None]) -> Iterator[Callable[[Event], None]]:
    """A context that gives the callback of a training job."""
    skipped: Counter[str] = Counter()
    with bar("training", quiet=quiet) as advance:

        def on(event: Event) -> None:
            match event:
                case Step():
                    note = f"loss {event.loss:.3f}, {event.utterances_per_second:.1f} utterances/s"
                    advance(event.step, event.total, note, remaining_s=event.remaining_s)
                case DevScore():
                    say(f"step {event.step}: dev {rates_of(event)}")
                case GuardScore():
                    verdict = "within" if event.passed else "MORE than"
                    say(f"step {event.step}: guard {100 * event.loss:+.1f} points of WER, {verdict} the {100 * event.max_loss:g} that may be lost")
                case Skipped():
                    skipped[event.reason] += 1
                    if skipped.total() <= _NAMED:
                        say(f"skipped {event.id}: {event.reason}")
                case Scoring():
                    advance(event.done, event.total, f"scoring {event.system}")
                case Message():
                    say(event.text)

        yield on
    if skipped.total() > _NAMED:
        say(f"{skipped.total()} utterances were skipped in all.")
