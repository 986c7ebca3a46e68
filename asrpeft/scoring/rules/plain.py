"""`none`: the text as it is. Only runs of white space count as one space, or no word could be told from another."""

from __future__ import annotations

from asrpeft.scoring.normalize import Step, register


@register("none")
class Plain(Step):
    about = "the text as it is, but for runs of white space"

    def __call__(self, text: str) -> str:
        return " ".join(text.split())
