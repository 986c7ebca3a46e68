"""`vad`: commit when speech ends.

Speech is found by silero-vad. While it goes on, a partial hypothesis is shown every `step_s`; when it ends (after
`min_silence_s` of silence, or at the quietest place before `max_s`), the whole stretch is decoded and committed.
Nothing is decoded twice for the transcript, which therefore is that of the offline recognizer on the same stretches;
its price is that words wait for the end of the phrase.
"""

from __future__ import annotations

from asrpeft.streaming.events import Event
from asrpeft.streaming.policies import SpeechPolicy, register


@register("vad")
class Vad(SpeechPolicy):
    def speaking(self, start):
        words = self.decode(self.buffer.between(start, self.now))
        return [self.events.event("partial", words, offset=start, start=start, end=self.now, now=self.now)] if words else []

    def finish(self, start, end) -> list[Event]:
        words = self.decode(self.buffer.between(start, end))
        return [self.events.event("commit", words, offset=start, start=start, end=end, now=self.now)] if words else []
