"""What every job returns: data that can show and save itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from asrpeft.errors import BadInput
from asrpeft.report.document import Document, Picture
from asrpeft.report.values import Row, as_csv, as_json


class Result(ABC):
    """A frozen result. It says what it holds (`to_json`, `rows`, `document`); how that looks is the same for all of them.

    `print(result)` shows it as the command line does, and a notebook as tables.
    """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What the command line prints with --json: dictionaries, lists, texts and numbers."""

    @abstractmethod
    def document(self) -> Document:
        """What is shown of it."""

    def rows(self) -> list[Row]:
        """Its table for a spreadsheet, one dictionary a row, rates as fractions; none where it has no table."""
        return []

    def text(self, *, width: int | None = None) -> str:
        """As a terminal of `width` columns shows it; default: as wide as it needs."""
        from asrpeft.report.layouts import text

        return text(self.document(), width=width)

    def __str__(self) -> str:
        return self.text()

    def markdown(self) -> str:
        """For a model card, an issue or a notebook."""
        from asrpeft.report.layouts import markdown

        return markdown(self.document())

    def html(self) -> str:
        """One page that opens offline."""
        from asrpeft.report.page import html

        return html(self.document())

    def _repr_html_(self) -> str:
        from asrpeft.report.page import fragment

        return fragment(self.document())

    def pictures(self) -> list[str]:
        """What `plot` can draw, by name."""
        return [one.name for one in self.document().pictures]

    def plot(self, path: str | Path, picture: str | None = None) -> Path:
        """Draw a picture into a file, by its ending .svg, .png or .pdf. Default: the first of `pictures`.

        Raises: BadInput where there is nothing to draw, no such picture, or another ending.
        """
        from asrpeft.files import replace_file
        from asrpeft.report.figures import FORMATS, encoded

        kind = Path(path).suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            raise BadInput(f"A picture is saved as {_or([f'.{one}' for one in FORMATS])}, by the ending of its name; got {str(path)!r}.")
        return replace_file(Path(path), encoded(self._picture(picture).draw(), kind))

    def _picture(self, name: str | None) -> Picture:
        there = self.document().pictures
        if not there:
            raise BadInput(f"A {type(self).__name__} has nothing to draw; its table can be saved as .csv, .md or .html.")
        for one in there:
            if name in (None, one.name):
                return one
        raise BadInput(f"There is no picture {name!r}; there are {', '.join(one.name for one in there)}.")

    def save(self, path: str | Path) -> Path:
        """Write it into a file, by its ending: .html, .md, .txt, .json (`to_json`), .csv (`rows`), or a picture as `plot`.

        What is there is replaced as a whole.
        Raises: BadInput for another ending, or a table or picture that it does not have; OSError where it cannot be written.
        """
        from asrpeft.files import replace_file

        path = Path(path)
        if path.suffix == ".csv" and not self.rows():
            raise BadInput(f"A {type(self).__name__} has no table for a spreadsheet; save it as .json, .md or .html.")
        made = {
            ".html": self.html,
            ".md": self.markdown,
            ".txt": lambda: self.text() + "\n",
            ".json": lambda: as_json(self.to_json()),
            ".csv": lambda: as_csv(self.rows()),
        }
        if path.suffix in made:
            return replace_file(path, made[path.suffix]())
        if path.suffix in (".svg", ".png", ".pdf"):
            return self.plot(path)
        raise BadInput(f"{str(path)!r} does not say what to save by its ending; there are {_or([*made, '.svg', '.png', '.pdf'])}.")


def _or(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
