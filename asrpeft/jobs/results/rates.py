"""What `find_rate` returns: the loss at every rate, and which rate to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asrpeft.report import Document, Finding, Picture, Result, Table
from asrpeft.report.values import Row
from asrpeft.training.rate_range import RateRange

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FoundRate(Result):
    """The method's own rate on this base is `default`; `test`: what was found."""

    method: str
    default: float
    test: RateRange

    def to_json(self) -> dict[str, Any]:
        """What `asrpeft find-rate --json` prints."""
        return {"method": self.method, "default": self.default, "suggested": self.test.suggested, "highest": self.test.highest, "steps": self.rows()}

    def rows(self) -> list[Row]:
        """One row a step."""
        smooth = [*self.test.smooth, *[None] * (len(self.test.rates) - len(self.test.smooth))]
        return [{"rate": rate, "loss": loss, "mean": mean} for rate, loss, mean in zip(self.test.rates, self.test.losses, smooth)]

    def document(self) -> Document:
        test = self.test
        every = max(1, len(test.smooth) // 12)
        shown = [(f"{rate:.1e}", f"{loss:.3f}", f"{mean:.3f}") for rate, loss, mean in list(zip(test.rates, test.losses, test.smooth))[::every]]
        if test.suggested is None:
            told = f"The loss fell at no rate up to {test.highest:.1g}: there is no rate to suggest. {self.method}'s own is {self.default:g}."
        else:
            told = (
                f"Begin with --lr {test.suggested:.1g}, where the loss fell fastest; above {test.highest:.1g} it rose. "
                f"{self.method}'s own rate on this base is {self.default:g}."
            )
        table = Table.of("Loss while the rate rises", ("rate", "loss", "mean"), shown)
        return Document(f"The learning rate of {self.method}", (table,), (Finding(told),), pictures=(Picture("rates", "Loss by rate", self._draw),))

    def _draw(self) -> Figure:
        from asrpeft.report.figures import canvas

        figure, axes = canvas(height=3.6)
        test, n = self.test, len(self.test.smooth)
        axes.semilogx(test.rates[:n], test.losses[:n], color="0.75", label="each step")
        axes.semilogx(test.rates[:n], test.smooth, color="C0", label="mean")
        for rate, text, color in ((test.suggested, "suggested", "C2"), (self.default, "the method's own", "C1")):
            if rate is not None:
                axes.axvline(rate, color=color, linestyle="--", label=f"{text}: {rate:.1g}")
        axes.set_xlabel("learning rate"), axes.set_ylabel("loss"), axes.legend(frameon=False)
        return figure
