"""Subtitles that can be read: short enough, broken where one breathes, in step with what is said."""

from __future__ import annotations

import math
import re

import pytest

from asrpeft.decoding.cues import columns, cues_of, highlighted
from asrpeft.decoding.segment import Segment
from asrpeft.decoding.words import Word, spread
from asrpeft.decoding.writers import write
from asrpeft.errors import BadInput
from asrpeft.options import SubtitleOptions

PROSE = (
    "It was a bright day in April, and the clocks were striking. She walked home through the narrow streets of the old town, "
    "bought two loaves of bread, and thought about nothing in particular until the rain began. Then she ran."
)
PLAIN = re.sub(r"[^a-z ]", "", PROSE.lower())
CHINESE = "今天天气非常好，我们一起去公园散步。公园里有很多人，孩子们在草地上玩耍，老人们坐在长椅上聊天。后来下起了大雨，我们只好跑回家去。"
THAI = "วันนี้อากาศดีมากเราจึงไปเดินเล่นที่สวนสาธารณะด้วยกันและเด็กๆก็เล่นกันอย่างสนุกสนานบนสนามหญ้า"


def spoken(text: str, start: float = 0.0, end: float = 16.0) -> Segment:
    return Segment(start, end, text, spread(text, start + 0.2, end - 0.2))


def timed(*words: tuple[str, float, float]) -> Segment:
    return Segment(0.0, words[-1][2] + 1.0, " ".join(word for word, _, _ in words), tuple(Word(*word) for word in words))


def texts(cues) -> list[list[str]]:
    return [["".join(unit.text if unit.glued else f" {unit.text}" for unit in line).strip() for line in cue.lines] for cue in cues]


STYLES = [
    SubtitleOptions(),
    SubtitleOptions(line_width=20, lines=1),
    SubtitleOptions(lines=3, longest_s=3.0),
    SubtitleOptions(line_words=1, lines=1),
    SubtitleOptions(line_words=3),
    SubtitleOptions(line_width=4),
    SubtitleOptions(longest_s=0.2),
]


@pytest.mark.parametrize("style", STYLES, ids=str)
@pytest.mark.parametrize(
    "segments",
    [
        [spoken(PROSE)],
        [spoken(PLAIN)],
        [spoken(PROSE, 0, 5), spoken(PLAIN, 5, 25), spoken("yes", 25.0, 25.1)],
        [spoken(CHINESE)],
        [spoken(THAI)],
        [spoken("https://example.org/" + "x" * 90 + " is an address")],
        [Segment(0.0, 40.0, PROSE)],
        [spoken("a b c", 1.0, 1.0)],
        [spoken("one", 3.0, 3.5), spoken("two", 3.0, 3.5), spoken("three", 3.0, 3.5)],
        [spoken("å" * 30 + " e\u0301" * 30)],
    ],
)
def test_every_cue_keeps_the_limits_and_nothing_is_lost(segments, style):
    cues = cues_of(segments, style)
    shown = texts(cues)
    assert re.sub(r"\s", "", "".join(line for cue in shown for line in cue)) == re.sub(r"\s", "", "".join(s.text for s in segments))
    for cue, lines in zip(cues, shown):
        assert 1 <= len(lines) <= style.lines and all(0 < columns(line) <= max(style.line_width, 4) for line in lines)
        assert style.line_words is None or all(sum(not unit.glued for unit in line) <= style.line_words for line in cue.lines)
        assert 0.03 < cue.end - cue.start < style.longest_s + 1e-6
    assert all(a.end <= b.start for a, b in zip(cues, cues[1:]))


def test_sixteen_seconds_without_a_pause_or_a_full_stop_are_several_even_cues():
    cues = cues_of([spoken(PLAIN)], SubtitleOptions())
    lengths = [cue.end - cue.start for cue in cues]
    assert len(cues) > 2 and max(lengths) <= 7.0 and max(lengths) < 2 * min(lengths)


def test_sentences_and_clauses_end_cues_rather_than_the_middle_of_a_phrase():
    ends = [cue[-1].split()[-1] for cue in texts(cues_of([spoken(PROSE)], SubtitleOptions()))]
    assert all(end[-1] in ".," for end in ends)
    chinese = ["".join(cue) for cue in texts(cues_of([spoken(CHINESE)], SubtitleOptions()))]
    assert len(chinese) > 1 and all(cue[-1] in "。，" for cue in chinese) and not any(cue[0] in "。，" for cue in chinese)


