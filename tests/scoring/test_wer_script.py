"""`scripts/wer.py` as a user runs it: forms of files, matching by id, output, exit status."""

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asrpeft.errors import BadInput
from asrpeft.scoring import Transcripts, read_transcripts, with_ids

from .worlds import corpus

SCRIPT = Path(__file__).parents[2] / "scripts" / "wer.py"
TEXTS = {"spk1-u1": "ka lo mi", "spk1-u2": "wɔ́ ndzó", "spk2-u1": "sa ne, ro"}
HEARD = {"spk2-u1": "sa ne ro", "spk1-u1": "ka mi", "spk1-u2": ""}


@pytest.fixture(scope="session")
def wer():
    """The script as a module, for the many cases that need no process of their own."""
    spec = importlib.util.spec_from_file_location("wer_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments, cwd=None):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def written(path, texts, form):
    lines = {
        "plain": lambda: "".join(f"{text}\n" for text in texts.values()),
        "kaldi": lambda: "".join(f"{one} {text}\n" for one, text in texts.items()),
        "trn": lambda: "".join(f"{text} ({one})\n" for one, text in texts.items()),
        "csv": lambda: "id,text\n" + "".join(f'{one},"{text}"\n' for one, text in texts.items()),
        "tsv": lambda: "utt_id\tsentence\n" + "".join(f"{one}\t{text}\n" for one, text in texts.items()),
        "jsonl": lambda: "".join(json.dumps({"id": one, "text": text}) + "\n" for one, text in texts.items()),
        "json": lambda: json.dumps(texts),
    }[form]()
    path.write_text(lines, encoding="utf-8")
    return path


SUFFIX = {"plain": "txt", "kaldi": "txt", "trn": "txt"}


@pytest.mark.parametrize("form", ["kaldi", "trn", "csv", "tsv", "jsonl", "json"])
def test_every_form_with_ids_is_recognized_and_matched_by_id(tmp_path, form):
    reference = read_transcripts(written(tmp_path / f"ref.{SUFFIX.get(form, form)}", TEXTS, form))
    assert reference.format == form and dict(zip(reference.ids, reference.texts, strict=True)) == TEXTS


def test_systems_side_by_side_in_json_and_nothing_else_on_standard_output(tmp_path):
    reference, one, two = (
        written(tmp_path / name, texts, form) for name, texts, form in (("ref.csv", TEXTS, "csv"), ("a.txt", HEARD, "kaldi"), ("b.jsonl", TEXTS, "jsonl"))
    )
    done = run(reference, one, "--json")
    made = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert (made["name"], made["words"], made["deletions"]) == ("a", 8, 3) and made["wer"] == pytest.approx(3 / 8)
    assert made["raw"]["wer"] == pytest.approx(4 / 8) and made["normalizer"] == "marks@1"
    both = json.loads(run(reference, one, two, "--json", "--names", "x,y").stdout)
    assert [system["name"] for system in both["systems"]] == ["x", "y"]
    assert both["systems"][1]["wer"] == 0 and {"a", "b", "difference", "p", "verdict"} <= set(both["tests"][0])


def test_plain_lines_are_paired_in_order(tmp_path):
    (tmp_path / "ref").write_text("the cat\n\nsat down\r\n")
    (tmp_path / "hyp").write_text("the cat\nuh\nsat")
    made = json.loads(run(tmp_path / "ref", tmp_path / "hyp", "--json").stdout)
    assert (made["utterances"], made["words"], made["insertions"], made["deletions"]) == (3, 4, 1, 1)


@pytest.mark.parametrize(
    ("reference", "heard", "wer", "words"),
    [
        ("u1 the cat sat\nu2 a dog ran off\n", "u2 a dog ran off\nu1 the cat sat\n", 0, 7),
        ("u1 the cat sat\nu2 a dog ran off\n", "u1 the cat sat\nu2 a dog\n", 2 / 7, 7),  # ids are no words that were right
        ("0001 the cat\n0002 a dog\n", "0002 a dog\n0001\n", 2 / 4, 4),
        ("anna the cat\nbert a dog\n", "bert a dog\nanna the cat\n", 0, 4),  # any first words, where the order differs
        ("u1 the cat\n\nu2 a dog\n", "u2 a dog\nu1 the cat", 0, 4),
    ],
)
def test_short_kaldi_ids_are_matched_by_id_whatever_their_order(tmp_path, reference, heard, wer, words):
    (tmp_path / "ref.txt").write_text(reference)
    (tmp_path / "hyp.txt").write_text(heard)
    made = json.loads(run(tmp_path / "ref.txt", tmp_path / "hyp.txt", "--json", "--resamples", "0").stdout)
    assert (made["wer"], made["words"]) == (pytest.approx(wer), words)


@pytest.mark.parametrize(
    ("reference", "heard"),
    [
        (["the cat", "a dog"], ["the cap", "a dog"]),  # sentences, however different their first words
        (["mp3 players"], ["mp3 player"]),
        (["7 3 1", "4 4 2"], ["7 3 1", "4 2"]),  # digits that were said
        (["u1 the cat", "u1 a dog"], ["u1 the cat", "u1 a dog"]),  # an id is of one utterance
    ],
)
def test_texts_that_begin_with_different_words_are_no_ids(reference, heard):
    files = [Transcripts(name, "plain", tuple(lines)) for name, lines in (("ref", reference), ("hyp", heard))]
    assert with_ids(files[0], files[1:]) == (files[0], files[1:])


def test_short_ids_that_only_one_side_has_are_named(tmp_path):
    (tmp_path / "ref.csv").write_text("id,text\nu1,the cat\nu2,a dog\n")
    (tmp_path / "hyp.txt").write_text("u2 a dog\nu3 a cow\n")
    done = run(tmp_path / "ref.csv", tmp_path / "hyp.txt")
    assert done.returncode == 2 and "u1" in done.stderr and "u3" in done.stderr
    (tmp_path / "ref.txt").write_text("u1 the cat\nu2 a dog\n")
    plainly = json.loads(run(tmp_path / "ref.txt", tmp_path / "hyp.txt", "--format", "plain", "--json").stdout)
    assert plainly["words"] == 6  # as it was asked for


def test_tables_for_people_name_speakers_groups_and_files(tmp_path):
    references, (heard,), speakers, ids = corpus(1, rates=(0.3,))
    rows = ["id\ttext\tspeaker\tage"] + [f"{i}\t{t}\t{s}\t{20 + int(s[1:])}" for i, t, s in zip(ids, references, speakers, strict=True)]
    (tmp_path / "ref.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "hyp.trn").write_text("".join(f"{t} ({i})\n" for t, i in zip(heard, ids, strict=True)))
    (tmp_path / "hot.txt").write_text("ba\n\nka mi\n")
    (tmp_path / "train.txt").write_text("ba be bi\n" * 20)
    done = run(
        "ref.tsv",
        "hyp.trn",
        "--by",
        "age,speaker",
        "--hotwords",
        "hot.txt",
        "--train-text",
        "train.txt",
        "--html",
        "out/page.html",
        "--md",
        "out/page.md",
        "--sclite",
        "out/nist",
        "--resamples",
        "300",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for words in ("12 speakers", "By age", "By speaker", "Hot words", "unseen", "Most frequent mistakes"):
        assert words in done.stdout
    for name in ("page.html", "page.md", "nist.trn", "nist.ref.trn", "nist.pra", "nist.sys"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    detail = json.loads(run("ref.tsv", "hyp.trn", "--by", "age", "--json", "--rows", cwd=tmp_path).stdout)
    assert detail["interval_unit"] == "speaker" and detail["breakdowns"][0]["column"] == "age" and len(detail["rows"]) == 60


def test_speakers_may_come_from_a_file_of_their_own(tmp_path):
    references, (heard,), speakers, ids = corpus(2, rates=(0.3,))
    for name, texts in (("ref.txt", references), ("hyp.txt", heard)):
        (tmp_path / name).write_text("".join(f"{i} {t}\n" for i, t in zip(ids, texts, strict=True)))
    (tmp_path / "utt2spk").write_text("".join(f"{i} {s}\n" for i, s in zip(reversed(ids), reversed(speakers), strict=True)))
    (tmp_path / "spk.csv").write_text("id,speaker_id\n" + "".join(f"{i},{s}\n" for i, s in zip(ids, speakers, strict=True)))
    (tmp_path / "spk.list").write_text("".join(f"{s}\n" for s in speakers))
    made = [
        json.loads(run("ref.txt", "hyp.txt", "--speakers", name, "--json", "--resamples", "100", cwd=tmp_path).stdout)
        for name in ("utt2spk", "spk.csv", "spk.list")
    ]
    assert made[0]["interval_unit"] == "speaker" and made[0] == made[1] == made[2]


def test_speakers_with_numbers_for_names_may_come_as_json(tmp_path, wer, capsys):
    (tmp_path / "spk.jsonl").write_text("".join(json.dumps({"id": one, "speaker": n}) + "\n" for n, one in enumerate(TEXTS)))
    reference = str(written(tmp_path / "ids.csv", TEXTS, "csv"))
    assert wer.main([reference, reference, "--speakers", str(tmp_path / "spk.jsonl"), "--by", "speaker", "--json"]) == 0
    assert {group["value"] for group in json.loads(capsys.readouterr().out)["breakdowns"][0]["groups"]} == {"0", "1", "2"}


def test_options_may_stand_between_the_files(tmp_path, wer, capsys):
    reference = str(written(tmp_path / "ids.csv", TEXTS, "csv"))
    assert wer.main([reference, "--resamples", "10", reference, "--json"]) == 0 and json.loads(capsys.readouterr().out)["wer"] == 0


def test_a_reader_who_has_seen_enough_is_no_mistake(tmp_path):
    reference = written(tmp_path / "ids.csv", {f"u{n}": "a b c" for n in range(3_000)}, "csv")
    scored = shlex.join(map(str, [sys.executable, SCRIPT, reference, reference, "--json", "--rows"]))
    command = f"{scored} | head -c 5; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and "Broken pipe" not in done.stderr and "Traceback" not in done.stderr


def test_the_normalizers_are_listed():
    done = run("--list")
    assert done.returncode == 0 and "marks " in done.stdout and "whisper-basic" in done.stdout


CASES = [
    (["ref.txt", "nowhere.txt"], "cannot read"),
    (["ref.txt"], "REF HYP"),
    (["ref.txt", "short.txt"], "3 texts and"),
    (["ids.csv", "missing.csv"], "spk1-u2"),
    (["ids.csv", "extra.csv"], "spk9-u9"),
    (["ids.csv", "ref.txt"], "--by-order"),
    (["ids.csv", "ids.csv", "--by", "age"], "id, text"),
    (["ids.csv", "ids.csv", "--normalizer", "nope"], "marks"),
    (["ids.csv", "ids.csv", "--text-column", "words"], "no column 'words'"),
    (["ids.csv", "ids.csv", "--names", "a,b"], "1 different names"),
    (["ids.csv", "ids.csv", "--resamples", "-1"], "--resamples"),
    (["ids.csv", "ids.csv", "--seed", "-1"], "--seed"),
    (["ref.txt", "ref.txt", "--speakers", "utt2spk"], "looks like utt2spk"),
    (["ids.csv", "ids.csv", "--speakers", "short.txt"], "has no speaker for 3"),
    (["twice.csv", "ids.csv"], "more than once"),
    (["ragged.csv", "ids.csv"], "line 2"),
    (["broken.jsonl", "ids.csv"], "line 2"),
    (["notext.csv", "ids.csv"], "--text-column"),
    (["empty.txt", "ids.csv"], "empty"),
    (["latin.txt", "ids.csv"], "UTF-8"),
    (["ids.csv", "ids.csv", "--level", "95"], "between 0 and 1"),
    (["ids.csv", "ids.csv", "--html", "ref.txt/x/page.html"], "cannot write"),
    (["alt.trn", "ids.csv"], "alternatives"),
    (["ids.csv", "ids.csv", "--format", "word"], "invalid choice"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("wer")
    written(made / "ref.txt", TEXTS, "plain")
    written(made / "ids.csv", TEXTS, "csv")
    written(made / "missing.csv", {k: v for k, v in TEXTS.items() if k != "spk1-u2"}, "csv")
    written(made / "extra.csv", {**TEXTS, "spk9-u9": "x"}, "csv")
    (made / "short.txt").write_text("one line\n")
    (made / "utt2spk").write_text("u1 s1\nu2 s1\nu3 s2\n")
    (made / "twice.csv").write_text("id,text\na,x\na,y\n")
    (made / "ragged.csv").write_text("id,text\na,x,y\n")
    (made / "broken.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": \n')
    (made / "notext.csv").write_text("id,value\na,x\n")
    (made / "empty.txt").write_text("")
    (made / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    (made / "alt.trn").write_text("a { b / c } (u-1)\n")
    return made


@pytest.mark.parametrize(("arguments", "said"), CASES)
def test_a_users_mistake_ends_with_status_2_and_says_what_to_do(folder, arguments, said, wer, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    try:
        status = wer.main(arguments)
    except SystemExit as ended:  # argparse's way to end
        status = ended.code
    printed = capsys.readouterr()
    assert status == 2 and said in printed.err and printed.out == ""


def test_the_process_itself_ends_with_status_2_without_a_traceback(folder):
    done = run("ids.csv", "missing.csv", cwd=folder)
    assert done.returncode == 2 and "spk1-u2" in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("text", "a b c\nd e f\n", "kaldi"),
        ("x.txt", "the cat sat\na dog ran\n", "plain"),
        ("x.txt", "covid-19 is here\ncovid-19 is gone\n", "plain"),
        ("x.txt", "see (you)\nhello there\n", "plain"),
        ("x.txt", "u-1 a b\nu-2\n", "kaldi"),
        ("x.hyp", "a b (u-1)\n(u-2)\n", "trn"),
    ],
)
def test_a_form_is_guessed_from_the_name_and_the_lines(tmp_path, name, content, form):
    (tmp_path / name).write_text(content)
    made = read_transcripts(tmp_path / name)
    assert made.format == form and len(made) == 2


def test_a_text_may_hold_quotes_commas_and_odd_line_separators(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\nu1,"he said ""no"", then\u2028left"\n', encoding="utf-8")
    (tmp_path / "a.tsv").write_text('id\ttext\nu1\the said "no\n', encoding="utf-8")
    assert read_transcripts(tmp_path / "a.csv").texts == ('he said "no", then\u2028left',)
    assert read_transcripts(tmp_path / "a.tsv").texts == ('he said "no',)


def test_a_table_with_both_texts_can_be_scored_against_itself(tmp_path):
    (tmp_path / "both.csv").write_text("id,reference,hypothesis\nu1,a b c,a b\n")
    made = json.loads(run("both.csv", "both.csv", "--json", cwd=tmp_path).stdout)
    assert (made["deletions"], made["words"]) == (1, 3)


def test_a_number_where_a_text_should_be_is_refused_with_its_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": 5}\n')
    with pytest.raises(BadInput, match="row 2"):
        read_transcripts(tmp_path / "a.jsonl")
