import json

import numpy as np
import pytest

from asrpeft.corpus import AudioRef, Corpus, Utterance, read
from asrpeft.corpus.manifest import write_manifest
from asrpeft.errors import BadInput
from tests.audio.sounds import chirp, encoded


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """A file, the bytes of one, a part of one, and a call that fetches one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "naïve name.wav").write_bytes(encoded(chirp(1.0)))
    path, data = tmp_path / "in" / "naïve name.wav", encoded(chirp(2.0), kind="FLAC")
    audio = [AudioRef(path, "a"), AudioRef(data, "b.flac"), AudioRef(data, "b.flac", 0.5, 0.75)]
    audio += [AudioRef(lambda: data, "row:3"), AudioRef(lambda: path, "row:4")]
    seconds = [1.0, 2.0, 0.75, 2.0, 1.0]
    return Corpus([Utterance(f"u/{i}", a, f"Text, “{i}”", "s", "sw", seconds[i], {"age": i}) for i, a in enumerate(audio)], name="c")


def test_a_manifest_reads_back_as_what_was_written(corpus, tmp_path):
    path = write_manifest(corpus, tmp_path / "out" / "train.jsonl")
    again = read(path)
    assert again.skipped == ()
    for a, b in zip(corpus, again, strict=True):
        assert (a.id, a.text, a.speaker, a.lang, a.extra) == (b.id, b.text, b.speaker, b.lang, b.extra)
        assert a.duration == pytest.approx(b.duration)
        np.testing.assert_array_equal(a.samples(), b.samples())


def test_a_manifest_can_be_moved_with_its_folder(corpus, tmp_path):
    path = write_manifest(corpus[1:4], tmp_path / "out" / "train.jsonl")
    assert not any(json.loads(line)["audio"].startswith("/") for line in path.read_text().splitlines())
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert len(read(tmp_path / "elsewhere" / "train.jsonl")) == 3


def test_a_manifest_that_exists_is_not_overwritten(corpus, tmp_path):
    write_manifest(corpus[:1], tmp_path / "m.jsonl")
    with pytest.raises(BadInput, match="exists already"):
        write_manifest(corpus, tmp_path / "m.jsonl")
