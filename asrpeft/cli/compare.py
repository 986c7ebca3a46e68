"""`asrpeft compare`: the methods against each other on one corpus, or one method on growing parts of it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrpeft import destination
from asrpeft.cli import command
from asrpeft.cli import options as o
from asrpeft.cli.finetune import Accumulate, Augment, BatchSeconds, Epochs, HeadLr, Loss, Lr, Minutes, Precision, Schedule, Steps, TrainContext, Where
from asrpeft.cli.output import console, count, duration, interval, per_cent, print_json, size, table, tell, teller
from asrpeft.errors import BadInput

_NOTHING: dict[str, Any] = {}

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asrpeft.jobs.amounts import Curve
    from asrpeft.jobs.compare import MethodComparison
    from asrpeft.scoring import Comparison


def add_to(app: typer.Typer) -> None:
    app.command("compare")(compare)


def compare(
    data: o.TrainingData,
    eval_data: Annotated[list[str], typer.Option("--eval-data", help="What the methods are scored on; give the option again for more corpora.")],
    amounts: Annotated[
        str | None,
        typer.Option(
            "--amounts", help="WER against the amount of data instead: one method (--methods NAME) trained on these fractions of it, such as 0.1,0.3,1."
        ),
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="Names separated by commas, or all.")] = "all",
    dev_data: o.DevData = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="METHOD.NAME=VALUE", help="Settings of single methods: --set lora.rank=16 s2lora.rank=32.")
    ] = None,
    model: o.Model = None,
    lang: o.Lang = None,
    where: Where = None,
    loss: Loss = "ce",
    lr: Lr = None,
    head_lr: HeadLr = None,
    epochs: Epochs = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch_seconds: BatchSeconds = 60.0,
    accumulate: Accumulate = 1,
    schedule: Schedule = "cosine",
    precision: Precision = "auto",
    augment: Augment = "standard",
    context: TrainContext = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for the adapters, the table (compare.csv, compare.json) and the plot, kept after every method.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the comparison in --out: what is done there is neither trained nor decoded again, an interrupted run goes on from its checkpoint.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again and replace what is in --out.")] = False,
    columns: o.Columns = None,
    beams: o.Beams = None,
    ctc_weight: o.CtcWeight = 0.0,
    allow_overlap: o.AllowOverlap = False,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    threads: o.Threads = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fine-tune with several methods, all else equal: WER against trained parameters, time and memory.

    --json: {"base": {…}, "methods": [{"method", "trained_parameters", "seconds", "utterances_per_second", "score": {…},
    "test": {…}, "merged_equal"}], "failed": {…}}; with --amounts {"base": {…}, "amounts": [{"fraction", "utterances",
    "minutes", "score": {…}, "test": {…}}]}. --out also gets compare.json (this object), compare.csv (its table) and compare.svg;
    with --amounts curve.json, curve.csv and curve.html. All are written anew after every method or amount.
    """
    if out is not None:
        destination.check(out)
    from asrpeft.cli.training_progress import reporting
    from asrpeft.jobs import compare as job
    from asrpeft.jobs.amounts import amounts as grow
    from asrpeft.jobs.provenance import run_of
    from asrpeft.methods import names
    from asrpeft.training import TrainingOptions

    say = teller(quiet=quiet, as_json=json)
    given = TrainingOptions(epochs=epochs, steps=steps, minutes=minutes, lr=lr, head_lr=head_lr, loss=loss, batch_seconds=batch_seconds, accumulate=accumulate, schedule=schedule,
                            precision=precision, augment=augment, context=context, seed=seed)  # fmt: skip
    wanted = names() if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    if amounts is not None and len(wanted) != 1:
        raise BadInput(f"--amounts compares amounts of data for one method; name it, for instance --methods lora (got {methods}).")
    own: dict[str, dict[str, str]] = {}
    for key, value in o.pairs("--set", settings).items():
        name, dot, setting = key.partition(".")
        if not dot or name not in wanted:
            raise BadInput(f"--set {key}={value}: write METHOD.NAME=VALUE with a method that is compared ({', '.join(wanted)}).")
        own.setdefault(name, {})[setting] = value
    corpora = [None if not d else o.read_corpus(d, columns=columns, weights=d is data, quiet=quiet) for d in (data, eval_data, dev_data)]
    recognizer = o.load_model(model, device=device, dtype=dtype, threads=threads, say=say)
    made_by = run_of(recognizer, {}, command=command.line())
    if amounts is not None:
        with reporting(quiet=quiet, say=say) as progress:
            grown = grow(recognizer, corpora[0], corpora[1], fractions=fractions(amounts), method=wanted[0], options=given, where=where,
                         settings=own.get(wanted[0]), lang=lang, dev=corpora[2], out=out, resume=resume, overwrite=overwrite,
                         decoding=o.search(beams, ctc_weight), overlap="tell" if allow_overlap else "refuse", progress=progress,
                         done=None if out is None else lambda found: keep_curve(found, out, say, made_by))  # fmt: skip
        show_curve(grown, out, as_json=json, say=say)
        return
    with reporting(quiet=quiet, say=say) as progress:
        found = job.compare(recognizer, corpora[0], corpora[1], methods=wanted, options=given, where=where, settings=own, lang=lang, dev=corpora[2], out=out,
                        resume=resume, overwrite=overwrite, decoding=o.search(beams, ctc_weight), overlap="tell" if allow_overlap else "refuse",
                        progress=progress, done=None if out is None else lambda found: keep(found, out, say, made_by))  # fmt: skip
    if out is not None:
        say(f"Table and plot: {out / 'compare.csv'}, {out / 'compare.json'}, {out / 'compare.svg'}")
    if json:
        print_json(found.to_json())
        return
    base = found.base.score
    rows = [("base", "0", "", per_cent(base.wer), interval((base.wer_interval.low, base.wer_interval.high)), per_cent(base.cer), "", "", "", "", "")]
    for entry in found.entries:
        score, run = entry.system.score, entry.trained
        rows.append((
            run.method, count(run.trained_parameters), per_cent(run.trained_parameters / run.total_parameters, 2), per_cent(score.wer),
            interval((score.wer_interval.low, score.wer_interval.high)), per_cent(score.cer), entry.test.verdict, judged(entry.test), duration(entry.seconds),
            size(run.training.peak_memory_bytes), {True: "equal", False: "differs", None: "–"}[entry.merged_equal],
        ))  # fmt: skip
    title = f"{count(found.base.score.counts.words)} words; intervals over {base.interval_unit}s; verdicts by paired tests against the base"
    console().print(table(title, ["method", "trained", "share", "WER", "95 % interval", "CER", "verdict", "p", "time", "peak memory", "merged"], rows))
    tell_notes(found, [entry.test for entry in found.entries])
    for name, reason in found.failed.items():
        say(f"{name} did not run: {reason}")


