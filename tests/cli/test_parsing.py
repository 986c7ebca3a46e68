"""What the command line does before any model is loaded."""

from __future__ import annotations

import io
import signal

import numpy as np
import pytest
import soundfile

from asrpeft import interruption
from asrpeft.cli import main
from asrpeft.cli.main import spread
from asrpeft.cli.options import pairs
from asrpeft.cli.verbs.transcribe import formats, targets
from asrpeft.corpus import AudioRef, Utterance
from asrpeft.errors import BadInput
from asrpeft.jobs.results.evaluation import sound_of
from asrpeft.report.words import duration, interval, per_cent, size


@pytest.mark.parametrize(
    ("given", "spread_out"),
    [
        (["--set", "rank=16", "alpha=32", "--lang", "sw"], ["--set", "rank=16", "--set", "alpha=32", "--lang", "sw"]),
        (["--set", "rank=16"], ["--set", "rank=16"]),
        (["a.wav", "--columns", "text=t", "speaker=s", "b.wav"], ["a.wav", "--columns", "text=t", "--columns", "speaker=s", "b.wav"]),
        (["--lang", "sw", "x=1"], ["--lang", "sw", "x=1"]),
        (["--set", "rank", "alpha=3"], ["--set", "rank", "alpha=3"]),
        (["--set=rank=4", "--json"], ["--set=rank=4", "--json"]),
    ],
)
def test_one_option_takes_several_settings(given, spread_out):
    assert spread(given) == spread_out


def test_settings_are_read_in_either_form_and_refused_without_a_value():
    assert pairs("--set", ["rank=16,alpha=32", "scale=rs"]) == {"rank": "16", "alpha": "32", "scale": "rs"}
    with pytest.raises(BadInput, match="KEY=VALUE"):
        pairs("--set", ["rank"])


def test_recordings_of_one_name_keep_their_folders_and_nothing_is_overwritten(tmp_path):
    for name in ("a/x.wav", "b/x.wav", "b/y.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    audio = [str(tmp_path / n) for n in ("a/x.wav", "b/x.wav", "b/y.wav")]
    out = tmp_path / "out"
    assert sorted(str(p.relative_to(out)) for p in _places(targets(audio, out, ["srt"], overwrite=False))) == ["a/x.srt", "b/x.srt", "y.srt"]
    (out / "a").mkdir(parents=True)
    (out / "a" / "x.srt").touch()
    with pytest.raises(BadInput, match="exists already"):
        targets(audio, out, ["srt"], overwrite=False)
    assert targets(audio, out, ["srt"], overwrite=True)
    both = targets(audio, out, ["srt", "txt"], overwrite=False, skip_existing=True)
    assert [list(own) for own in both.values()] == [["txt"], ["srt", "txt"], ["srt", "txt"]]
    assert targets(audio[:1], out / "a", ["srt"], overwrite=False, skip_existing=True) == {audio[0]: {}}
    with pytest.raises(BadInput, match="exclude each other"):
        targets(audio, out, ["srt"], overwrite=True, skip_existing=True)
    with pytest.raises(BadInput, match="cannot be a folder: "):
        targets(audio, out / "a" / "x.srt" / "below", ["srt"], overwrite=False)
    (tmp_path / "b" / "y.mp3").touch()
    with pytest.raises(BadInput, match="Two recordings"):
        targets([*audio, str(tmp_path / "b" / "y.mp3")], out, ["txt"], overwrite=False)


def _places(found) -> list:
    return [place for own in found.values() for place in own.values()]


def test_formats_are_named_together_or_one_by_one():
    assert formats(["srt,json", "txt", "srt"], several=True) == ["srt", "json", "txt"]
    assert formats(["all"], several=True) == ["json", "srt", "tsv", "txt", "vtt"]
    with pytest.raises(BadInput, match="'docx'.* are json, srt, tsv, txt, vtt. Or choose all"):
        formats(["txt,docx"], several=True)
    with pytest.raises(BadInput, match="--out"):
        formats(["txt,srt"], several=False)


def test_numbers_are_written_for_people():
    assert (interval([0.21, 0.29]), interval([None, None]), interval([float("nan")] * 2), interval(None)) == ("21.0–29.0", "–", "–", "–")
    assert (per_cent(0.2534), size(1_234_000), duration(97), duration(3725)) == ("25.3 %", "1.2 MB", "1:37", "1:02:05")


def test_a_link_names_its_transcript_not_what_it_points_to(tmp_path):
    (tmp_path / "5f3a9c").write_bytes(b"")
    links = [tmp_path / "talk.wav", tmp_path / "other.wav"]
    for link in links:
        link.symlink_to(tmp_path / "5f3a9c")
    assert [place.name for place in _places(targets([str(link) for link in links], tmp_path / "out", ["txt"], overwrite=False))] == ["talk.txt", "other.txt"]


def test_the_page_gets_the_part_of_a_recording_that_an_utterance_is():
    made = io.BytesIO()
    soundfile.write(made, np.linspace(-0.5, 0.5, 160_000, dtype=np.float32), 16_000, format="WAV")
    whole = Utterance("a", AudioRef(made.getvalue(), "a"), "x", duration=10.0)
    part = Utterance("b", AudioRef(made.getvalue(), "b", 2.0, 1.5), "x", duration=1.5)
    assert sound_of(whole) == made.getvalue()
    samples, rate = soundfile.read(io.BytesIO(sound_of(part)), dtype="float32")
    assert rate == 16_000 and len(samples) == 24_000 and np.abs(samples - part.samples()).max() < 1e-4


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_with_its_status_and_promises_nothing_that_was_not_kept(monkeypatch, capsys, number, status):
    monkeypatch.setattr(main, "app", lambda **_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        main.run(["finetune", "--data", "x"])
    assert ended.value.code == status and capsys.readouterr().err.strip() == "Interrupted."
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("verb", "hint"), [("finetune", True), ("speakers", True), ("evaluate", False)])
def test_an_interruption_says_what_was_kept_and_how_to_go_on_where_the_verb_can(monkeypatch, capsys, verb, hint):
    def app(**_):
        error = interruption.Interrupted(signal.SIGINT)
        interruption.note(error, "Step 3 is kept.", resumes=True)
        raise error

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit):
        main.run([verb, "--data", "x"])
    said = capsys.readouterr().err
    assert "Step 3 is kept." in said and ("--resume" in said) is hint


def test_an_error_that_nobody_foresaw_is_told_with_its_place_and_without_a_page_of_calls(monkeypatch, capsys):
    def app(**_):
        return {}["[/b]\x1b[31m"]

    monkeypatch.setattr(main, "app", app)
    monkeypatch.delenv("ASRPEFT_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        main.run(["data", "check", "x"])
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "an internal error, KeyError" in said and "test_parsing.py, line" in said
    assert "Traceback" not in said and "\x1b" not in said
    monkeypatch.setenv("ASRPEFT_DEBUG", "1")
    with pytest.raises(KeyError):
        main.run(["data", "check", "x"])
