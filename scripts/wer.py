#!/usr/bin/env python
"""Score transcripts against references, without any model.

    python scripts/wer.py REF HYP                        one system
    python scripts/wer.py REF BASE TUNED --html out.html two systems, tests between them, a page to look through
    python scripts/wer.py ref.tsv hyp.tsv --by speaker,age --json

REF and HYP are UTF-8 files of one of these forms, told by their endings and lines (or --format):
    plain   one text a line           kaldi   `id text`           trn   `text (id)`
    csv, tsv, jsonl, json             with columns such as id, text, speaker (--id-column, --text-column, --hyp-column)
Files with ids are matched by id, and an id on one side only is an error that names it. Lines such as `u1 text` are
taken for `id text` where all files begin their lines so, or hold the same first words in another order (--format plain
says that they are words).

Exit status: 0 when scored, 2 for a mistake in what was given.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asrpeft import scoring  # noqa: E402
from asrpeft.errors import AsrpeftError, BadInput  # noqa: E402
from asrpeft.report import Table  # noqa: E402
from asrpeft.report.values import plain  # noqa: E402
from asrpeft.scoring import report  # noqa: E402
from asrpeft.scoring.alignment import ALIGNMENTS  # noqa: E402
from asrpeft.scoring.intervals import METHODS  # noqa: E402
from asrpeft.scoring.report import sclite  # noqa: E402
from asrpeft.scoring.transcripts import FORMATS, SPEAKER_COLUMNS, Transcripts  # noqa: E402


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("reference", metavar="REF", nargs="?", help="the right transcripts")
    add(
        "hypotheses",
        metavar="HYP",
        nargs="*",
        help="what each system made of them; the first is the base of comparison",
    )
    reading = made.add_argument_group("reading")
    add = reading.add_argument
    add("--format", choices=list(FORMATS), help="of every file; by default told from the file")
    add("--id-column", help="column of ids in tables")
    add("--text-column", help="column of texts in REF")
    add("--hyp-column", help="column of texts in every HYP")
    add("--by-order", action="store_true", help="pair line by line even where there are ids")
    add("--speakers", metavar="FILE", help="`id speaker` lines (utt2spk), a table, or one name a line")
    add("--names", help="of the systems, with commas between; by default the file names")
    scoring_group = made.add_argument_group("scoring")
    add = scoring_group.add_argument
    add("--normalizer", default="marks", help="what is done to both sides before comparing (default marks); see --list")
    add("--list", action="store_true", help="list the normalizers and stop")
    add("--alignment", choices=ALIGNMENTS, default="levenshtein", help="sclite: NIST's costs")
    add("--character-unit", choices=("codepoint", "grapheme"), default="codepoint", help="what CER counts")
    add("--interval", choices=METHODS, default="studentised", help="kind of bootstrap interval (default studentised)")
    add("--level", type=float, default=0.95, help="of the intervals (default 0.95)")
    add("--resamples", type=int, default=10_000, help="of the bootstrap (default 10000); 0: no intervals")
    add("--seed", type=int, default=0)
    add("--metric", choices=("wer", "cer"), default="wer", help="what the paired tests compare")
    add("--cap", type=float, metavar="X", help="paired tests: at most X errors per reference word in an utterance")
    detail = made.add_argument_group("detail")
    add = detail.add_argument
    add("--by", metavar="COL[,COL]", help="break down by columns of REF (or by speaker, with --speakers)")
    add("--train-text", metavar="FILE", help="texts of the adaptation data: recall of rare words")
    add("--hotwords", metavar="FILE", help="words or phrases, one a line: their recall and precision")
    add("--top", type=int, default=10, help="how many confusions to show (default 10)")
    add("--run", type=int, default=5, help="insertions in a row that count as invention (default 5)")
    output = made.add_argument_group("output")
    add = output.add_argument
    add("--json", action="store_true", help="one JSON object on standard output, nothing else there")
    add("--rows", action="store_true", help="with --json: every utterance with its alignment")
    add("--html", metavar="FILE", help="write a page that opens offline")
    add("--md", metavar="FILE", help="write Markdown")
    add("--sclite", metavar="PREFIX", help="write PREFIX[.system].ref.trn, .trn, .pra and .sys as sclite does")
    add("--title", default=None, help="of the report")
    add("--quiet", action="store_true", help="no tables on the terminal")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_intermixed_args(arguments)
    try:
        if given.list:
            print(Table.of("Normalizers", ("step", "does"), [(name, step.about) for name, step in scoring.normalizers().items()], left=2))
            return 0
        if given.reference is None or not given.hypotheses:
            raise BadInput("give a file of references and at least one of hypotheses: scripts/wer.py REF HYP [HYP2 …].")
        contents = _contents(given)
        _write(given, contents)
        return 0
    except AsrpeftError as error:
        print(f"wer.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `… | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 0
    except OSError as error:
        print(
            f"wer.py: cannot write {error.filename!r}: {error.strerror}. Choose a place that can be written.",
            file=sys.stderr,
        )
        return 2


def _contents(given: argparse.Namespace) -> report.Report:
    if not given.resamples >= 0:
        raise BadInput(f"--resamples {given.resamples}: give 0 for no intervals, or a positive number.")
    if given.seed < 0:
        raise BadInput(f"--seed {given.seed}: give 0 or a positive number.")
    if given.top < 1:
        raise BadInput(f"--top {given.top}: give 1 or more.")
    reference = scoring.read_transcripts(given.reference, format=given.format, id_column=given.id_column, text_column=given.text_column)
    heard = [
        scoring.read_transcripts(path, format=given.format, role="hypothesis", id_column=given.id_column, text_column=given.hyp_column)
        for path in given.hypotheses
    ]
    if given.format is None and not given.by_order:
        reference, heard = scoring.with_ids(reference, heard)
    speakers = reference.speakers
    if given.speakers:
        speakers = scoring.read_speakers(given.speakers, reference.ids, count=len(reference))
    rule = scoring.normalizer(given.normalizer)
    scores = []
    for name, path, hypothesis in zip(_names(given), given.hypotheses, heard, strict=True):
        if not given.json and not given.quiet:
            print(f"{given.reference} ({reference.format}) against {path} ({hypothesis.format})", file=sys.stderr)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scoring.DamagingNormalizer)  # the notes of the report say it
            scores.append(
                scoring.score(
                    reference.texts,
                    scoring.match(reference, hypothesis, by_order=given.by_order),
                    normalizer=rule,
                    speakers=speakers,
                    ids=reference.ids,
                    name=name,
                    bootstrap=scoring.Bootstrap(seed=given.seed, resamples=given.resamples, level=given.level, method=given.interval),
                    counting=scoring.Counting(alignment=given.alignment, character_unit=given.character_unit),
                )
            )
    rng = {"seed": given.seed, "resamples": given.resamples}
    parts: dict[str, Any] = {"title": given.title or f"{Path(given.reference).name}: word error rates"}
    if given.by:
        parts["breakdowns"] = tuple(
            scoring.breakdown(one, values, column=column, **rng) for column, values in _columns(given.by, reference, speakers).items() for one in scores
        )
    if given.train_text:
        texts = scoring.read_transcripts(given.train_text).texts
        parts["rare_words"] = {one.name: scoring.rare_word_recall(one, texts, normalizer=rule, **rng) for one in scores}
    if given.hotwords:
        phrases = [line for line in scoring.read_transcripts(given.hotwords, format="plain").texts if line.strip()]
        parts["hot_words"] = {one.name: scoring.hotword_recall(one, phrases, normalizer=rule, **rng) for one in scores}
    tests = scoring.compare_all(scores, metric=given.metric, cap=given.cap, **rng)
    return report.make(scores, comparisons=tests, top=given.top, run=given.run, **parts)


def _names(given: argparse.Namespace) -> list[str]:
    """One name per system: as given, else the shortest ends of the paths that tell them apart."""
    paths = [Path(path) for path in given.hypotheses]
    if given.names:
        names = [name.strip() for name in given.names.split(",")]
        if len(names) != len(paths) or len(set(names)) != len(names) or "" in names:
            raise BadInput(f"--names {given.names!r} must give {len(paths)} different names, with commas between.")
        return names
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(Path(*path.parts[-depth:]).with_suffix("")) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.stem}-{place}" for place, path in enumerate(paths, 1)]


def _columns(asked: str, reference: Transcripts, speakers: Sequence[str] | None) -> dict[str, Sequence[Any]]:
    found: dict[str, Sequence[Any]] = {}
    for column in (name.strip() for name in asked.split(",")):
        if column in reference.columns:
            found[column] = reference.columns[column]
        elif column in SPEAKER_COLUMNS and speakers is not None:
            found[column] = speakers
        else:
            has = ", ".join(reference.columns) or "no columns"
            raise BadInput(f"--by {column}: {reference.path} has {has}. Give REF as a table with it, or --speakers FILE.")
    return found


def _write(given: argparse.Namespace, contents: report.Report) -> None:
    for path, render in ((given.html, report.html), (given.md, report.markdown)):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(render(contents), encoding="utf-8")
    if given.sclite:
        for one in contents.scores:
            single = len(contents.scores) == 1
            sclite.write(one, given.sclite if single else f"{given.sclite}.{one.name.replace('/', '_')}")
    if given.json:
        made = contents.to_json(rows=given.rows)
        # One system: its keys at the top, as `asrpeft evaluate` has them for each of its systems.
        print(json.dumps(plain(made["systems"][0] if len(contents.scores) == 1 else made), ensure_ascii=False, allow_nan=False))
    elif not given.quiet:
        report.show(contents)


if __name__ == "__main__":
    sys.exit(main())
