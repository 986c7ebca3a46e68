"""Every format gives the same corpus for the same recordings, and each says what it cannot use."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from asrpeft.corpus import read
from asrpeft.corpus.formats import FORMATS, parquet
from asrpeft.errors import BadCorpus, BadInput, Failure
from tests.audio.sounds import chirp, encoded

ROWS = [("a", 1.0, "habari ya asubuhi", "s1"), ("b", 1.5, "mti mrefu", "s2"), ("c", 0.5, "ndiyo, bwana", "s1")]


def wavs(folder, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for id_, seconds, *_ in ROWS:
        (folder / f"{(names or {}).get(id_, id_)}.wav").write_bytes(encoded(chirp(seconds)))


def make_parquet(root):
    cells = [{"bytes": encoded(chirp(s)), "path": f"{i}.wav"} for i, s, *_ in ROWS]
    pyarrow.parquet.write_table(
        pyarrow.table({"id": [r[0] for r in ROWS], "audio": cells, "text": [r[2] for r in ROWS], "speaker": [r[3] for r in ROWS], "age": [5, 6, 7]}),
        root / "x.parquet",
    )
    return root / "x.parquet"


def make_jsonl(root):
    wavs(root / "clips")
    lines = [json.dumps({"id": i, "audio_filepath": f"clips/{i}.wav", "text": t, "speaker": s, "age": 5}) for i, _, t, s in ROWS]
    (root / "x.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "x.jsonl"


def make_json(root):
    wavs(root)
    (root / "x.json").write_text(json.dumps([{"id": i, "audio": {"path": f"{i}.wav"}, "text": t, "speaker": s} for i, _, t, s in ROWS]))
    return root / "x.json"


def make_csv(root):
    wavs(root)
    (root / "x.csv").write_text("id,audio,text,speaker\n" + "".join(f'{i},{i}.wav,"{t}",{s}\n' for i, _, t, s in ROWS))
    return root / "x.csv"


def make_excel_csv(root):
    wavs(root)
    text = "id;path;transcription;speaker_id\r\n" + "".join(f"{i};{i}.wav;{t};{s}\r\n" for i, _, t, s in ROWS)
    (root / "x.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return root / "x.csv"


def make_common_voice(root):
    wavs(root / "clips")
    (root / "train.tsv").write_text("client_id\tpath\tsentence\tup_votes\n" + "".join(f"{s}\t{i}.wav\t{t}\t2\n" for i, _, t, s in ROWS))
    return root / "train.tsv"


def make_metadata_folder(root):
    wavs(root / "d" / "audio")
    (root / "d" / "metadata.csv").write_text("file_name,id,text,speaker\n" + "".join(f'audio/{i}.wav,{i},"{t}",{s}\n' for i, _, t, s in ROWS))
    return root / "d"


def make_text_beside(root):
    for id_, seconds, text, speaker in ROWS:
        folder = root / "d" / speaker
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{id_}.wav").write_bytes(encoded(chirp(seconds)))
        (folder / f"{id_}.txt").write_text(text + "\n", encoding="utf-8")
    return root / "d"


def make_librispeech(root):
    for id_, seconds, text, speaker in ROWS:
        folder = root / "d" / speaker / "7"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{id_}.flac").write_bytes(encoded(chirp(seconds), kind="FLAC"))
        with (folder / f"{speaker}-7.trans.txt").open("a") as lines:
            lines.write(f"{id_} {text}\n")
    return root / "d"


def make_ljspeech(root):
    wavs(root / "d" / "wavs")
    (root / "d" / "metadata.csv").write_text("".join(f"{i}|{t.upper()}|{t}\n" for i, _, t, _ in ROWS))
    return root / "d"


def make_kaldi(root):
    wavs(root / "d" / "audio files")
    (root / "d" / "wav.scp").write_text("".join(f"{i} audio files/{i}.wav\n" for i, *_ in ROWS))
    (root / "d" / "text").write_text("".join(f"{i} {t}\n" for i, _, t, _ in ROWS))
    (root / "d" / "utt2spk").write_text("".join(f"{i} {s}\n" for i, _, _, s in ROWS))
    return root / "d"


def make_saved_dataset(root):
    import datasets

    cells = [{"bytes": encoded(chirp(s)), "path": f"{i}.wav"} for i, s, *_ in ROWS]
    columns = {"id": [r[0] for r in ROWS], "audio": cells, "sentence": [r[2] for r in ROWS], "client_id": [r[3] for r in ROWS]}
    data = datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))
    data = data.cast_column("audio", datasets.Audio(sampling_rate=16_000))  # as hub corpora come: decoding wants torchcodec
    data.save_to_disk(root / "d")
    return root / "d"


MAKERS = {
    f.__name__.removeprefix("make_"): f
    for f in (
        make_parquet,
        make_jsonl,
        make_json,
        make_csv,
        make_excel_csv,
        make_common_voice,
        make_metadata_folder,
        make_text_beside,
        make_librispeech,
        make_ljspeech,
        make_kaldi,
        make_saved_dataset,
    )
}


@pytest.mark.parametrize("kind", MAKERS)
def test_every_format_gives_the_same_corpus(kind, tmp_path):
    corpus = read(MAKERS[kind](tmp_path))
    assert corpus.skipped == ()
    found = {u.id.rsplit("/", 1)[-1]: u for u in corpus}
    assert sorted(found) == ["a", "b", "c"]
    for id_, seconds, text, speaker in ROWS:
        assert found[id_].text == text
        assert found[id_].speaker == (None if kind == "ljspeech" else speaker)
        assert found[id_].duration == pytest.approx(seconds)
        assert found[id_].samples().size == round(seconds * 16_000)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_limit_is_kept_and_a_pathlib_path_is_a_path(kind, tmp_path):
    spec = MAKERS[kind](tmp_path)
    assert len(read(str(spec), limit=2)) == len(read(spec, limit=2)) == 2


def test_every_format_was_tried_above(tmp_path):
    from asrpeft.corpus.formats import recognize

    tried = set()
    for number, maker in enumerate(MAKERS.values()):
        (tmp_path / str(number)).mkdir()
        tried.add(recognize(str(maker(tmp_path / str(number)))).name)
    assert tried == set(FORMATS)


# -- Parquet ---------------------------------------------------------------------------------------------------------------


def test_a_parquet_file_too_big_to_hold_is_read_cell_by_cell(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    cells = [{"bytes": encoded(chirp(0.1 + 0.01 * i)), "path": f"{i}.wav"} for i in range(9)]
    table = pyarrow.table({"audio": cells, "text": [f"t{i}" for i in range(9)], "duration": [0.1 + 0.01 * i for i in range(9)]})
    pyarrow.parquet.write_table(table, path, row_group_size=4)
    held = read(path)
    monkeypatch.setattr(parquet, "IN_MEMORY", 10)
    lazy = read(path)
    assert all(callable(u.audio.source) for u in lazy) and not any(callable(u.audio.source) for u in held)
    for number in (8, 0, 5, 1):
        np.testing.assert_array_equal(lazy[number].samples(), held[number].samples())
        assert lazy[number].duration == pytest.approx(held[number].duration, abs=1e-3)


def test_files_named_as_splits_are_not_mixed(tmp_path):
    for name in ("sw-train", "sw-test", "speakers"):
        make_parquet(tmp_path).rename(tmp_path / f"{name}.parquet")
    with pytest.raises(BadCorpus, match=r"several splits \(sw-test, sw-train\).*/sw-test\.parquet'"):
        read(str(tmp_path))
    (tmp_path / "sw-test.parquet").unlink()
    assert len(read(str(tmp_path))) == 6


def test_ljspeechs_quotation_marks_are_text(tmp_path):
    folder = make_ljspeech(tmp_path)
    lines = (folder / "metadata.csv").read_text().splitlines()
    said = '"Stop," he said.'
    lines[1] = "|".join((lines[1].split("|")[0], said, said))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    corpus = read(str(folder))
    assert len(corpus) == 3 and said in [u.text for u in corpus] and corpus.skipped == ()


def test_shards_are_one_corpus_and_splits_are_not_mixed(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        make_parquet(tmp_path).rename(tmp_path / f"{name}.parquet")
    assert len(read(f"{tmp_path}/train-*.parquet")) == 6
    with pytest.raises(BadCorpus, match="several splits.*test, train"):
        read(tmp_path)
    with pytest.raises(BadCorpus, match="no Parquet file matches"):
        read(f"{tmp_path}/dev-*.parquet")


def test_parquet_with_paths_of_files(tmp_path):
    wavs(tmp_path / "audio")
    pyarrow.parquet.write_table(pyarrow.table({"audio": [f"audio/{r[0]}.wav" for r in ROWS], "text": [r[2] for r in ROWS]}), tmp_path / "x.parquet")
    assert len(read(tmp_path / "x.parquet")) == 3


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"PAR1" + b"\0" * 300, lambda b: b"x" * 999])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    path = make_parquet(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadCorpus, match=r"x\.parquet"):
        read(path)


# -- tables ----------------------------------------------------------------------------------------------------------------


def test_quotation_marks_in_a_tsv_are_characters_unless_they_wrap_a_field(tmp_path):
    wavs(tmp_path)
    (tmp_path / "x.tsv").write_text('path\tsentence\na.wav\t"Hi, she said\nb.wav\t"quoted ""well"" enough"\nc.wav\tan inch is 1"\n')
    assert [u.text for u in read(tmp_path / "x.tsv")] == ['"Hi, she said', 'quoted "well" enough', 'an inch is 1"']


def test_a_csv_field_may_hold_commas_quotes_and_new_lines(tmp_path):
    wavs(tmp_path)
    (tmp_path / "x.csv").write_text('audio,text\na.wav,"one, ""two""\nthree"\n')
    assert read(tmp_path / "x.csv")[0].text == 'one, "two"\nthree'


def test_lines_with_missing_fields_are_named_by_number(tmp_path):
    wavs(tmp_path)
    (tmp_path / "x.csv").write_text("audio,text,speaker\na.wav,yes,s\nb.wav,no\n\nc.wav,fine,s\n")
    corpus = read(tmp_path / "x.csv")
    assert len(corpus) == 2 and [s.id for s in corpus.skipped] == ["x.csv:3"] and "2 fields" in corpus.skipped[0].reason


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty"),
        (b"audio,text,text\na.wav,b,c\n", "more than once"),
        (b'audio,text\na.wav,"never closed\n', "not CSV"),
        ("audio,text\na.wav,caf\xe9\n".encode("latin-1"), "not UTF-8"),
        (b"sound,words spoken\na.wav,x\n", "--columns audio="),
        (b"audio,wrods\na.wav,x\n", "--columns text="),
        (b"audio,text\n", "no usable utterance among 0 rows"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path, content, message):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(BadCorpus, match=message):
        read(tmp_path / "x.csv")


def test_columns_can_be_told(tmp_path):
    wavs(tmp_path)
    (tmp_path / "x.csv").write_text("snd,text,better,who\n" + "".join(f"{i}.wav,wrong,{t.replace(',', '')},{s}\n" for i, _, t, s in ROWS))
    corpus = read(tmp_path / "x.csv", columns={"audio": "snd", "text": "better", "speaker": "who"})
    assert corpus[1].text == "mti mrefu" and corpus[1].speaker == "s2" and corpus[1].extra == {"text": "wrong"}
    with pytest.raises(BadCorpus, match="no column 'bettre'.*Did you mean 'better'"):
        read(tmp_path / "x.csv", columns={"audio": "snd", "text": "bettre"})
    with pytest.raises(BadInput, match="no role 'txt'"):
        read(tmp_path / "x.csv", columns={"txt": "better"})


# -- JSON lines ------------------------------------------------------------------------------------------------------------


def test_lines_that_are_not_json_objects_are_named_by_number(tmp_path):
    wavs(tmp_path)
    lines = ['{"audio": "a.wav", "text": "x"}', "{not json", '["list"]', "", '{"audio": "b.wav", "text": "y", "new": 1}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    corpus = read(tmp_path / "x.jsonl")
    assert [u.text for u in corpus] == ["x", "y"] and [s.id for s in corpus.skipped] == ["x.jsonl:2", "x.jsonl:3"]
    with pytest.raises(BadCorpus, match="x.jsonl:2: not JSON"):
        read(tmp_path / "x.jsonl", strict=True)


def test_offsets_and_durations_cut_a_long_recording(tmp_path):
    (tmp_path / "long.wav").write_bytes(encoded(chirp(40.0)))
    rows = [{"offset": 0.0, "duration": 2.0}, {"offset": 35.5, "duration": 1.5}, {"start": 3, "end": 4.25}, {"offset": 39, "duration": 9}, {}]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"audio": "long.wav", "text": "x"} | row) for row in rows))
    corpus = read(tmp_path / "x.jsonl", columns={"start": "offset"})
    assert [u.duration for u in corpus] == [2.0, 1.5, 1.0] and [u.samples().size for u in corpus] == [32_000, 24_000, 16_000]
    np.testing.assert_allclose(corpus[1].samples(), chirp(40.0)[568_000:592_000], atol=1e-4)
    assert [s.reason[:30] for s in corpus.skipped] == ["its part ends at 4.25 s, and n", "40.00 s long; at most 30 s fit"]
    assert "x.jsonl:3" in corpus.skipped[0].reason


# -- Kaldi -----------------------------------------------------------------------------------------------------------------


def test_kaldi_segments_are_parts_of_recordings(tmp_path):
    folder = make_kaldi(tmp_path)
    (folder / "segments").write_text("u1 b 0.25 0.75\nu2 b 0.75 -1\nu3 zz 0 1\nu4 a 0.9 0.4\nu5 a 7 8\nu6 a 1\n")
    (folder / "text").write_text("u1 first\nu2 second\nu3 third\nu4 fourth\nu5 fifth\nu6 sixth\nu7 seventh\n")
    corpus = read(folder)
    assert [(u.id, u.text, u.samples().size) for u in corpus] == [("u1", "first", 8_000), ("u2", "second", 12_000)]
    reasons = {s.id: s.reason for s in corpus.skipped}
    assert sorted(reasons) == ["u3", "u4", "u5", "u6", "u7"] and "not in wav.scp" in reasons["u3"] and "not in segments" in reasons["u7"]


@pytest.mark.parametrize("where, message", [("sox a.mp3 -t wav - |", "commands in data are not run"), ("touch ran|", "command"), ("raw.ark:4217", "archive")])
@pytest.mark.parametrize("segments", [False, True])
def test_kaldi_commands_and_archives_are_left_out_and_never_run(tmp_path, monkeypatch, where, message, segments):
    monkeypatch.chdir(tmp_path)
    folder = make_kaldi(tmp_path)
    (folder / "wav.scp").write_text(f"a audio files/a.wav\nb {where}\nc audio files/c.wav\n")
    if segments:
        (folder / "segments").write_text("a a 0 0.5\nb b 0 1\nc c 0 0.5\n")
    corpus = read(folder)
    assert [u.id for u in corpus] == ["a", "c"] and [s.id for s in corpus.skipped] == ["b"]
    assert message in corpus.skipped[0].reason and where in corpus.skipped[0].reason and not (tmp_path / "ran").exists()
    with pytest.raises(BadCorpus, match=f"b: .*{message}"):
        read(folder, strict=True)


def test_of_a_kaldi_id_that_comes_twice_the_first_line_counts_and_the_second_is_named(tmp_path):
    folder = make_kaldi(tmp_path)
    with (folder / "text").open("a") as text, (folder / "wav.scp").open("a") as scp:
        text.write("a something else\n")
        scp.write("b audio files/a.wav\n")
    corpus = read(folder)
    assert [u.text for u in corpus] == [r[2] for r in ROWS] and corpus[1].duration == 1.5
    assert [s.id for s in corpus.skipped] == ["wav.scp:4", "text:4"] and all("a second time" in s.reason for s in corpus.skipped)


# -- folders ---------------------------------------------------------------------------------------------------------------


def test_recordings_and_texts_without_a_partner_are_named(tmp_path):
    wavs(tmp_path / "d")
    (tmp_path / "d" / "a.txt").write_text("hello")
    (tmp_path / "d" / "lost.txt").write_text("nobody said this")
    corpus = read(tmp_path / "d")
    assert [(u.id, u.speaker) for u in corpus] == [("a", None)]
    assert {s.id: s.reason[:18] for s in corpus.skipped} == {"b.wav": "audio without text", "c.wav": "audio without text", "lost.txt": "text without audio"}


def test_a_folder_of_audio_alone_says_what_is_missing(tmp_path):
    wavs(tmp_path / "d")
    with pytest.raises(BadCorpus, match="3 recordings and no transcripts.*metadata.csv"):
        read(tmp_path / "d")


@pytest.mark.parametrize(
    "spec, what",
    [
        ("nowhere.jsonl", "no such file or folder"),
        ("tain.jsonl", "no such file or folder. Did you mean '.*/train.jsonl'"),
        ("x" * 5_000, "no such file"),
        ("nul\0", "no such file"),
        ("empty folder", "the folder is empty"),
        ("notes.docx", r"I know \(\.docx\)"),
        ("notes", r"no suffix"),
        ("a.wav", "a recording, and"),
        ("/dev/null", "a device or a pipe"),
        ("nothing.bin", "the file is empty"),
        ("papers", "neither a recording nor a manifest.*a.pdf, b.pdf"),
        ("lists", "one of its manifests.*train.jsonl"),
    ],
)
def test_what_is_no_corpus_is_called_what_it_is(tmp_path, spec, what):
    (tmp_path / "empty folder").mkdir()
    wavs(tmp_path)
    for name in ("notes.docx", "notes", "train.jsonl", "papers/a.pdf", "papers/b.pdf", "lists/train.jsonl", "lists/test.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("hello")
    (tmp_path / "nothing.bin").touch()
    with pytest.raises(BadCorpus, match=what) as refused:
        read(tmp_path / spec)
    assert "no such file" in what or "parquet: a .parquet file" in str(refused.value)


# -- the hub ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`load_dataset` with a local dataset behind it, and what it was asked for."""
    import datasets

    data = datasets.load_from_disk(make_saved_dataset(tmp_path))
    asked = []

    def load_dataset(repo, config, *, split, streaming):
        asked.append((repo, config, split, streaming))
        return data.to_iterable_dataset() if streaming else data

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    "spec, want",
    [
        ("hub:google/fleurs:sw_ke:train", ("google/fleurs", "sw_ke", "train")),
        ("hub:someone/corpus:validation", ("someone/corpus", None, "validation")),
        ("hub:someone/corpus:train[:10%]", ("someone/corpus", None, "train[:10%]")),
        ("hub:someone/corpus:cfg:train[100:200]", ("someone/corpus", "cfg", "train[100:200]")),
    ],
)
def test_hub_ids_name_repository_configuration_and_split(hub, spec, want):
    corpus = read(spec)
    assert hub == [(*want, False)]
    assert corpus.name == spec and [u.text for u in corpus] == [r[2] for r in ROWS] and corpus[1].samples().size == 24_000


