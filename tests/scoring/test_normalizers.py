"""What each writing system asks of a normalizer, as tables of cases. The words are made up for these tests."""

import json
import unicodedata

import pytest

from asrpeft.errors import BadInput
from asrpeft.scoring import DamagingNormalizer, normalizer, normalizers, score
from asrpeft.scoring.writing import characters, combining_marks, spaceless_share

MARKS = [
    # Latin
    ("Hello, World!", "hello world"),
    ("It’s the dogs' 'own' don`t", "it's the dogs own don't"),
    ("well-known — really…", "well known really"),
    ("3.14 and 1,000; at 5.", "3.14 and 1,000 at 5"),
    ("col·legi · x", "col·legi x"),
    ("ＡＢＣ１２ ﬁn", "abc12 fin"),
    ("İstanbul ISTANBUL", "istanbul istanbul"),
    ("re\u00adsume zero\u200bwidth", "resume zero width"),
    ("[noise] {x} #tag @me 50% €5", "noise x tag me 50 5"),
    ("smile 🙂👍🏽 1\ufe0f\u20e3", "smile 1"),
    # tones: Mboshi and its neighbors, Chao letters, downstep
    ("Wɔ́ á-dí, ndzó! Ɔ̀yɛ́.", "wɔ́ á dí ndzó ɔ̀yɛ́"),
    ("e\u0301 E\u0301 \u00e9", "\u00e9 \u00e9 \u00e9"),
    ("MA˥˩ ꜜkɔ", "ma˥˩ ꜜkɔ"),
    ("kɛ̂ kɛ̌ kɛ̄", "kɛ̂ kɛ̌ kɛ̄"),
    # Devanagari: vowel signs, virama, nukta, anusvara; dandas go, joiners go
    ("नमस्ते, दुनिया।", "नमस्ते दुनिया"),
    ("क्‍ष ज़मीन॥", unicodedata.normalize("NFC", "क्ष ज़मीन")),
    # Malayalam: the old spelling of a chillu is the new one
    ("അവന്\u200d", "അവൻ"),
    # Thai and Khmer: tone marks and vowels stay, the repetition mark is a letter
    ("น้ำใสๆ, ไหลเย็น!", "น้ำใสๆ ไหลเย็น"),
    ("ខ្ញុំ។ ទៅ\u200bសាលា", "ខ្ញុំ ទៅ សាលា"),
    # Ethiopic: its word space and stops are punctuation
    ("ሰላም፡ነው፣ደህና።", "ሰላም ነው ደህና"),
    # Arabic: harakat stay, tatweel and punctuation go, presentation forms unfold; alef forms are not merged
    ("السَّلامُ، عليكم؟", "السَّلامُ عليكم"),
    ("كتـــاب \ufefb", "كتاب لا"),
    ("أحمد احمد", "أحمد احمد"),
    ("می\u200cخواهم", "میخواهم"),
    # Hebrew: geresh and gershayim belong to words, typed either way
    ("צה\"ל ג'ירפה", "צה״ל ג'ירפה"),
    ("צה״ל ג׳ירפה", "צה״ל ג'ירפה"),
    # Chinese and Japanese
    ("你好，世界！", "你好 世界"),
    ("ｶﾞｯｺｳ、コーヒー。", "ガッコウ コーヒー"),
    # Greek final sigma, German sharp s
    ("ΟΔΟΣ Straße", "οδος straße"),
    ("", ""),
    ("?!…", ""),
]


@pytest.mark.parametrize(("given", "wanted"), MARKS)
def test_marks_keeps_what_is_pronounced_and_drops_what_is_not(given, wanted):
    assert normalizer("marks")(given) == wanted


@pytest.mark.parametrize("text", [given for given, _ in MARKS])
@pytest.mark.parametrize("name", ["none", "marks", "marks+split", "marks+numbers", "marks+numbers:en"])
def test_a_normalizer_run_twice_changes_nothing_more(name, text):
    once = normalizer(name)(text)
    assert normalizer(name)(once) == once


@pytest.mark.parametrize("text", [given for given, _ in MARKS])
def test_marks_does_not_care_how_a_letter_is_composed(text):
    rule = normalizer("marks")
    assert rule(unicodedata.normalize("NFD", text)) == rule(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("text", ["नमस्ते दुनिया", "น้ำใส", "السَّلامُ", "wɔ́ ndzó ɔ̀yɛ́", "ဘာသာစကား"])
def test_marks_loses_no_combining_mark(text):
    assert combining_marks([normalizer("marks")(text)])[0] == combining_marks([unicodedata.normalize("NFC", text)])[0] > 0


def test_none_changes_only_white_space():
    assert normalizer("none")("  Hello,\tWorld!\u00a0 x") == "Hello, World! x"


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("marks+split", "你好 world 世界", "你 好 world 世 界"),
        ("marks+split", "น้ำใส", "น้ำ ใ ส"),
        ("marks+split", "hello world", "hello world"),
        ("marks+numbers", "१२३ ٤٥ 1,234,567 10,00,000", "123 45 1234567 1000000"),
        ("marks+numbers", "3.14 twenty", "3.14 twenty"),
        ("marks+numbers:en", "twenty one cats", "21 cats"),
        ("whisper-english", "It's the color, Mr. Smith", None),
        ("whisper-basic", "Hello, World!", "hello world"),
    ],
)
def test_other_normalizers_do_what_they_say(name, given, wanted):
    made = normalizer(name)(given)
    assert made == wanted if wanted is not None else made.startswith("it is the colo")


