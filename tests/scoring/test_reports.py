"""Every layout of a report says the same, holds any text safely, and stands alone."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from rich.console import Console

from asrpeft.errors import BadInput
from asrpeft.report import figures
from asrpeft.scoring import Bootstrap, breakdown, calibration, non_inferiority, nonspeech, report, score, word_correctness
from asrpeft.scoring.report import Amount, Condition, plots, sclite
from asrpeft.scoring.wording import sentence

from .worlds import corpus

NASTY = '<script>alert("x")</script> [bold]red[/bold] a|b السَّلامُ नमस्ते'


@pytest.fixture(scope="module")
def full():
    references, heard, speakers, ids = corpus(1, rates=(0.6, 0.2), utterances=48)
    references[0], heard[0][0], heard[1][0] = NASTY, NASTY, NASTY + " tail"
    scores = [
        score(references, texts, speakers=speakers, ids=ids, name=name, bootstrap=Bootstrap(resamples=300), normalizer="none")
        for name, texts in zip(("base", "lo<ra>"), heard, strict=True)
    ]
    right = [ok for row in word_correctness(scores[1]) for ok in row]
    return report.make(
        scores,
        title="A & B",
        breakdowns=tuple(breakdown(one, speakers, column="speaker", resamples=100) for one in scores),
        calibrations={"lo<ra>": calibration([0.9 if ok else 0.4 for ok in right], right)},
        conditions=(Condition("clean", tuple(scores)), Condition("noise 10 dB", tuple(reversed(scores)))),
        curve=(Amount(0.1, scores[0]), Amount(5, scores[1])),
        guards={"lo<ra>": non_inferiority(scores[0], scores[1], max_loss=0.03)},
        nonspeech={"base": nonspeech(["", "x"], seconds=10)},
    )


def layouts(contents):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report.show(contents, console)
    return {"terminal": console.export_text(), "markdown": report.markdown(contents), "html": report.html(contents)}


def test_every_layout_has_every_systems_numbers_and_the_finding(full):
    for name, text in layouts(full).items():
        for one in full.scores:
            assert f"{100 * one.wer:.2f}" in text and f"{100 * one.raw.cer:.2f}" in text, name
        assert "better" in text and "signed_rank" in text and "over 12 speakers" in " ".join(text.split()), name


def test_a_report_of_one_system_has_no_tests(full):
    alone = report.make(full.scores[:1])
    assert alone.comparisons == () and all("Paired tests" not in text for text in layouts(alone).values())


def test_the_findings_words_are_the_verdicts_only(full):
    (made,) = full.comparisons
    said = sentence(made)
    assert made.verdict == "better" and "is better than" in said and "p = 0.0005" in said and "CER -" in said
    assert "is not distinguishable from" in sentence(report.make([full.scores[0], _renamed(full.scores[0])]).comparisons[0])


def _renamed(one):
    return score(
        [r.raw_reference for r in one.rows],
        [r.raw_hypothesis for r in one.rows],
        ids=[r.id for r in one.rows],
        speakers=[r.speaker for r in one.rows],
        name="copy",
        bootstrap=None,
        normalizer="none",
    )


@pytest.fixture(scope="module")
def page_text(full):
    return report.html(full)


class Page(HTMLParser):
    """Collects what a browser would fetch or run, and whether the tags close."""

    def __init__(self):
        super().__init__()
        self.fetched, self.scripts, self.open, self.text = [], 0, [], []

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ("src", "href", "xlink:href") and not value.startswith(("data:", "#")):
                self.fetched.append(value)
        self.scripts += tag == "script"
        if tag not in ("meta", "input", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_well_formed_fetches_nothing_and_runs_only_its_own_script(page_text):
    page = Page()
    page.feed(page_text)
    assert page.fetched == [] and page.scripts == 1 and page.open == []
    assert not re.search(r"url\(\s*['\"]?(?!#)\w", page_text)
    assert any("alert(" in text for text in page.text)  # shown as text


def test_the_page_marks_mistakes_with_letters_and_lets_text_run_its_own_way(page_text):
    for letter in "SDI":
        assert f"<i>{letter}</i>" in page_text
    assert 'class="align" dir="auto"' in page_text


def test_audio_is_inside_the_page_only_where_it_was_given(full):
    import base64

    sound = b"RIFF\x00\x00\x00\x00WAVEfmt "
    text = report.html(full, audio={full.scores[0].rows[3].id: sound, "unknown": b"ID3"})
    assert text.count("<audio") == 1 and base64.b64encode(sound).decode() in text and "data:audio/wav" in text


def test_a_long_page_lists_the_worst_and_says_that_it_does(full):
    text = report.html(full, most_rows=5)
    assert text.count("<article") == 5 and "Of 48 utterances the 5 with most errors" in text


def test_ids_on_the_page_are_unique(page_text):
    found = re.findall(r'\sid="([^"]+)"', page_text)
    assert len(found) == len(set(found))


def test_markdown_tables_have_as_many_cells_in_every_row(full):
    width = None
    for line in report.markdown(full).splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert width in (None, cells)
            width = cells
        else:
            width = None


def test_the_json_is_strict_and_has_the_designs_keys(full):
    made = json.loads(json.dumps(full.to_json(rows=True), allow_nan=False))
    assert {"systems", "tests", "skipped"} <= set(made)
    assert [one["name"] for one in made["systems"]] == ["base", "lo<ra>"]
    row = made["systems"][0]["rows"][1]
    assert {"id", "speaker", "reference", "hypothesis", "alignment"} <= set(row)
    assert made["systems"][1]["guard"]["passed"] is True and len(made["conditions"]) == 2 and made["curve"][1]["hours"] == 5


def test_every_picture_is_an_svg_that_parses_the_same_bytes_each_time_and_a_png(full):
    drawn = list(plots.pictures(full))
    for one in drawn:
        made = figures.svg(one.draw())
        assert ElementTree.fromstring(made).tag.endswith("svg"), one.caption
        assert made == figures.svg(one.draw())
    assert figures.png(drawn[0].draw()).startswith(b"\x89PNG")
    assert [one.name for one in drawn] == ["wer", "speakers", "by-speaker", "utterances", "conditions", "amounts", "confidence"]


@pytest.mark.parametrize(("scores", "said"), [(lambda f: [], "at least one"), (lambda f: [f.scores[0]] * 2, "own name")])
def test_a_report_that_cannot_be_is_refused(full, scores, said):
    with pytest.raises(BadInput, match=said):
        report.make(scores(full))


def test_sclite_files_hold_texts_alignments_and_sums(full, tmp_path):
    one = full.scores[1]
    paths = sclite.write(one, tmp_path / "deep" / "x")
    assert [path.name for path in paths] == ["x.ref.trn", "x.trn", "x.pra", "x.sys"]
    assert len(paths[1].read_text().splitlines()) == one.utterances
    assert f"{100 * one.wer:.1f}" in paths[3].read_text().split("Sum/Avg")[1]
    scored = re.findall(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", paths[2].read_text())
    assert [sum(map(int, column)) for column in zip(*scored, strict=True)] == [
        one.hits,
        one.substitutions,
        one.deletions,
        one.insertions,
    ]


def test_every_trn_id_says_its_speaker_though_ids_begin_with_its_digits():
    made = score(["a"] * 4, ["a"] * 4, ids=["1-1", "10", "1_3", "20"], speakers=["1", "1", "1", "2"])
    assert sclite.trn_ids(made) == ["1-1", "1-10", "1_3", "2-20"]


def test_names_of_systems_are_not_read_as_markup():
    made = score(["a b"], ["a c"], name="[/bold] [base]")
    console = Console(record=True, width=200, file=io.StringIO())
    report.show(report.make([made]), console)
    assert "[/bold] [base]" in console.export_text()


def test_ids_become_such_as_trn_can_hold_and_stay_different():
    one = score(["a", "b", "c"], ["a", "b", "c"], ids=["x (1)", "x 1", "x_1_"], speakers=["s", "s", "x"], bootstrap=None)
    assert sclite.trn_ids(one) == ["s-x_1_", "s-x_1", "x_1_"]
    same = score(["a", "b"], ["a", "b"], ids=["u (1)", "u [1]".replace("[", "(").replace("]", " )")], bootstrap=None)
    assert len(set(sclite.trn_ids(same))) == 2
    assert all(line.count("(") == line.count(")") == 1 for line in sclite.trn(same).splitlines())
