"""`local-agreement`: commit what two hypotheses in a row agree on.

    commit  the longest common prefix of hypothesis n and hypothesis n − 1, beyond what is committed already

While speech goes on, all of it is decoded every `step_s`, after the words that are committed: the decoder continues
them, so it can neither repeat nor revise them. What is open when speech ends is committed then.
Source: Macháček, Dabre and Bojar, 2023, https://arxiv.org/abs/2307.14743 (LocalAgreement-2).
"""

from __future__ import annotations

from collections.abc import Sequence

from asrpeft.decoding.words import Word
from asrpeft.streaming.events import Event
from asrpeft.streaming.policies import SpeechPolicy, register


def agreed(before: Sequence[Word], now: Sequence[Word]) -> int:
    """How many words the two hypotheses begin with in common, by text."""
    count = 0
    for a, b in zip(before, now):
        if a.text != b.text:
            break
        count += 1
    return count


@register("local-agreement")
class LocalAgreement(SpeechPolicy):
    def __init__(self, decode, config, events):
        super().__init__(decode, config, events)
        self._committed: list[Word] = []  # of the speech that goes on, with times since the stream began
        self._before: Sequence[Word] = ()  # the open words of the last hypothesis

    def speaking(self, start):
        open_words = list(self.decode(self.buffer.between(start, self.now), _text(self._committed)))
        n = agreed(self._before, open_words)
        found: list[Event] = []
        if n:
            found.append(self.events.event("commit", open_words[:n], offset=start, start=start, end=self.now, now=self.now))
            self._committed += found[-1].words
        self._before = open_words[n:]
        if self._before:
            found.append(self.events.event("partial", self._before, offset=start, start=start, end=self.now, now=self.now))
        return found

    def finish(self, start, end) -> list[Event]:
        # Over-long speech is cut in the past, perhaps before words that are committed: those belong to what follows.
        later = [word for word in self._committed if word.start >= end]
        words = [] if later else self.decode(self.buffer.between(start, end), _text(self._committed))
        self._committed, self._before = later, ()
        return [self.events.event("commit", words, offset=start, start=start, end=end, now=self.now)] if words else []


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)
