"""What may be named as a recording."""

from __future__ import annotations

import pytest

from asrpeft.errors import BadInput
from asrpeft.jobs.sources import STDIN, sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("a.wav", "b/c.MP3", "b/d/e.flac", "b/d/[1].m4a", "b/notes.txt", "b/.f.wav", "b/.g/h.wav", "empty/x.txt", "none/.keep"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "none" / ".keep").unlink()
    (tmp_path / "b" / "broken.wav").symlink_to(tmp_path / "gone.wav")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["a.wav"], ["a.wav"]),
        (["b/notes.txt"], ["b/notes.txt"]),  # a file is taken at the user's word
        (["b"], ["b/broken.wav", "b/c.MP3", "b/d/[1].m4a", "b/d/e.flac"]),
        (["b/c.MP3", "b", "./b/c.MP3"], ["b/c.MP3", "b/broken.wav", "b/d/[1].m4a", "b/d/e.flac"]),
        (["*.wav"], ["a.wav"]),
        (["**/*.flac"], ["b/d/e.flac"]),
        (["b/*"], ["b/broken.wav", "b/c.MP3", "b/d/[1].m4a", "b/d/e.flac", "b/notes.txt"]),
        (["b/d/[1].m4a"], ["b/d/[1].m4a"]),  # a name before it is a pattern
        (["-"], [STDIN]),
    ],
)
def test_files_folders_and_globs_stand_for_recordings(here, named, found):
    assert sources(named) == (found, [])


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("b/c.mp3", "There is no recording 'b/c.mp3'. Did you mean 'b/c.MP3'"),
        ("absent/a.wav", "'absent' is no folder"),
        ("x*.wav", "No file matches 'x.*wav'"),
        ("empty", "The folder 'empty' holds no audio file"),
        ("none", "The folder 'none' is empty"),
        ("nul\0byte.wav", "There is no recording"),
        ("x" * 5_000, "There is no recording"),
    ],
)
def test_what_is_not_there_is_told(here, named, said):
    with pytest.raises(BadInput, match=said):
        sources([named])


def test_beside_recordings_that_are_there_a_missing_one_is_handed_back(here):
    found, missing = sources(["a.wav", "qqq.ogg"])
    assert found == ["a.wav"] and missing == [("qqq.ogg", "There is no recording 'qqq.ogg'.")]
