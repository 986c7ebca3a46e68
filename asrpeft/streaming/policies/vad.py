"""`vad`: commit when speech ends.

Speech is found by silero-vad. While it goes on, a partial hypothesis is shown every `step_s`; when it ends (after
`min_silence_s` of silence, or at the quietest place before `max_s`), the whole stretch is decoded and committed.
Nothing is decoded twice for the transcript, which therefore is that of the offline recogniser on the same stretches;
its price is that words wait for the end of the phrase.
"""

from __future__ import annotations

from asrpeft.streaming.events import Event
from asrpeft.streaming.policies import SpeechPolicy, register


@register("vad")
class Vad(SpeechPolicy):
    def speaking(self, start):
        words = self.decode(self.tape.between(start, self.now))
        return [self.said.event("partial", words, offset=start, start=start, end=self.now, now=self.now)] if words else []

    def finish(self, start, end) -> list[Event]:
        words = self.decode(self.tape.between(start, end))
        return [self.said.event("commit", words, offset=start, start=start, end=end, now=self.now)] if words else []
