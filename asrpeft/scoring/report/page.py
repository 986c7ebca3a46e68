"""What a page has beside tables and pictures: every utterance with its alignment, to be searched, sorted and heard.

An alignment is drawn as columns, reference above hypothesis, with a letter under each mistake (S, D, I), so that it can be
read without colors. Texts run in their own direction (`dir="auto"`). The worst rows come first, and where there are more than
`most_rows` utterances only those are listed, and the page says so.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from asrpeft.report.words import percent
from asrpeft.scoring.alignment import Edit
from asrpeft.scoring.errors import Score, UtteranceScore, by_id
from asrpeft.scoring.report.assets import SCRIPT

if TYPE_CHECKING:
    from asrpeft.scoring.report.contents import Report

_ORDERS = (
    ("errors", "most errors"),
    ("wer", "highest WER"),
    ("change", "greatest change from first to last system"),
    ("file", "as in the corpus"),
)
_LOOKS = {"hit": ("same", ""), "substitution": ("s", "S"), "deletion": ("d", "D"), "insertion": ("n", "I")}
MOST_ROWS = 500
_SOUNDS = ((b"fLaC", "flac"), (b"OggS", "ogg"), (b"ID3", "mpeg"), (b"\xff\xfb", "mpeg"), (b"RIFF", "wav"))


def listed(report: Report, *, most_rows: int = MOST_ROWS) -> list[str]:
    """The ids of the utterances that a page lists, in its order: those with most errors of any system first."""
    return [row.id for _, row, _ in _by_errors(report)[:most_rows]]


def _by_errors(report: Report) -> list[tuple[int, UtteranceScore, int]]:
    """(place in the corpus, row of the first system, most errors of any system), the worst first."""
    by_ids = [by_id(score) for score in report.scores]

    def errors(row: UtteranceScore) -> int:
        return max((rows[row.id].counts.errors for rows in by_ids if row.id in rows), default=0)

    found = [(place, row, errors(row)) for place, row in enumerate(report.scores[0].rows)]
    return sorted(found, key=lambda item: -item[2])


def utterances(report: Report, audio: Mapping[str, bytes], no_player: Mapping[str, str], most: int) -> str:
    """The list as elements of a page, with what searches and sorts it; arguments as `Report.document`."""
    by_ids = [by_id(score) for score in report.scores]
    found = _by_errors(report)
    cut = f" Of {len(found):,} utterances the {most} with most errors are listed." if len(found) > most else ""
    articles = []
    for place, row, errors in found[:most]:
        versions = [(score, rows[row.id]) for score, rows in zip(report.scores, by_ids, strict=True) if row.id in rows]
        articles.append(_article(place, row, versions, errors, _player(audio.get(row.id), no_player.get(row.id))))
    options = "".join(f'<option value="{value}">{text}</option>' for value, text in _ORDERS)
    return (
        '<h2>Utterances</h2><p class="key dim"><span class="e s">S</span>another word '
        f'<span class="e d">D</span>left out <span class="e n">I</span>put in. Above: reference; below: heard.{cut}</p>'
        '<div class="bar"><input id="find" type="search" placeholder="Search words, ids, speakers" aria-label="Search">'
        f'<label>Order <select id="order">{options}</select></label>'
        '<label><input id="only" type="checkbox"> only with errors</label><span id="count" class="dim"></span></div>'
        f'<div id="rows">{"".join(articles)}</div><script>{SCRIPT}</script>'
    )


def _article(place: int, row: UtteranceScore, versions: list[tuple[Score, UtteranceScore]], errors: int, player: str) -> str:
    words = " ".join([row.id, row.speaker or "", row.reference, *(own.hypothesis for _, own in versions)]).lower()
    data = {
        "place": place,
        "errors": errors,
        "wer": f"{max((own.counts.wer for _, own in versions if own.counts.words), default=0.0):.4f}",
        "change": abs(versions[-1][1].counts.errors - versions[0][1].counts.errors),
        "text": escape(words),
    }
    parts = [
        "<article " + " ".join(f'data-{key}="{value}"' for key, value in data.items()) + ">",
        f"<header><b>{escape(row.id)}</b>",
        f"<span>speaker {escape(row.speaker)}</span>" if row.speaker else "",
        f"<span>{row.counts.words} words</span>{player}</header>",
    ]
    for score, own in versions:
        c = own.counts
        what = f"WER {percent(c.wer, digits=1)} %: {c.substitutions} S, {c.deletions} D, {c.insertions} I"
        parts.append(f'<div class="system">{escape(score.name)}, {what}</div>{_alignment(own.edits)}')
    return "".join(parts) + "</article>"


def _alignment(edits: list[Edit]) -> str:
    """Columns of words: reference, hypothesis, and the letter of the mistake."""
    columns = []
    for kind, reference, heard in edits:
        css, letter = _LOOKS[kind]
        columns.append(
            f'<span class="e {css}"><span class="r">{escape(reference or "")}</span><span class="h">{escape(heard or "")}</span><i>{letter}</i></span>'
        )
    inside = "".join(columns) or '<span class="dim">(nothing said, nothing heard)</span>'
    return f'<div class="align" dir="auto">{inside}</div>'


def _player(sound: bytes | None, why_not: str | None) -> str:
    if sound is None:
        return f'<span class="dim">no player: {escape(why_not)}</span>' if why_not else ""
    kind = next((name for sign, name in _SOUNDS if sound.startswith(sign)), "mp4" if sound[4:8] == b"ftyp" else "wav")
    return f'<audio controls preload="none" src="data:audio/{kind};base64,{base64.b64encode(sound).decode()}"></audio>'


def playable(sound: bytes) -> bool:
    """Whether browsers know this kind of file."""
    return any(sound.startswith(sign) for sign, _ in _SOUNDS) or sound[4:8] == b"ftyp" or sound[:2] in (b"\xff\xf3", b"\xff\xf2")
