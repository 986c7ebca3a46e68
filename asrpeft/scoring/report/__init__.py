"""Reports: one set of contents, laid out for a terminal, as Markdown, as JSON, as one offline HTML page, for sclite.

from asrpeft.scoring import report
contents = report.make([base, tuned], title="Mboshi")
report.show(contents)
Path("report.html").write_text(report.html(contents, audio={"utt1": wav_bytes}))
Path("report.md").write_text(report.markdown(contents))
contents.to_json()
"""

from asrpeft.scoring.report.card import markdown
from asrpeft.scoring.report.contents import Amount, Condition, Report, make
from asrpeft.scoring.report.page import html, listed, playable
from asrpeft.scoring.report.terminal import render, show

__all__ = ["Amount", "Condition", "Report", "html", "listed", "make", "markdown", "playable", "render", "show"]
