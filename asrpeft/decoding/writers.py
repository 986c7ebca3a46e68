"""Transcripts as files: txt, json, srt, vtt and tsv."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from asrpeft.decoding.cues import Cue, Unit, cues_of, highlighted
from asrpeft.decoding.segment import Segment
from asrpeft.options import SubtitleOptions
from asrpeft.registry import Registry
from asrpeft.report.values import as_json


@dataclass(frozen=True)
class Writer:
    """A form of transcript. `cues`: it shows cues, as a `SubtitleOptions` has them; else `text` is given segments alone."""

    text: Callable[..., str]
    cues: bool = False


WRITERS: Registry[Writer] = Registry("transcript format", None)


def register(name: str, *, cues: bool = False) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Make the decorated function, from segments to the text of a file, the writer of files that end in `.name`."""

    def keep(text: Callable[..., str]) -> Callable[..., str]:
        WRITERS.add(name, Writer(text, cues), by=text)
        return text

    return keep


@register("txt")
def to_txt(segments: Sequence[Segment]) -> str:
    return "".join(f"{one.text}\n" for one in segments)


@register("json")
def to_json(segments: Sequence[Segment]) -> str:
    """`text`, `language` (where it was detected, `language_probability`), `adapter`, `segments`, `words`, as one object."""
    sure = next((one.language_probability for one in segments if one.language_probability is not None), None)
    content = {
        "text": " ".join(one.text for one in segments),
        "language": next((one.language for one in segments), None),
        **({} if sure is None else {"language_probability": round(sure, 4)}),
        "adapter": next((one.adapter for one in segments), None),
        "segments": [{"id": number, **one.to_json()} for number, one in enumerate(segments)],
        "words": [word.to_json() for one in segments for word in one.words],
    }
    return as_json(content)


@register("srt", cues=True)
def to_srt(segments: Sequence[Segment], style: SubtitleOptions = SubtitleOptions()) -> str:  # noqa: B008 - frozen
    shown = _shown(cues_of(segments, style), style, str)
    return "".join(f"{n}\n{clock(a, ',')} --> {clock(b, ',')}\n{text}\n\n" for n, (a, b, text) in enumerate(shown, 1))


@register("vtt", cues=True)
def to_vtt(segments: Sequence[Segment], style: SubtitleOptions = SubtitleOptions()) -> str:  # noqa: B008 - frozen
    shown = _shown(cues_of(segments, style), style, _escaped)
    return "WEBVTT\n\n" + "".join(f"{clock(a, '.')} --> {clock(b, '.')}\n{text}\n\n" for a, b, text in shown)


@register("tsv")
def to_tsv(segments: Sequence[Segment]) -> str:
    """Milliseconds, as Whisper's own writer gives them."""
    rows = (f"{round(1000 * one.start)}\t{round(1000 * one.end)}\t{' '.join(one.text.split())}\n" for one in segments)
    return "start\tend\ttext\n" + "".join(rows)


def _shown(cues: Sequence[Cue], style: SubtitleOptions, escape: Callable[[str], str]) -> Iterator[tuple[float, float, str]]:
    """What is shown from when to when: each cue, or, highlighted, each word within its cue."""
    for cue in cues:
        for start, end, said in highlighted(cue) if style.highlight else [(cue.start, cue.end, None)]:
            yield start, end, "\n".join(_line(line, said, escape) for line in cue.lines)


def _line(units: Sequence[Unit], said: Unit | None, escape: Callable[[str], str]) -> str:
    texts = (f"<u>{escape(unit.text)}</u>" if unit is said else escape(unit.text) for unit in units)
    return "".join(text if unit.glued else f" {text}" for unit, text in zip(units, texts)).strip()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(seconds: float, point: str) -> str:
    """3723.5 → 01:02:03.500"""
    total = max(0, round(1000 * seconds))
    rest, ms = divmod(total, 1000)
    minutes, s = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{s:02d}{point}{ms:03d}"


def write(segments: Sequence[Segment], kind: str, *, style: SubtitleOptions | None = None) -> str:
    """The transcript as the text of a file.

    Args:
        kind: one of `WRITERS`: txt, json, srt, vtt, tsv.
        style: of subtitles; their cues need the words' times (of segments without, they are estimated by letters).
    Raises: BadInput for another kind.
    """
    writer = WRITERS.find(kind)
    return writer.text(segments, style) if style is not None and writer.cues else writer.text(segments)
