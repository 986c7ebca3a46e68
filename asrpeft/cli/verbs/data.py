"""`asrpeft data check|stats|split|filter|cache`: what a corpus holds and what is wrong with it, its division, a part of it; what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrpeft.cli.flags import Given, Uses
from asrpeft.cli.options import Printing, Reading, open_corpus, read_corpus
from asrpeft.cli.output import print_json, show, teller
from asrpeft.cli.verb import LOOK, kind, verb
from asrpeft.options.training import SEED
from asrpeft.report.table import Table
from asrpeft.report.words import count, size

Corpora = Annotated[list[str], typer.Argument(help="The corpus, or several: as --data of the other verbs.")]
LISTENED = 200  # recordings that a speech detector hears, spread over the corpus


kind("data", "Look at a corpus: check every file, count, divide; see to the cache of decoded audio.", panel=LOOK)
READ = Uses(without=("strict",))


@verb("data check")
def check(data: Corpora, reading: Given[Reading], printing: Given[Printing]) -> None:
    """Decode every recording and list what cannot be used, with the reason; then tell what is doubtful in the rest.

    Doubtful are: ids and recordings that repeat, one recording with two texts, silence (and, of some 200 rows, recordings in
    which a detector hears no speech), clipping; texts in another script than most, with two scripts in a word, with lost
    letters or with marks such as [noise], without a letter, far too long or too short for their audio; rows without a speaker
    or language where others have one. None of that is an error.

    --json: {"corpus", "usable", "skipped": [{"id", "reason"}], "doubtful": [{"kind", "message", "rows", "examples": [{"id",
    "detail"}]}], "listened_to"} and the other keys of `stats`. Exit status 1 if anything is unusable.
    """
    from asrpeft.cli.progress import bar
    from asrpeft.jobs.corpora import check as run

    shown, how = printing(), reading()
    rows = open_corpus(data, columns=how.columns, strict=how.strict)
    with bar("checking", quiet=shown.quiet) as advance:
        found = run(rows, strict=how.strict, progress=advance)
    if shown.json:
        print_json(found.to_json())
    elif not shown.quiet:
        show(found)
    if not found.usable:
        raise typer.Exit(1)


@verb("data stats")
def stats(
    data: Corpora,
    reading: Annotated[Given[Reading], READ],
    printing: Given[Printing],
    by: Annotated[str | None, typer.Option("--by", help="Count by this column too.")] = None,
) -> None:
    """Count utterances, hours, speakers, words and word types, row by row: a corpus of any size takes little memory."""
    from asrpeft.cli.progress import bar
    from asrpeft.jobs.corpora import stats as run

    shown = printing()
    rows = open_corpus(data, columns=reading().columns)
    with bar("reading", quiet=shown.quiet) as advance:
        found = run(rows, by=by, progress=advance)
    print_json(found.to_json()) if shown.json else show(found)


@verb("data split")
def split(
    data: Corpora,
    out: Annotated[Path, typer.Option("--out", help="A folder for train.jsonl and held.jsonl, which name the utterances' audio.")],
    reading: Annotated[Given[Reading], READ],
    printing: Given[Printing],
    fraction: Annotated[float, typer.Option("--fraction", help="How much to hold out.")] = 0.1,
    by: Annotated[str, typer.Option("--by", help="speaker, sentence, or auto: speakers where there are enough of them.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace train.jsonl and held.jsonl, and the recordings stored with them.")] = False,
    seed: Annotated[int, typer.Option("--seed", help=SEED.help)] = 0,
) -> None:
    """Divide a corpus into two manifests with no speaker (or no sentence) on both sides.

    Of rows whose texts a model wrote (column labeled_by) none is held out: they are no references.
    """
    from asrpeft.corpus.labels import held_out
    from asrpeft.corpus.manifest import write_manifests

    shown = printing()
    train, held = held_out(read_corpus(data, columns=reading().columns, quiet=shown.quiet), fraction, seed, by=by)
    written = write_manifests({out / "train.jsonl": train, out / "held.jsonl": held}, overwrite=overwrite)
    if shown.json:
        print_json(
            {
                name: {"manifest": str(path), "utterances": len(part), "speakers": len(part.speakers)}
                for name, part, path in (("train", train, written[0]), ("held", held, written[1]))
            }
        )
    else:
        say = teller(quiet=shown.quiet, as_json=False)
        say(f"{written[0]}: {count(len(train))} utterances, {len(train.speakers)} speakers")
        say(f"{written[1]}: {count(len(held))} utterances, {len(held.speakers)} speakers")


@verb("data filter")
def filter_rows(
    data: Corpora,
    out: Annotated[Path, typer.Option("--out", help="The manifest to write, NAME.jsonl, which names the utterances' audio.")],
    keep: Annotated[list[str], typer.Option("--keep", metavar="CONDITION", help="age<=15, lang=sw,so or speaker!=s7. Give the option again: all must hold.")],
    reading: Annotated[Given[Reading], READ],
    printing: Given[Printing],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the manifest, and the recordings stored with it.")] = False,
) -> None:
    """Write the rows that fulfill every condition on their columns as a manifest: one age, one region, all but some speakers.

    A condition is a column, one of < <= > >= with a number, or = or != with one value or several between commas. A row without the
    column is left out. Columns are those of the corpus, and duration in seconds.

    --json: {"manifest", "utterances", "of", "speakers"}.
    """
    from asrpeft.corpus.manifest import write_manifests
    from asrpeft.corpus.selection import Condition
    from asrpeft.corpus.selection import keep as kept_of

    shown, conditions = printing(), [Condition.parse(text) for text in keep]
    whole = read_corpus(data, columns=reading().columns, quiet=shown.quiet)
    kept = kept_of(whole, conditions)
    path = write_manifests({out: kept}, overwrite=overwrite)[0]
    if shown.json:
        print_json({"manifest": str(path), "utterances": len(kept), "of": len(whole), "speakers": len(kept.speakers)})
    else:
        teller(quiet=shown.quiet, as_json=False)(f"{path}: {count(len(kept))} of {count(len(whole))} utterances, {len(kept.speakers)} speakers")


@verb("data cache")
def cache(
    printing: Annotated[Given[Printing], Uses(without=("quiet",))],
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that is kept.")] = False,
    shrink: Annotated[float | None, typer.Option("--shrink", metavar="GB", help="Remove what was used least recently, until at most so much is kept.")] = None,
    folder: Annotated[
        str | None, typer.Option("--cache", metavar="DIR", help="The cache to look at. Default: ASRPEFT_CACHE, else the one in your cache folder.")
    ] = None,
) -> None:
    """Say what is kept of decoded audio and of frozen encoders' states, and where; remove it.

    Training, evaluation and transcription of corpora keep there what is slow to make, and find it again; results are the same to the
    bit. Runs and processes share it. At most ASRPEFT_CACHE_GB gigabytes are kept (20 unless set), of which those go first that were
    used least recently; ASRPEFT_CACHE names another folder, or `off`.

    --json: {"folder", "limit_bytes", "bytes", "kinds": {KIND: {"files", "bytes"}}, "removed_bytes"}; folder null where it is off.
    """
    from asrpeft import cache as kept
    from asrpeft.errors import BadInput

    as_json = printing().json
    if clear and shrink is not None:
        raise BadInput("--clear removes everything, --shrink a part. Keep one.")
    if folder is not None:
        kept.use(folder)
    held = kept.current()
    if held is None:
        if as_json:
            print_json({"folder": None, "limit_bytes": 0, "bytes": 0, "kinds": {}, "removed_bytes": 0})
        else:
            teller(quiet=False, as_json=False)(f"The cache is off ({kept.FOLDER} or {kept.SIZE} says so): nothing is kept.")
        return
    before = held.usage().total
    if clear:
        held.clear()
    if shrink is not None:
        held.shrink_to(shrink)
    found = held.usage()
    kinds = {kind: {"files": found.files[kind], "bytes": found.bytes[kind]} for kind in sorted(found.files)}
    if as_json:
        print_json({"folder": str(found.folder), "limit_bytes": found.limit, "bytes": found.total, "kinds": kinds, "removed_bytes": before - found.total})
        return
    rows = [(kind, count(own["files"]), size(own["bytes"])) for kind, own in kinds.items()]
    show(Table.of(f"{found.folder}: {size(found.total)} of at most {size(found.limit)}", ("what", "files", "size"), rows))
    if clear or shrink is not None:
        teller(quiet=False, as_json=False)(f"{size(before - found.total)} were removed.")
