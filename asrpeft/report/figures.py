"""What every picture shares: a canvas, colors and markers, and its files.

SVG text stays text, so that any script is drawn by the reader's fonts and can be searched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0b5fa5", "#c8501e", "#3a7d34", "#7a4fa3", "#8a6d00", "#0f8a8a")  # told apart in gray and by color-blind eyes
MARKERS = "osD^vP"
FORMATS = ("svg", "png", "pdf")


def canvas(*, width: float = 6.4, height: float) -> tuple[Figure, Any]:
    """A figure of its own (in inches) and its axes, outside pyplot, so that nothing stays in memory and no window can open."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis="x", color="#ddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def diagonal(across: Sequence[float], up: Sequence[float]) -> tuple[Figure, Any]:
    """A square canvas that holds these points (in per cent), with the line on which both are the same."""
    figure, axes = canvas(width=4.6, height=4.4)
    top = 1.08 * max([*across, *up, 1.0])
    axes.plot([0, top], [0, top], color="#999", linewidth=1, zorder=0)
    axes.set(xlim=(0, top), ylim=(0, top))
    return figure, axes


def logarithmic(axes: Any) -> None:
    """Let the axis across be logarithmic, with whole numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def grid(cells: Sequence[Sequence[float | None]], *, rows: Sequence[str], columns: Sequence[str], what: str) -> Figure:
    """Numbers as a map, each written into its cell, the darker the larger; empty where there is none. `what`: what they are."""
    known = [value for row in cells for value in row if value is not None]
    top = max([*known, 0.0]) or 1.0
    figure, axes = canvas(width=2.2 + 0.62 * len(columns), height=1.5 + 0.28 * len(rows))
    axes.imshow([[0.0 if v is None else v for v in row] for row in cells], cmap="Blues", vmin=0.0, vmax=1.25 * top, aspect="auto")
    for y, row in enumerate(cells):
        for x, value in enumerate(row):
            if value is not None:
                axes.text(x, y, f"{value:.3g}", ha="center", va="center", fontsize=8, color="white" if value > 0.75 * top else "black")
    axes.grid(False)
    name_rows(axes, rows)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_title(what, fontsize=9, loc="left")
    return figure


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Names on the upright axis, one a row, long ones cut."""
    axes.set_yticks(range(len(names)), [name if len(name) <= 28 else name[:27] + "…" for name in names])


def svg(figure: Figure) -> str:
    """The figure as an <svg> element for a page; the same figure gives the same bytes."""
    text = encoded(figure, "svg").decode()
    return text[text.index("<svg") :]


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG file."""
    return encoded(figure, "png", dpi=dpi)


def encoded(figure: Figure, kind: str, *, dpi: int = 150) -> bytes:
    """The figure as a file of a kind among `FORMATS`, the same bytes each time."""
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "asrpeft"}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
