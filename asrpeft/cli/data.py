"""`asrpeft data check|stats|split`: what a corpus holds, what is wrong with it, and a division into train and held-out parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asrpeft.cli import options as o
from asrpeft.cli.output import console, count, duration, print_json, table, teller

Corpus = Annotated[str, typer.Argument(help="The corpus: as --data of the other verbs.")]


def add_to(app: typer.Typer) -> None:
    verbs = typer.Typer(help="Look at a corpus: check every file, count, divide.", no_args_is_help=True)
    verbs.command("check")(check)
    verbs.command("stats")(stats)
    verbs.command("split")(split)
    app.add_typer(verbs, name="data")


def check(data: Corpus, columns: o.Columns = None, strict: o.Strict = False, json: o.Json = False, quiet: o.Quiet = False) -> None:
    """Decode every recording and list what cannot be used, with the reason.

    --json: {"corpus", "usable", "skipped": [{"id", "reason"}], and the keys of `stats`}. Exit status 1 if anything is unusable.
    """
    from asrpeft.cli.progress import bar

    say = teller(quiet=quiet, as_json=json)
    with bar("checking", quiet=quiet) as advance:
        corpus = o.read_corpus(data, columns=columns, strict=strict).checked(strict=strict, progress=advance)
    if json:
        print_json({"corpus": corpus.name, "usable": len(corpus), "skipped": [asdict(s) for s in corpus.skipped], **asdict(corpus.stats())})
    else:
        for skipped in corpus.skipped:
            say(f"  {skipped.id}: {skipped.reason}")
        say(f"{count(len(corpus))} utterances can be used, {count(len(corpus.skipped))} cannot.")
    if corpus.skipped:
        raise typer.Exit(1)


def stats(data: Corpus, columns: o.Columns = None, by: Annotated[str | None, typer.Option("--by", help="Count by this column too.")] = None,
          json: o.Json = False, quiet: o.Quiet = False) -> None:  # fmt: skip
    """Count utterances, hours, speakers, words and word types."""
    corpus = o.read_corpus(data, columns=columns)
    found = asdict(corpus.stats())
    groups = Counter(str(u.column(by)) for u in corpus) if by else {}
    if json:
        print_json({"corpus": corpus.name, **found, **({"by": {by: dict(groups)}} if by else {})})
        return
    rows = [(key.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else count(value)) for key, value in found.items()]
    console().print(table(f"{corpus.name}: {duration(found['hours'] * 3600)}", ["what", "how much"], rows))
    if groups:
        console().print(table(f"by {by}", [by or "", "utterances"], [(k, count(n)) for k, n in groups.most_common()]))


def split(
    data: Corpus,
    out: Annotated[Path, typer.Option("--out", help="A folder for train.jsonl and held.jsonl, which name the utterances' audio.")],
    fraction: Annotated[float, typer.Option("--fraction", help="How much to hold out.")] = 0.1,
    by: Annotated[str, typer.Option("--by", help="speaker, sentence, or auto: speakers where there are enough of them.")] = "auto",
    columns: o.Columns = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Divide a corpus into two manifests with no speaker (or no sentence) on both sides."""
    from asrpeft.corpus.manifest import write_manifest

    train, held = o.read_corpus(data, columns=columns).split_by_speaker(fraction, seed, by=by)
    written = [write_manifest(part, out / f"{name}.jsonl") for part, name in ((train, "train"), (held, "held"))]
    if json:
        print_json({name: {"manifest": str(path), "utterances": len(part), "speakers": len(part.speakers)}
                    for name, part, path in (("train", train, written[0]), ("held", held, written[1]))})  # fmt: skip
    else:
        say = teller(quiet=quiet, as_json=False)
        say(f"{written[0]}: {count(len(train))} utterances, {len(train.speakers)} speakers")
        say(f"{written[1]}: {count(len(held))} utterances, {len(held.speakers)} speakers")
