"""What a comparison on a real encoder says of its rows."""

import json

import pytest

from asrpeft.scoring import score
from scripts.bench.real_encoder import by_character, measures, read_rows, tables, toneless

SPOKEN = ["a cat sat", "dogs bark", "on the mat", "sun is up"] * 6
SPEAKERS = [f"s{n}" for n in range(12) for _ in range(2)]


def row(method, said, *, steps, seed=0, lr=None):
    about = {"task": "children", "method": method, "seed": seed, "steps": steps, "where": None, "trained": 5, "used_lr": lr or 1e-3, "asked_lr": lr}
    return measures(SPOKEN, said, SPEAKERS, seed=0) | about | {"seconds_a_step": 0.5}


@pytest.fixture
def rows():
    bad, better = [text.replace("a", "o").replace("s", "z") for text in SPOKEN], [text.replace("a", "o") for text in SPOKEN]
    some = [b if n % 5 else text for n, (b, text) in enumerate(zip(better, SPOKEN))]
    return [
        row("head", bad, steps=0),
        row("lora", better, steps=9),
        row("lora", some, steps=9, seed=1),
        row("ia3", bad, steps=9),
        row("ia3", bad, steps=9, seed=1),
    ]


def test_characters_count_as_words_would(rows):
    found = by_character(rows[1], "lora")
    assert found.wer == pytest.approx(score(SPOKEN, rows[1]["heard"]["said"], bootstrap=None).cer) and len(found.speakers) == 12


def test_methods_are_tested_against_the_head_and_the_best_over_their_seeds(rows):
    text = tables(rows)
    line = next(line for line in text.splitlines() if line.startswith("| `ia3` | 2 |"))
    assert "| 0.0 (" in line and "`lora` has the lowest CER" in text and "WER" not in text.split("has the lowest")[1]


def test_rows_of_an_older_file_are_listed_and_not_tested(rows, tmp_path):
    for one in rows:
        del one["heard"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert "children:" not in (text := tables(read_rows(tmp_path / "rows.jsonl"))) and text.count("\n") == 6


def test_rates_that_were_asked_for_are_methods_of_their_own(rows):
    assert "`lora` by 0.1 |" in tables([*rows, row("lora", SPOKEN, steps=9, lr=0.1)])


def test_marks_go_and_letters_stay():
    assert toneless("ká ò ɔ́ ŋ") == "ka o ɔ ŋ"
