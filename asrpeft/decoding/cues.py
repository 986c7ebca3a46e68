"""Subtitles: segments with word times → cues that can be read.

Where cues end is chosen over a whole segment at once, by dynamic programming:

    cost of a cue     1 + 1.5 (1 − fill)²   + 0.4 for each sentence that ends inside, 0.6 for each pause of half a second
    cost of a break   0 after a sentence or a pause of half a second, 0.5 after a clause, up to 2 in the middle of a phrase

`fill` is the larger share of what a cue may hold (its lines, its seconds) that is used, so that a long sentence is divided
evenly. No cue holds a pause of a second, or parts of two segments. A cue stays after its last word until it could be read,
where the next one leaves time. Lines are as even as their words allow, and rather end at a clause.

Sources: the limits are those usual in subtitling (42 columns, two lines, 17 characters a second), see Karamitroglou, 1998,
"A Proposed Set of Subtitling Standards in Europe"; the highlighting is openai/whisper's.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from asrpeft.decoding.segment import Segment
from asrpeft.decoding.words import Word, spread
from asrpeft.options import SubtitleOptions
from asrpeft.spaceless import spaceless

Seconds = float

PAUSE_S = 1.0  # no cue goes on over a longer one
BREATH_S = 0.5  # a good place to break
SHORTEST_S = 0.8  # shown for less, a cue only flickers
TOUCH_S = 0.12  # a shorter gap between two cues is closed
FLICKER_S = 0.25  # a word stays highlighted over a shorter pause
FASTEST = 40.0  # columns a second: timestamps that would have more said are not believed
SENTENCE, CLAUSE = ".!?…。！？｡।؟۔", ",;:—–،؛、，；："


@dataclass(frozen=True)
class Cue:
    """`lines` of words, shown from `start` to `end`, in seconds since the audio began."""

    start: Seconds
    end: Seconds
    lines: tuple[tuple[Unit, ...], ...]


@dataclass(frozen=True)
class Unit:
    """What no line divides: a word, a part of one that is wider than a line, or a character where words have no spaces."""

    text: str
    start: Seconds
    end: Seconds
    glued: bool  # to the unit before: no space between

    @property
    def columns(self) -> int:
        """With the space before it."""
        return columns(self.text) + (not self.glued)


def cues_of(segments: Sequence[Segment], style: SubtitleOptions) -> list[Cue]:
    """The cues of a transcript, in time order; none overlaps the next, none is without time or words."""
    cut: list[tuple[Sequence[Unit], Seconds]] = []  # with the end of the segment
    for segment in segments:
        units = list(_units(segment, style))
        places = _breaks(units, style)
        cut += [(units[a:b], segment.end) for a, b in zip(places, places[1:])]
    cues: list[Cue] = []
    for said, _ in cut:
        start, end = said[0].start, min(said[-1].end, said[0].start + style.longest_s)
        if cues:
            start = max(start, cues[-1].start + 0.04)
            cues[-1] = replace(cues[-1], end=_until(cues[-1], start, style))
        cues.append(Cue(start, max(end, start + 0.04), _lines(said, style)))
    if cues:  # after the last one comes the end of the audio
        cues[-1] = replace(cues[-1], end=max(cues[-1].end, min(cut[-1][1], cues[-1].start + _reading(cues[-1], style))))
    return cues


def highlighted(cue: Cue) -> Iterator[tuple[Seconds, Seconds, Unit | None]]:
    """(start, end, the word that is said then, or None in a pause): without gaps over the time of the cue."""
    units, at = [unit for line in cue.lines for unit in line], cue.start
    for unit, following in zip(units, [*(unit.start for unit in units[1:]), cue.end]):
        start = min(max(unit.start, at), cue.end)
        end = following if following - unit.end < FLICKER_S else unit.end
        end = min(max(end, start), cue.end)
        if start - at >= 0.01:
            yield at, start, None
        else:
            start = at
        if end - start >= 0.01:
            yield start, end, unit
            at = end
    if cue.end - at >= 0.01:
        yield at, cue.end, None


def columns(text: str) -> int:
    """How wide a text is shown: 2 for wide East Asian characters, 0 for combining marks."""
    return sum(0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _units(segment: Segment, style: SubtitleOptions) -> Iterator[Unit]:
    words = segment.words or spread(segment.text, segment.start, segment.end)
    believed = (segment.end - segment.start) * FASTEST >= columns(segment.text)
    low, high = (segment.start, segment.end) if believed else (0.0, math.inf)
    at = low
    for word in words:
        start = min(max(word.start, at), high)
        end = min(max(word.end, start), high)
        # A word whose time goes on to the next one, as those from attention do, holds the pause between them.
        end = min(end, start + 0.6 + 0.12 * columns(word.text))
        yield from _divided(Word(word.text.replace("-->", "->"), start, end), style)
        at = start


def _divided(word: Word, style: SubtitleOptions) -> Iterator[Unit]:
    no_spaces = spaceless(word.text)
    if not no_spaces and columns(word.text) <= style.line_width:
        yield Unit(word.text, word.start, word.end, False)
        return
    parts: list[str] = []
    for character in word.text:
        inner = parts and (columns(character) == 0 or (no_spaces and unicodedata.category(character) in ("Pe", "Pf", "Po")))
        if inner or (parts and not no_spaces and columns(parts[-1] + character) <= style.line_width):
            parts[-1] += character
        else:
            parts.append(character)
    edges = [0, *accumulate(map(len, parts))]
    rate = (word.end - word.start) / edges[-1]
    for number, (part, a, b) in enumerate(zip(parts, edges, edges[1:])):
        yield Unit(part, word.start + a * rate, word.start + b * rate, number > 0)


def _breaks(units: Sequence[Unit], style: SubtitleOptions) -> list[int]:
    """0, the places before which a cue ends, len(units): the cheapest way."""
    gaps = [b.start - a.end for a, b in zip(units, units[1:])]
    inside = [0.4 * unit.text.endswith(tuple(SENTENCE)) + 0.6 * (gap >= BREATH_S) for unit, gap in zip(units, gaps)]
    before = [0.0, *accumulate(inside)]  # what the first n places cost if no cue ends there
    best: list[tuple[float, int]] = [(0.0, 0)]  # for the first n units: cost, and where the last cue begins
    for end in range(1, len(units) + 1):
        found = (math.inf, end - 1)
        for start in range(end - 1, -1, -1):
            alone = end - start == 1
            if not alone and (gaps[start] >= PAUSE_S or not _fits(units[start:end], style)):
                break
            cost = best[start][0] + _cost(units[start:end], style) + before[end - 1] - before[start]
            cost += _break_cost(units[end - 1], gaps[end - 1]) if end < len(units) else 0.0
            found = min(found, (cost, start))
        best.append(found)
    places = [len(units)]
    while places[-1]:
        places.append(best[places[-1]][1])
    return places[::-1]


def _fits(units: Sequence[Unit], style: SubtitleOptions) -> bool:
    return units[-1].end - units[0].start <= style.longest_s and _n_lines(units, style) <= style.lines


def _cost(units: Sequence[Unit], style: SubtitleOptions) -> float:
    wide = sum(unit.columns for unit in units)
    fill = max(wide / (style.lines * style.line_width), (units[-1].end - units[0].start) / style.longest_s)
    return 1.0 + 1.5 * (1.0 - min(1.0, fill)) ** 2


def _break_cost(unit: Unit, gap: Seconds) -> float:
    little = 0.2 * (len(unit.text) <= 3)  # articles and prepositions belong to what follows
    written = 0.0 if unit.text.endswith(tuple(SENTENCE)) else 0.5 if unit.text.endswith(tuple(CLAUSE)) else 2.0 + little
    return min(written, 2.0 * (1.0 - min(1.0, max(0.0, gap) / BREATH_S)))


def _n_lines(units: Sequence[Unit], style: SubtitleOptions) -> int:
    """Lines that the units fill, each as far as it goes."""
    count, wide, words = 0, math.inf, 0
    for unit in units:
        wide += unit.columns
        words += not unit.glued
        if wide > style.line_width or (style.line_words is not None and words > style.line_words):
            count, wide, words = count + 1, columns(unit.text), 1
    return count


def _lines(units: Sequence[Unit], style: SubtitleOptions) -> tuple[tuple[Unit, ...], ...]:
    """As many lines as are needed, as even as they can be: the smallest sum of squared widths, with a bonus for clauses."""
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]  # for the first n units, by number of lines: cost, begin of the last
    for end in range(1, len(units) + 1):
        here: dict[int, tuple[float, int]] = {}
        for start in range(end - 1, -1, -1):
            line = units[start:end]
            if end - start > 1 and _n_lines(line, style) > 1:
                break
            ends_well = end == len(units) or units[end - 1].text.endswith(tuple(SENTENCE + CLAUSE))
            cost = float(sum(unit.columns for unit in line)) ** 2 + (0 if ends_well else 2 * style.line_width)
            for count, (so_far, _) in best[start].items():
                here[count + 1] = min(here.get(count + 1, (math.inf, 0)), (so_far + cost, start))
        best.append(here)
    end, count = len(units), min(best[-1])
    lines: list[tuple[Unit, ...]] = []
    while end:
        start = best[end][count][1]
        lines.append(tuple(units[start:end]))
        end, count = start, count - 1
    return tuple(lines[::-1])


def _reading(cue: Cue, style: SubtitleOptions) -> Seconds:
    wanted = max(SHORTEST_S, sum(unit.columns for line in cue.lines for unit in line) / style.reading_speed)
    return min(wanted, style.longest_s)


def _until(cue: Cue, following: Seconds, style: SubtitleOptions) -> Seconds:
    """When a cue disappears: once it could be read, at the latest when the next one comes."""
    end = max(cue.end, cue.start + _reading(cue, style))
    return following if following - end < min(TOUCH_S, cue.start + style.longest_s - end) else min(end, following)