def test_every_registered_step_says_what_it_does_and_has_a_version():
    for name, step in normalizers().items():
        assert name == name.lower() and len(step.about) > 15 and step.version


def test_a_label_names_every_step_and_version():
    assert normalizer("marks+numbers:en").label == "marks@1+numbers@1:en"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mark", "marks"),
        ("marks+nothing", "numbers"),
        ("marks:x", "no argument"),
        ("map", "FILE"),
        ("map:/does/not/exist", "cannot read"),
        ("numbers:fr", "en only"),
        ("whisper-english:/does/not/exist", "normalizer.json"),
        ("", "marks"),
    ],
)
def test_a_wrong_name_is_refused_with_what_would_work(name, said):
    with pytest.raises(BadInput, match=said.replace(".", r"\.")):
        normalizer(name)


@pytest.mark.parametrize(
    ("name", "text", "script"),
    [
        ("whisper-basic", "नमस्ते", "Devanagari"),
        ("whisper-basic", "น้ำ", "Thai"),
        ("whisper-basic", "wɔ́ ndzɔ̀", "Latin"),
        ("whisper-english", "café", "Latin"),
        ("whisper-english", "السَّلامُ", "Arabic"),
    ],
)
def test_the_damage_whispers_rules_do_is_named_with_the_script(name, text, script):
    with pytest.warns(DamagingNormalizer, match=script):
        made = score([text], [text], normalizer=name, bootstrap=None)
    assert any(script in note and "marks" in note for note in made.notes)


@pytest.mark.parametrize(("name", "text"), [("whisper-basic", "plain words"), ("marks", "नमस्ते"), ("none", "น้ำ")])
def test_no_damage_is_cried_where_none_is_done(name, text, recwarn):
    assert not any("use `marks`" in note for note in score([text], [text], normalizer=name, bootstrap=None).notes)
    assert not [w for w in recwarn if w.category is DamagingNormalizer]


def test_whisper_basic_really_does_the_damage_it_is_accused_of():
    """A wrong vowel sign and a missing one give the same text: the error disappears."""
    rule = normalizer("whisper-basic")
    assert rule("की") == rule("के") and normalizer("marks")("की") != normalizer("marks")("के")


def test_a_mapping_file_makes_spellings_the_same(tmp_path):
    table = tmp_path / "orthography.tsv"
    table.write_text("# Bantu: two ways to write one sound\nny\tɲ\nand\tna\tword\ncolor\tcolor\n-\t\n", encoding="utf-8")
    rule = normalizer(f"marks+map:{table}")
    assert rule("Nyama AND hand color") == "ɲama na hand color"
    same = tmp_path / "orthography.json"
    same.write_text(json.dumps({"substrings": {"ny": "ɲ", "color": "color", "-": ""}, "words": {"and": "na"}}))
    assert normalizer(f"marks+map:{same}").label == rule.label
    table.write_text("ny\tñ\n", encoding="utf-8")
    assert normalizer(f"marks+map:{table}").label != rule.label


def test_mapping_rules_do_not_feed_each_other_and_the_longest_wins(tmp_path):
    table = tmp_path / "swap.tsv"
    table.write_text("a\tb\nb\ta\nab\tx\n", encoding="utf-8")
    assert normalizer(f"map:{table}")("a b ab ba") == "b a x ab"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", "only one column\n", "line 1"),
        ("a.tsv", "a\tb\na\tc\n", "twice"),
        ("a.tsv", "\n# nothing\n", "no rule"),
        ("a.json", "{broken", "not JSON"),
        ("a.json", '["a"]', "texts"),
        ("a.json", '{"a": 1}', "texts"),
    ],
)
def test_a_broken_mapping_file_is_refused_with_the_place(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        normalizer(f"marks+map:{path}")


@pytest.mark.parametrize(
    ("text", "unit", "wanted"),
    [
        ("ab  cd", "codepoint", "ab cd"),
        ("你好 世界", "codepoint", "你好世界"),
        ("你好 abc", "codepoint", "你好 abc"),
        ("น้ำ ใส", "codepoint", "น้ำใส"),
        ("ɔ́yɛ́", "codepoint", "ɔ\u0301yɛ\u0301"),
        ("ɔ́yɛ́", "grapheme", ["ɔ\u0301", "y", "ɛ\u0301"]),
        ("नमस्ते", "grapheme", None),
    ],
)
def test_characters_are_counted_as_the_writing_system_asks(text, unit, wanted):
    made = characters(text, unit=unit)
    assert made == wanted if wanted is not None else len(made) < len(text)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("你好世界", "Han"),
        ("สวัสดี", "Thai"),
        ("ខ្ញុំ", "Khmer"),
        ("ສະບາຍດີ", "Lao"),
        ("မင်္ဂလာပါ", "Myanmar"),
        ("ひらがな", "Hiragana"),
    ],
)
def test_a_script_without_spaces_is_noticed_and_cer_recommended(text, script):
    share, scripts = spaceless_share([text])
    assert share > 0.9 and scripts[0] == script
    notes = score([text], [text], bootstrap=None).notes
    assert any(script in note and "CER" in note and "word" in note for note in notes)


@pytest.mark.parametrize("text", ["hello", "नमस्ते दुनिया", "ሰላም ነው", "السلام", "안녕 하세요"])
def test_a_script_with_spaces_gets_no_such_note(text):
    assert spaceless_share([text])[0] == 0