def test_a_limited_hub_corpus_is_streamed(hub):
    corpus = read("hub:google/fleurs:sw_ke:train", limit=2)
    assert hub[0][3] and [u.samples().size for u in corpus] == [16_000, 24_000]


@pytest.mark.parametrize("spec", ["hub:google/fleurs", "hub:", "hub:a:b:c:d"])
def test_a_hub_id_without_its_split_is_refused(hub, spec):
    with pytest.raises(BadInput, match="hub:REPO"):
        read(spec)
    assert hub == []


@pytest.mark.parametrize("error, raised", [(ConnectionError("no route"), Failure), (ValueError("BuilderConfig 'xx' not found"), BadCorpus)])
def test_an_unreachable_hub_is_a_failure_and_an_unknown_name_a_mistake(monkeypatch, error, raised):
    import datasets

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(raised, match="hub:google/fleurs:xx:train.*(no route|BuilderConfig)"):
        read("hub:google/fleurs:xx:train")


def test_a_saved_dataset_of_several_splits_asks_for_one(tmp_path):
    import datasets

    data = datasets.load_from_disk(make_saved_dataset(tmp_path))
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "both")
    with pytest.raises(BadCorpus, match="several splits.*train"):
        read(tmp_path / "both")
    assert len(read(tmp_path / "both" / "test")) == 3
