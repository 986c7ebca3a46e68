"""How results look: tables, findings, notes and pictures, laid out for a terminal, as Markdown, as one offline HTML page.

    print(result)                    # or result.text(width=80)
    result.save("compare.html")      # .html, .md, .txt, .json, .csv; .svg, .png and .pdf are its picture
    result.plot("wer.svg")

Nothing here knows any result, and nothing here imports the rest of the package: a result (`Result`) says what it holds as a
`Document` of tables, findings, notes and pictures, and is laid out here. So a table looks alike wherever it is printed, and
whoever adds a job writes down what it found and not how that looks.
"""

from asrpeft.report.document import Document, Finding, Picture
from asrpeft.report.result import Result
from asrpeft.report.table import Table

__all__ = ["Document", "Finding", "Picture", "Result", "Table"]
