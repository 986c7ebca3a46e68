"""Transcripts as files that players and tables can read."""

from __future__ import annotations

import json

import pytest

from asrpeft.decoding.segment import Segment
from asrpeft.decoding.timestamps import stretches
from asrpeft.decoding.words import Word
from asrpeft.decoding.writers import WRITERS, clock, write
from asrpeft.errors import BadInput

SEGMENTS = [
    Segment(0.0, 1.5, "Habari ya", (Word("Habari", 0.0, 0.8, 0.9), Word("ya", 0.8, 1.5)), "sw", "a"),
    Segment(3725.25, 3730.0, "asubuhi <b> & --> \n\n jioni"),
]


def test_each_format_is_what_its_readers_expect():
    assert write(SEGMENTS[:1], "txt") == "Habari ya\n"
    assert write(SEGMENTS, "srt") == ("1\n00:00:00,000 --> 00:00:01,500\nHabari ya\n\n2\n01:02:05,250 --> 01:02:10,000\nasubuhi <b> & -> jioni\n\n")
    assert write(SEGMENTS, "vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHabari ya\n\n01:02:05.250 --> 01:02:10.000\nasubuhi &lt;b&gt; &amp; -")
    assert write(SEGMENTS, "tsv") == "start\tend\ttext\n0\t1500\tHabari ya\n3725250\t3730000\tasubuhi <b> & --> jioni\n"


def test_json_has_text_language_segments_and_words():
    report = json.loads(write(SEGMENTS, "json"))
    assert report["text"].startswith("Habari ya asubuhi") and (report["language"], report["adapter"]) == ("sw", "a")
    assert [s["id"] for s in report["segments"]] == [0, 1] and report["segments"][1]["start"] == 3725.25
    assert report["words"] == [
        {"word": "Habari", "start": 0.0, "end": 0.8, "probability": 0.9},
        {"word": "ya", "start": 0.8, "end": 1.5, "probability": None},
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_transcript_is_still_a_file_of_its_kind(kind):
    text = write([], kind)
    assert text == {"vtt": "WEBVTT\n\n", "tsv": "start\tend\ttext\n"}.get(kind, text)
    if kind == "json":
        assert json.loads(text) == {"text": "", "language": None, "adapter": None, "segments": [], "words": []}


def test_an_unknown_format_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match="json, srt, tsv, txt, vtt"):
        write(SEGMENTS, "docx")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.000"), (59.9996, "00:01:00.000"), (-1, "00:00:00.000"), (36_000.5, "10:00:00.500")],
)
def test_times_round_over_all_places(seconds, text):
    assert clock(seconds, ".") == text


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ([], []),
        ([1, 2], [(0.0, 9.0, (1, 2))]),  # no timestamps at all
        ([100, 1, 2, 150], [(0.0, 1.0, (1, 2))]),
        ([100, 1, 150, 150, 2, 200], [(0.0, 1.0, (1,)), (1.0, 2.0, (2,))]),
        ([110, 1, 150, 175, 2], [(0.2, 1.0, (1,)), (1.5, 9.0, (2,))]),  # cut off before its closing stamp
        ([100, 1, 100 + 1000], [(0.0, 9.0, (1,))]),  # beyond the audio
        ([150, 1, 120, 120, 2, 200], [(1.0, 1.0, (1,)), (1.0, 2.0, (2,))]),  # never back in time
    ],
)
def test_timestamp_tokens_divide_a_transcript(tokens, found):
    assert [(s.start, s.end, s.tokens) for s in stretches(tokens, first=100, seconds=9.0)] == found