def fractions(text: str) -> list[float]:
    """Raises: BadInput for what is no number."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"--amounts takes fractions of the training data between commas, such as 0.1,0.5,1; got {text!r}.") from None


def show_curve(found: Curve, out: Path | None, *, as_json: bool, say: Callable[[str], None]) -> None:
    """The table, or the JSON object."""
    if out is not None:
        say(f"Report and table: {out / 'curve.html'}, {out / 'curve.csv'}, {out / 'curve.json'}")
    if as_json:
        print_json(found.to_json())
        return
    base = found.base.score
    rows = [("base", "0", "", per_cent(base.wer), interval((base.wer_interval.low, base.wer_interval.high)), per_cent(base.cer), "", "")]
    for point in found.points:
        score = point.system.score
        rows.append((f"{point.fraction:g}", f"{point.minutes:.1f}", count(point.utterances), per_cent(score.wer),
                     interval((score.wer_interval.low, score.wer_interval.high)), per_cent(score.cer), point.test.verdict, judged(point.test)))  # fmt: skip
    title = (
        f"{found.points[0].trained.method}: {count(base.counts.words)} words; intervals over {base.interval_unit}s; verdicts by paired tests against the base"
    )
    console().print(table(title, ["part", "minutes", "utterances", "WER", "95 % interval", "CER", "verdict", "p"], rows))
    tell_notes(found, [point.test for point in found.points])


def keep(found: MethodComparison, out: Path, say: Callable[[str], None], run: Mapping[str, Any] = _NOTHING) -> None:
    """compare.csv, compare.json and compare.svg of what is done so far. That they cannot be written ends nothing: more is to come."""
    try:
        _keep(out / "compare", found.rows(), found.to_json() | {"run": dict(run)})
        draw(found, out / "compare.svg")
    except OSError as error:
        say(f"The table of what is done so far could not be kept: {error}")


def keep_curve(found: Curve, out: Path, say: Callable[[str], None], run: Mapping[str, Any] = _NOTHING) -> None:
    """curve.csv, curve.json, and curve.html with everything about every amount so far; as `keep`."""
    try:
        _keep(out / "curve", found.rows(), found.to_json() | {"run": dict(run)})
        _page(found, out / "curve.html", run)
    except OSError as error:
        say(f"The table of what is done so far could not be kept: {error}")


def _page(found: Curve, path: Path, run: Mapping[str, Any]) -> None:
    from asrpeft.files import replace_file
    from asrpeft.scoring import report as layouts

    scores = [found.base.score, *(point.system.score for point in found.points)]
    made = layouts.make(scores, comparisons=[point.test for point in found.points], title="Amounts of adaptation data", curve=found.amounts,
                        amount_unit="minutes", made_by=run)  # fmt: skip
    replace_file(path, layouts.html(made))


def _keep(path: Path, rows: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    from json import dumps

    from asrpeft.files import replace_file
    from asrpeft.scoring.report.values import as_csv

    replace_file(path.with_suffix(".csv"), as_csv(rows))
    replace_file(path.with_suffix(".json"), dumps(whole, ensure_ascii=False, indent=1) + "\n")


def judged(test: Comparison) -> str:
    """The p that the verdict follows: of several comparisons, after Holm."""
    from asrpeft.scoring.wording import p_value

    return p_value(test.p if test.p_adjusted is None else test.p_adjusted)


def tell_notes(found: MethodComparison | Curve, tests: list[Comparison]) -> None:
    """What a reader of the table needs: of the data, of the base's score and of the tests, each once."""
    if len(tests) > 1:
        tell("The p are Holm's: each is what it would be alone, made larger for the others beside it.")
    for note in dict.fromkeys((*found.notes, *found.base.score.notes, *(note for test in tests for note in test.notes))):
        tell(f"Note: {note}")


def draw(found: MethodComparison, path: Path) -> Path:
    """WER against trained parameters, with intervals; the base as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from asrpeft.files import replace_file

    figure, axes = plt.subplots(figsize=(7, 4.2))
    axes.axhline(100 * found.base.score.wer, color="#888", linestyle="--", linewidth=1, label="base")
    for entry in found.entries:
        score, x = entry.system.score, max(1, entry.trained.trained_parameters)
        low, high = score.wer_interval.low, score.wer_interval.high
        axes.errorbar(x, 100 * score.wer, yerr=[[100 * (score.wer - low)], [100 * (high - score.wer)]], fmt="o", color="#1f5fa8", capsize=3)
        axes.annotate(entry.trained.method, (x, 100 * score.wer), textcoords="offset points", xytext=(6, 5))
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trained parameters")
    axes.set_ylabel("WER, % (95 % interval)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", bbox_inches="tight")
    plt.close(figure)
    return replace_file(path, drawn.getvalue())