def test_a_pause_ends_a_cue():
    segment = timed(("we", 0.0, 0.2), ("paused", 0.2, 0.6), ("here", 2.0, 2.3), ("and", 2.4, 2.5), ("went", 2.6, 2.8), ("on", 2.8, 3.0))
    assert texts(cues_of([segment], SubtitleOptions())) == [["we paused"], ["here and went on"]]
    breath = timed(*((f"word{n}", n * 0.5 + 0.6 * (n > 9), n * 0.5 + 0.45 + 0.6 * (n > 9)) for n in range(20)))
    assert texts(cues_of([breath], SubtitleOptions()))[0][-1].endswith("word9")


def test_a_word_whose_time_runs_on_to_the_next_holds_the_pause():
    """Times from attention know only where words begin."""
    segment = timed(("before", 0.0, 4.0), ("after", 4.0, 4.5))
    (first, second) = cues_of([segment], SubtitleOptions())
    assert first.end < 3.0 and second.start == 4.0


def test_a_cue_stays_until_it_could_be_read_where_the_next_leaves_time():
    quick = timed(("extraordinarily", 0.0, 0.2), ("quick", 0.2, 0.4), ("words", 3.0, 3.1), ("so", 9.0, 9.05))
    first, second, last = cues_of([quick], SubtitleOptions(reading_speed=10.0))
    assert first.end == pytest.approx(22 / 10) and second.end == pytest.approx(3.8)
    assert last.end == pytest.approx(9.8)
    assert cues_of([timed(("so", 1.0, 1.1)), spoken("then", 1.5, 2.5)], SubtitleOptions())[0].end == pytest.approx(1.7)  # and touches the next
    assert cues_of([Segment(0.0, 0.4, "yes")], SubtitleOptions())[0].end == pytest.approx(0.4)


def test_lines_are_even_and_rather_end_at_a_clause():
    (cue,) = texts(cues_of([spoken("so we went home again, and then it rained all night", 0, 4)], SubtitleOptions()))
    assert cue == ["so we went home again,", "and then it rained all night"]
    (cue,) = texts(cues_of([spoken("so we went home again and it rained on everybody", 0, 4)], SubtitleOptions()))
    assert abs(len(cue[0]) - len(cue[1])) <= 6


def test_timestamps_of_the_model_are_kept_unless_nobody_could_speak_so_fast():
    words = (Word("hello", 0.5, 2.6), Word("there", 2.6, 2.9))
    (cue,) = cues_of([Segment(1.0, 2.0, "hello there", words)], SubtitleOptions())
    assert (cue.start, cue.end) == (1.0, 2.0)
    (cue,) = cues_of([Segment(1.0, 1.0, "hello there", words)], SubtitleOptions())
    assert (cue.start, cue.end) == (0.5, 2.9)


def test_highlighted_words_follow_the_speech_in_either_format():
    segment = timed(("how", 0.5, 0.7), ("<are>", 0.8, 1.0), ("you", 1.6, 1.9))
    style = SubtitleOptions(highlight=True)
    assert write([segment], "vtt", style=style) == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:00.800\n<u>how</u> &lt;are&gt; you\n\n"
        "00:00:00.800 --> 00:00:01.000\nhow <u>&lt;are&gt;</u> you\n\n"
        "00:00:01.000 --> 00:00:01.600\nhow &lt;are&gt; you\n\n"
        "00:00:01.600 --> 00:00:01.900\nhow &lt;are&gt; <u>you</u>\n\n"
    )
    assert write([segment], "srt", style=style).count("-->") == 4 and "<u>you</u>" in write([segment], "srt", style=style)
    for cue in cues_of([spoken(PROSE), spoken(CHINESE, 16, 20)], style):
        parts = list(highlighted(cue))
        assert parts[0][0] == cue.start and parts[-1][1] == cue.end
        assert all(math.isclose(a[1], b[0]) for a, b in zip(parts, parts[1:]))
        assert all(end - start >= 0.25 for start, end, said in parts if said is None)  # a shorter pause would only flicker


def test_no_text_is_no_cue():
    assert cues_of([], SubtitleOptions()) == [] and write([], "srt") == "" and cues_of([Segment(0.0, 1.0, "")], SubtitleOptions()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"line_width": 3},
        {"lines": 0},
        {"line_words": 0},
        {"longest_s": 0.0},
        {"longest_s": float("nan")},
        {"longest_s": float("inf")},
        {"reading_speed": 0.0},
        {"reading_speed": float("nan")},
    ],
)
def test_a_style_in_which_nothing_could_be_shown_is_refused(wrong):
    with pytest.raises(BadInput):
        SubtitleOptions(**wrong)
