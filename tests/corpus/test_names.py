import pytest

from asrpeft.corpus.names import file_name

HOSTILE = ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a:b", "a b", "nul\0", "-rf", ".hidden", "x" * 300, "音" * 200, "line\nbreak", "end."]


@pytest.mark.parametrize("text", ["0003", "abiayi", "Zoë", "speaker-12", "mósώ", "a.b_c@d"])
def test_harmless_names_stay(text):
    assert file_name(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_become_one_plain_file(text, tmp_path):
    path = tmp_path / f"{file_name(text)}.json"
    path.write_text("x")
    assert path.resolve().parent == tmp_path.resolve() and not path.name.startswith((".", "-"))


def test_different_texts_have_different_names():
    texts = [*HOSTILE, "a_b", "a_b_", "_", "__", "x" * 301, "x" * 60]
    assert len({file_name(text) for text in texts}) == len(texts)
