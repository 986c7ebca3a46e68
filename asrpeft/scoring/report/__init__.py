"""Reports of scores: one set of contents, laid out for a terminal, as Markdown, as JSON, as one offline HTML page, for sclite.

from asrpeft.scoring import report
contents = report.make([base, tuned], title="Mboshi")
print(contents)
contents.save("report.html"), contents.save("report.md"), contents.plot("wer.svg")
Path("heard.html").write_text(report.html(contents, audio={"utt1": wav_bytes}))  # with players
contents.to_json()
"""

from asrpeft.scoring.report.contents import Amount, Condition, Report, html, make, markdown, show
from asrpeft.scoring.report.page import listed, playable

__all__ = ["Amount", "Condition", "Report", "html", "listed", "make", "markdown", "playable", "show"]
